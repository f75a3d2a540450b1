"""What a simulator is, and how one is found by the name that a configuration gives."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_type_hints, runtime_checkable

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import ArrayLike, NDArray

from mlpop.config.foreign_code import foreign_code, same_folder
from mlpop.config.names import fault_of_name
from mlpop.config.registry import Registry
from mlpop.errors import ConfigError, SimulationFailed, Stopped
from mlpop.io.files import sha256_of

REGISTERED: Mapping[str, str] = {
    "pulsar": "mlpop.simulators.pulsar:PulsarSimulator",
    "gaussian_linear": "mlpop.simulators.gaussian_linear:GaussianLinear",
    "two_moons": "mlpop.simulators.two_moons:TwoMoons",
}
"""Simulators that come with mlpop, by the name a configuration may use."""


@dataclass(frozen=True)
class Simulation:
    """One simulated observation.

    Attributes:
        x: a vector (d,), a stack of maps (C, H, W) with one map a channel, or array by channel
            where shapes differ.
        info: what else is worth recording, as JSON values; `status` is `limit` where the
            simulation is whole but stopped early.
        details: further arrays by name that no network sees, of the same shape in every
            simulation, but for those named `detected_...`, whose numbers of rows may differ.
    """

    x: NDArray[Any] | Mapping[str, NDArray[Any]]
    info: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@runtime_checkable
class Simulator(Protocol):
    """Turns parameters into an observation.

    A simulator must give the same bits for the same theta and seed, must pickle to a worker
    process, and raises `SimulationFailed` where theta has no observation. It may have a method
    `in_detail` with the arguments of a call, which gives the same bits and `details` beside them,
    and a `version`, a number that is raised when equal theta and seed give other bits than before:
    simulations that were kept by another version are not taken for its own.

    Attributes:
        labels: names of theta's components.
        channels: names of x's maps or components.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def channels(self) -> tuple[str, ...]: ...

    def __call__(self, theta: ArrayLike, seed: SeedSequence) -> Simulation:
        """Simulate one observation of `theta` (D,)."""
        ...


def in_detail(simulator: Simulator) -> Callable[[ArrayLike, SeedSequence], Simulation]:
    """Return what simulates with details, where the simulator has any."""
    detailed: Callable[[ArrayLike, SeedSequence], Simulation]
    detailed = getattr(simulator, "in_detail", simulator)
    return detailed


SIMULATORS: Registry[Simulator] = Registry(
    "simulator.type", "simulator", None, "mlpop.simulators", REGISTERED
)


def load(type: str, args: Mapping[str, Any] | None = None) -> Simulator:
    """Build a simulator.

    Args:
        type: a registered name, an entry point of the group `mlpop.simulators`, or
            `package.module:Class`.
        args: keyword arguments of the class.

    Raises:
        ConfigError: there is no such simulator, it cannot be imported, it refuses its arguments,
            or what it builds is no simulator.
    """
    builder = SIMULATORS.find(type)
    if not _makes_simulators(builder):
        raise ConfigError(
            f"simulator.type: '{type}' is no simulator: what it makes cannot be called with "
            "(theta, seed); its labels must be a tuple of names, and so must its channels"
        )
    with foreign_code(f"simulator.args: '{type}' cannot be made of them"):
        try:
            simulator: Simulator = builder(**(args or {}))
        except TypeError as error:
            raise ConfigError(f"simulator.args: '{type}' refuses them: {error}") from error
    with foreign_code(f"simulator.type: '{type}' cannot be used"):
        _require_simulator(simulator, type)
    return simulator


def simulate(
    simulator: Simulator, theta: NDArray[np.float64], seed: SeedSequence, *, detailed: bool = False
) -> Simulation:
    """Simulate one observation of `theta` (D,), which code of the user gets as a copy.

    Args:
        detailed: with the details that the simulator can give.

    Raises:
        SimulationFailed: the simulator calls `sys.exit`, or returns no `Simulation`.
    """
    call = in_detail(simulator) if detailed else simulator
    try:
        with same_folder():
            made = call(theta.copy(), seed)
    except Stopped:
        raise
    except SystemExit as error:
        raise SimulationFailed(f"the simulator called sys.exit({error.code})") from error
    if not isinstance(made, Simulation):
        raise SimulationFailed(f"the simulator returned a {type(made).__name__}, no Simulation")
    return made


def revision(type: str, simulator: Simulator) -> dict[str, Any]:
    """Return what tells simulations of this code from those of an earlier one.

    That is the simulator's `version`; without one, of a simulator that does not ship with mlpop,
    the SHA-256 of the file of its class, where there is one.
    """
    if (version := getattr(simulator, "version", None)) is not None:
        return {"version": version}
    if type in REGISTERED:
        return {}
    # an object of a module, and a function that makes one, have a class of their own
    with suppress(TypeError, OSError):
        return {"source": sha256_of(Path(inspect.getfile(simulator.__class__)))}
    return {}


def theta_by_label(theta: ArrayLike, labels: Sequence[str]) -> dict[str, float]:
    """Return label -> value of `theta` (D,).

    Raises:
        SimulationFailed: theta has another shape or is not finite.
    """
    values = np.asarray(theta, dtype=np.float64)
    if values.shape != (len(labels),):
        raise SimulationFailed(
            f"theta must have shape ({len(labels)},) for {', '.join(labels)}, found {values.shape}"
        )
    by_label = dict(zip(labels, values.tolist(), strict=True))
    bad = [f"{label} = {value}" for label, value in by_label.items() if not np.isfinite(value)]
    if bad:
        raise SimulationFailed(f"theta must be finite, found {', '.join(bad)}")
    return by_label


def _makes_simulators(builder: Any) -> bool:
    """Whether instances of a class can be called with theta and a seed; nothing is called.

    Or those of the class that a function says it returns.
    """
    if inspect.isfunction(builder):
        builder = get_type_hints(builder).get("return")
    if not inspect.isclass(builder):
        return False
    # a class itself can be called, by its metaclass: that is not meant
    call = next((vars(c)["__call__"] for c in builder.__mro__ if "__call__" in vars(c)), None)
    try:
        return call is not None and bool(inspect.signature(call).bind(None, None, None))
    except (TypeError, ValueError):
        return False


def _require_simulator(simulator: Any, type: str) -> None:
    for kind in ("labels", "channels"):
        value = getattr(simulator, kind, None)
        if not isinstance(value, tuple) or not value or not all(isinstance(v, str) for v in value):
            raise ConfigError(
                f"simulator.type: '{type}': {kind} must be a tuple of at least one name, "
                f"found {value!r}"
            )
        for name in value:
            if fault := fault_of_name(name):
                raise ConfigError(f"simulator.type: '{type}': {kind}: a name {fault}")
    if not callable(simulator):
        raise ConfigError(f"simulator.type: '{type}' cannot be called with (theta, seed)")
