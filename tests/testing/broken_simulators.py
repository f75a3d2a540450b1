"""Simulators that break one promise each; workers import this module by its name."""

import random
import time

import numpy as np
import torch

from mlpop.errors import SimulationFailed
from mlpop.simulators import Simulation

LOW, HIGH = (0.0, 0.0), (1.0, 1.0)
FAILING = (0.5, -1.0)


class Good:
    """Keeps every promise; the others change one thing."""

    labels = ("a", "b")
    channels = ("u", "v", "w")

    def __call__(self, theta, seed):
        theta = np.array(theta, dtype=float)
        if theta[1] < 0:
            raise SimulationFailed("b is below\nzero")
        return Simulation(self.noisy(theta, seed), {"sum": theta.sum(), "list": np.arange(2)})

    def noisy(self, theta, seed):
        signal = np.array([theta[0], theta[1], theta.sum()])
        return (signal + np.random.default_rng(seed).standard_normal(3)).astype(np.float32)


class Maps(Good):
    """The same with maps of different shapes."""

    def noisy(self, theta, seed):
        rng = np.random.default_rng(seed)
        shapes = {"u": (4, 3), "v": (2, 2), "w": (5,)}
        return {name: theta[0] + rng.standard_normal(shape) for name, shape in shapes.items()}


class Silent(Good):
    """The same without noise."""

    def noisy(self, theta, seed):
        return np.array([theta[0], theta[1], theta.sum()])


class LabelsAreAList(Good):
    labels = ["a", "b"]


class LabelTwice(Good):
    labels = ("a", "a")


class ChannelIsAPath(Good):
    channels = ("u", "v", "maps/w")


class LabelTooMany(Good):
    labels = ("a", "b", "c")


class BareArray(Good):
    def __call__(self, theta, seed):
        return super().__call__(theta, seed).x


class ChannelMissing(Good):
    def noisy(self, theta, seed):
        return super().noisy(theta, seed)[:2]


class ChannelMissingInMapping(Maps):
    def noisy(self, theta, seed):
        x = super().noisy(theta, seed)
        del x["v"]
        return x


class ShapeVaries(Good):
    def noisy(self, theta, seed):
        x = super().noisy(theta, seed)
        return np.stack([x] * (1 + int(np.random.default_rng(seed).integers(1000))), axis=1)


class DtypeVaries(Good):
    def noisy(self, theta, seed):
        x = super().noisy(theta, seed)
        return x if np.random.default_rng(seed).random() < 0.5 else x.astype(float)


class Complex(Good):
    def noisy(self, theta, seed):
        return super().noisy(theta, seed) + 1j


class NotFinite(Good):
    def noisy(self, theta, seed):
        return super().noisy(theta, seed) * np.array([1, 1, np.nan])


class TooLargeForFloat32(Good):
    def noisy(self, theta, seed):
        return super().noisy(theta, seed).astype(float) * 1e39


class InfoIsNoJson(Good):
    def __call__(self, theta, seed):
        return Simulation(super().__call__(theta, seed).x, {"generator": object()})


class UnseededNoise(Good):
    def noisy(self, theta, seed):
        return super().noisy(theta, seed) + np.random.default_rng().standard_normal(3)


class Clock(Good):
    def noisy(self, theta, seed):
        return super().noisy(theta, seed).astype(float) + time.perf_counter()


class OneGeneratorForAll(Good):
    """Its noise depends on how often it was called before."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def noisy(self, theta, seed):
        return super().noisy(theta, seed) + self.rng.standard_normal(3)


class SeedIgnored(Good):
    def noisy(self, theta, seed):
        return super().noisy(theta, 5)


class ThetaIgnored(Good):
    def noisy(self, theta, seed):
        return super().noisy(np.zeros(2), seed)


class ThetaChanged(Good):
    def __call__(self, theta, seed):
        result = super().__call__(theta, seed)
        theta *= 0.5
        return result


class BufferUsedAgain(Good):
    def __init__(self):
        self.buffer = np.zeros(3)

    def noisy(self, theta, seed):
        self.buffer[:] = super().noisy(theta, seed)
        return self.buffer


class GlobalNumpy(Good):
    """Right by its seed, but it reseeds everybody's generator."""

    def noisy(self, theta, seed):
        np.random.seed(seed.generate_state(1)[0])  # noqa: NPY002
        return theta.sum() + np.random.standard_normal(3)  # noqa: NPY002


class GlobalTorch(Good):
    def noisy(self, theta, seed):
        torch.manual_seed(int(seed.generate_state(1)[0]))
        return theta.sum() + torch.randn(3).numpy()


class GlobalRandom(Good):
    def noisy(self, theta, seed):
        state = random.getstate()
        random.seed(int(seed.generate_state(1)[0]))
        x = theta.sum() + np.array([random.gauss(0, 1) for _ in range(3)])
        random.setstate(state)
        random.random()
        return x


class GlobalStateRead(Good):
    """Leaves no trace, but what it gives depends on what others drew before."""

    def noisy(self, theta, seed):
        return super().noisy(theta, seed) + np.random.get_state()[1][0]  # noqa: NPY002


class FailureIsNoSimulationFailed(Good):
    def __call__(self, theta, seed):
        try:
            return super().__call__(theta, seed)
        except SimulationFailed:
            raise ZeroDivisionError("division by zero") from None


class FailureIsAnObservation(Good):
    def __call__(self, theta, seed):
        return super().__call__(np.abs(theta), seed)


class FailureWithoutReason(Good):
    def __call__(self, theta, seed):
        try:
            return super().__call__(theta, seed)
        except SimulationFailed:
            raise SimulationFailed from None


class RaisesInsideThePrior(Good):
    def __call__(self, theta, seed):
        raise KeyError("table")


class FailsEverywhere(Good):
    def __call__(self, theta, seed):
        raise SimulationFailed("never")


class DoesNotPickle(Good):
    def __reduce__(self):
        raise TypeError("an open file")


class ForgetsWhenPickled(Good):
    """A setting that does not travel: right here, another simulator in a worker."""

    def __init__(self):
        self.gain = 2.0

    def __getstate__(self):
        return {"gain": 1.0}

    def noisy(self, theta, seed):
        return self.gain * super().noisy(theta, seed)


class KillsItsWorker(Good):
    def __reduce__(self):
        return _end_process, ()


def _end_process():
    import os

    from mlpop.compute.backends.workers import is_worker

    if is_worker():
        os._exit(9)
    return KillsItsWorker()


class OtherBitsInACampaign(Good):
    """The registered name builds it with another setting than its instance has here."""

    built = 0

    def __init__(self):
        from mlpop.compute.backends.workers import is_worker

        self.shift = 1.0 if is_worker() else 0.0

    def noisy(self, theta, seed):
        return super().noisy(theta, seed) + self.shift


class OtherReasonInAWorker(Good):
    def __call__(self, theta, seed):
        from mlpop.compute.backends.workers import is_worker

        if is_worker() and theta[1] < 0:
            raise ValueError("lost on the way")
        return super().__call__(theta, seed)
