"""What mlpop relies on in a simulator, checked in this process; one function a promise."""

import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from mlpop.compute.backends.base import describe
from mlpop.config.messages import show
from mlpop.config.names import fault_of_name
from mlpop.errors import SimulationFailed
from mlpop.simulators.base import Simulator
from mlpop.testing.conformance import ConformanceError, require
from mlpop.testing.simulator_case import SimulatorCase, same_bits

_RESEEDS = (11, 11, 4242)
"""Twice the same: an x that differs even then does not come from a global generator."""


def check_names(case: SimulatorCase) -> None:
    """Labels and channels are tuples of different names, one label for each edge of the prior."""
    subject = case.subject
    require(isinstance(subject, Simulator), f"{case.name} has no labels, channels and __call__")
    for kind in ("labels", "channels"):
        names: Sequence[str] = getattr(subject, kind)
        require(
            isinstance(names, tuple) and names and all(isinstance(name, str) for name in names),
            f"{kind} must be a tuple of at least one name, found {names!r}",
        )
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, f"{kind} must be different names, found '{''.join(twice[:1])}' twice")
        for name in names:
            fault = fault_of_name(name)
            require(not fault, f"{kind}: {show(name)} cannot be one: a name {fault}")
    require(
        len(subject.labels) == len(case.low),
        f"{len(subject.labels)} labels ({', '.join(subject.labels)}) but {len(case.low)} edges of "
        "the prior",
    )


def check_observation(case: SimulatorCase) -> None:
    """Every x has one array for each channel, always of the same shape and kind, and finite."""
    first: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
    for number, arrays in case.x.items():
        theta = case.theta[number].tolist()
        for channel, values in arrays.items():
            kind = values.dtype.kind
            require(
                kind in "fiub",
                f"channel {channel} must hold real numbers, found dtype {values.dtype}",
            )
            with np.errstate(over="ignore"):
                narrow = values.astype(np.float32)
            require(
                np.isfinite(narrow).all(),
                f"channel {channel} of theta {theta} holds values that are not finite in float32 "
                "(what networks see); raise SimulationFailed where there is no observation",
            )
            found = values.shape, values.dtype
            expected = first.setdefault(channel, found)
            require(
                found == expected,
                f"channel {channel} has shape {found[0]} and dtype {found[1]} for theta {theta}, "
                f"but {expected[0]} and {expected[1]} for another",
            )


def check_info(case: SimulatorCase) -> None:
    """What is recorded beside x is a mapping of names to JSON values or numpy numbers."""
    for simulation in case.simulations.values():
        info = simulation.info
        require(
            isinstance(info, Mapping) and all(isinstance(key, str) for key in info),
            f"info must be a mapping from names to values, found {info!r}",
        )
        for key, value in info.items():
            try:
                json.dumps(value, default=_numpy_value)
            except (TypeError, ValueError) as error:
                raise ConformanceError(
                    f"info['{key}'] = {value!r} is no JSON value: {describe(error)}"
                ) from error


def check_same_seed(case: SimulatorCase) -> None:
    """Theta and seed decide every bit of x, whatever was simulated in between."""
    for number in reversed(case.x):
        require(
            same_bits(case.simulate(number), case.x[number]),
            f"theta {case.theta[number].tolist()} gives another x for the same seed: all "
            "randomness must come from the seed, and nothing may be kept between calls",
        )


def check_different_seeds(case: SimulatorCase) -> None:
    """The noise comes from the seed (or, where `stochastic` is False, there is none)."""
    pairs = [
        (case.simulate(number, seed=1000 + number), arrays) for number, arrays in case.x.items()
    ]
    equal = [same_bits(first, second) for first, second in pairs]
    if case.stochastic:
        require(
            not all(equal),
            f"x is the same for different seeds at {len(equal)} theta; draw the noise from the "
            "seed, or say stochastic=False",
        )
    else:
        require(all(equal), "stochastic=False, but x changes with the seed")


