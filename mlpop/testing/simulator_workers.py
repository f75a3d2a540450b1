"""What mlpop relies on in a simulator, checked in a worker process and in a campaign."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from mlpop.compute.backends.base import Outcome
from mlpop.compute.backends.processes import ProcessesBackend
from mlpop.compute.campaign.campaign import run_campaign
from mlpop.compute.seeds import Purpose
from mlpop.datasets.shards import SHARDS_FOLDER, USABLE, ShardRecord
from mlpop.errors import ComputeError, MlpopError, SimulationFailed
from mlpop.simulators.base import Simulator
from mlpop.simulators.outputs import by_channel
from mlpop.testing.conformance import ConformanceError, require
from mlpop.testing.simulator_case import Arrays, SimulatorCase, same_bits


def check_worker(case: SimulatorCase) -> None:
    """The simulator, pickled to a worker process, gives the same bits there."""
    tasks = [(case.subject, case.theta[number].copy(), case.seed_of(number)) for number in case.x]
    with ProcessesBackend(1) as backend:
        try:
            outcomes = {o.index: o for o in backend.run(_simulate, tasks)}
        except ComputeError as error:
            raise ConformanceError(f"the simulator cannot go to a worker: {error}") from error
    for index, number in enumerate(case.x):
        require(
            same_bits(_value(outcomes[index]), case.x[number]),
            f"theta {case.theta[number].tolist()} gives another x in a worker process, which runs "
            "with one thread and gets the simulator by pickle",
        )


def check_campaign(case: SimulatorCase) -> None:
    """A campaign in a worker writes the same bits, and a `failed` row for a failing theta."""
    theta = case.theta if case.failing is None else np.vstack([case.theta, case.failing])
    with tempfile.TemporaryDirectory(prefix="mlpop-testing-") as name:
        folder = Path(name)
        with ProcessesBackend(1) as backend:
            try:
                [record] = run_campaign(
                    _block(case, folder / "simulator.pickle"),
                    theta,
                    case.subject.labels,
                    case.seed,
                    Purpose.SIMULATION_TRAINING,
                    0,
                    folder / "dataset",
                    backend,
                    simulations_per_task=len(theta),
                )
            except MlpopError as error:
                raise ConformanceError(
                    f"a campaign of {len(theta)} simulations: {error}"
                ) from error
        for row in record.rows:
            expected = case.x.get(row.index)
            if expected is None:
                _require_failure(case, row.index, row.status, row.message)
                continue
            require(
                row.status in USABLE,
                f"simulation {row.index} is '{row.status}' in a campaign: {row.message}",
            )
            require(
                same_bits(_packed(folder / "dataset", record, row.index), expected),
                f"simulation {row.index} of a campaign has other bits than the simulator gave "
                "for the same theta and seed",
            )


def from_pickle(path: str) -> Simulator:
    """Load the simulator under test in a worker, as `simulator.type` of a campaign."""
    simulator: Simulator = cloudpickle.loads(Path(path).read_bytes())
    return simulator


def _simulate(task: tuple[Simulator, NDArray[np.float64], SeedSequence]) -> Arrays:
    simulator, theta, seed = task
    return by_channel(simulator(theta, seed).x, simulator.channels)


def _value(outcome: Outcome) -> Arrays:
    try:
        arrays: Arrays = outcome.result()
    except ComputeError as error:
        raise ConformanceError(f"in a worker process: {error}") from error
    return arrays


def _block(case: SimulatorCase, path: Path) -> Mapping[str, Any]:
    if isinstance(case.simulator, Mapping):
        return case.simulator
    try:
        path.write_bytes(cloudpickle.dumps(case.simulator))
    except Exception as error:
        raise ConformanceError(f"the simulator cannot be pickled: {error}") from error
    return {"type": f"{__name__}:{from_pickle.__name__}", "args": {"path": str(path)}}


def _require_failure(case: SimulatorCase, index: int, status: str, message: str) -> None:
    theta = case.theta[index] if index < len(case.theta) else np.array(case.failing)
    try:
        case.subject(theta.copy(), case.seed_of(index))
    except SimulationFailed as error:
        reason = " ".join(str(error).split())
    except Exception as error:
        raise ConformanceError(f"theta {theta.tolist()} must raise SimulationFailed") from error
    else:
        raise ConformanceError(f"theta {theta.tolist()} must raise SimulationFailed")
    require(
        (status, message) == ("failed", reason),
        f"theta {theta.tolist()} fails with '{reason}', but its row in a campaign is '{status}' "
        f"with '{message}'",
    )


def _packed(folder: Path, record: ShardRecord, index: int) -> Arrays:
    shard = folder / SHARDS_FOLDER / record.name
    return {
        channel: np.load(shard / f"{channel}.npy")[record.position[index]]
        for channel in record.channels
    }