def check_theta_matters(case: SimulatorCase) -> None:
    """Two theta with one seed give different x."""
    first, *others = case.x
    require(
        any(not same_bits(case.simulate(other, seed=first), case.x[first]) for other in others),
        f"x is the same at {len(case.x)} theta of the prior: nothing can be learnt from it",
    )


def check_theta_unchanged(case: SimulatorCase) -> None:
    """The caller's theta is left alone, and may be read-only."""
    number = next(iter(case.x))
    theta = case.theta[number].copy()
    case.subject(theta, case.seed_of(number))
    require(
        np.array_equal(theta, case.theta[number]),
        f"theta was changed in place from {case.theta[number].tolist()} to {theta.tolist()}; "
        "work on a copy",
    )


def check_own_memory(case: SimulatorCase) -> None:
    """An x stays as it is while the next ones are simulated."""
    first, second, *_ = case.x
    kept = case.subject(case.theta[first].copy(), case.seed_of(first))
    before = {name: values.copy() for name, values in case.arrays(kept).items()}
    case.simulate(second)
    require(
        same_bits(case.arrays(kept), before),
        "x was overwritten by the next simulation: return a new array every time",
    )


def check_random_state(case: SimulatorCase) -> None:
    """The global generators of `random`, numpy and torch are neither used nor changed."""
    number = next(iter(case.x))
    found = []
    with _global_states_kept():
        for reseed in _RESEEDS:
            for generator in _global_generators().values():
                generator.seed(reseed)
            before = {name: g.state() for name, g in _global_generators().items()}
            found.append(case.simulate(number))
            for name, generator in _global_generators().items():
                require(
                    name not in before or generator.state() == before[name],
                    f"the global generator of {name} was used or reseeded; draw from a generator "
                    "made of the seed, like numpy.random.default_rng(seed)",
                )
    first, again, other = found
    require(
        same_bits(first, other) or not same_bits(first, again),
        "x depends on the state of a global generator; draw from a generator made of the seed",
    )


def check_failures(case: SimulatorCase) -> None:
    """A theta without an observation raises `SimulationFailed` with a reason."""
    case.simulations  # noqa: B018  (raises what is wrong inside the prior)
    if case.failing is None:
        return
    try:
        case.subject(np.array(case.failing, dtype=np.float64), case.seed_of(0))
    except SimulationFailed as error:
        require(str(error).strip(), "SimulationFailed must say why; its message is empty")
    except Exception as error:
        raise ConformanceError(
            f"failing theta {list(case.failing)} raises {describe(error)}; it must raise "
            "SimulationFailed"
        ) from error
    else:
        raise ConformanceError(
            f"failing theta {list(case.failing)} gave an observation; it must raise "
            "SimulationFailed"
        )


class _GlobalGenerator(NamedTuple):
    """A generator that a whole process shares."""

    seed: Callable[[int], Any]
    state: Callable[[], Any]


def _global_generators() -> dict[str, _GlobalGenerator]:
    legacy = np.random.mtrand
    found = {
        "random": _GlobalGenerator(random.seed, random.getstate),
        "numpy.random": _GlobalGenerator(legacy.seed, lambda: repr(_numpy_state())),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = _GlobalGenerator(
            torch.manual_seed, lambda: torch.get_rng_state().numpy().tobytes()
        )
    return found


def _numpy_state() -> list[Any]:
    name, keys, *rest = np.random.mtrand.get_state()
    return [name, np.asarray(keys).tolist(), *rest]


@contextmanager
def _global_states_kept() -> Iterator[None]:
    torch = sys.modules.get("torch")
    plain, legacy = random.getstate(), np.random.mtrand.get_state()
    tensor = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.mtrand.set_state(legacy)
        if torch is not None:
            torch.set_rng_state(tensor)


def _numpy_value(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is neither JSON nor a numpy number")
