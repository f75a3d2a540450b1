"""What resuming costs: time lost by a kill, and the price of being able to go on.

    python benchmarks/resume.py [--kills 2] [--seconds 0.02]

First an experiment of two rounds and two members runs undisturbed; then again, killed by SIGKILL
at as many moments of its course as asked for, and resumed. The time lost is that of both launches
together, less that of the undisturbed one; starting Python is part of it.

Then the price: a checkpoint of the documented network on maps (6, 32, 32), written by the worker
and stored by the driver; a heartbeat; a manifest. Checkpoints and heartbeats are set against the
time from one to the next (60 s and 30 s), for a round with two members in training.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mlpop.experiment.rounds.member_files import FOLDER, CheckpointSender
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.networks.rng import generator_from_seed
from mlpop.tracking import connect, find, open_run, verify
from mlpop.tracking.owner import HEARTBEAT_SECONDS, HEARTBEAT_TAG
from mlpop.training.checkpoint import TrainingState, save_state

SIMULATORS = Path(__file__).parents[1] / "tests" / "integration"
CHECKPOINT_SECONDS = 60.0
MEMBERS, OPEN_RUNS = 2, 4
"""Members that train, and runs that beat at the same time: theirs, the round's, the root."""

SHAPE, LABELS = (6, 32, 32), 5


def experiment(name: str, seconds: float) -> dict[str, object]:
    """Return the configuration of an experiment whose simulations take `seconds` each."""
    return {
        "name": name,
        "n_processes": 2,
        "set_manual_seed": True,
        "manual_seed": 7,
        "show_profiling": False,
        "arch": None,
        "density_estimator": {"type": "mdn", "args": {"hidden_features": 16}},
        "prior_ranges": {"labels": ["theta_1", "theta_2"], "low": [-1, -1], "high": [1, 1]},
        "training_data_loader": {"simulate": True, "num_sim": 200},
        "test_data_loader": {"testing": True, "simulate": True, "num_sim": 20},
        "observed_sample": {"synthetic": {"theta": {"theta_1": 0.3, "theta_2": -0.4}}},
        "simulator": {"type": "slow_simulator:SlowGaussian", "args": {"seconds": seconds}},
        "trainer": {
            "save_dir": "output",
            "num_rounds": 2,
            "truncated_prior": True,
            "append_simulations": True,
            "ensemble": True,
            "size_ensemble": MEMBERS,
            "batch_size": 20,
            "max_num_epochs": 100,
            "stop_after_epochs": 100,
            "checkpoint_seconds": 2,
        },
        "compute": {"simulations_per_task": 10},
    }


class Launches:
    """Launches of `mlpop sbi` as processes of their own, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "PYTHONPATH": str(SIMULATORS),
        }
        os.environ["MLFLOW_TRACKING_URI"] = self._environment["MLFLOW_TRACKING_URI"]

    def time(self, *arguments: str, kill_after: float | None = None) -> float:
        """Run a launch, to its end or for so long [s]; return the seconds it took."""
        started = time.monotonic()
        with (self._folder / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mlpop", "sbi", *arguments],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            code = process.wait(timeout=kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            if code:
                raise SystemExit((self._folder / "log.txt").read_text()[-3000:])
        return time.monotonic() - started

    def write(self, name: str, seconds: float) -> str:
        """Write a configuration; return its name."""
        file = self._folder / f"{name}.json"
        file.write_text(json.dumps(experiment(name, seconds)))
        return file.name


def say(line: str) -> None:
    """Write a line of the result."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def time_lost(launches: Launches, kills: int, seconds: float) -> None:
    """Kill an experiment at several moments, and print what each costs."""
    launches.time("--configuration", launches.write("warm-up", 0.0), kill_after=8.0)
    whole = launches.time("--configuration", launches.write("undisturbed", seconds))
    say(f"undisturbed                          {whole:6.1f} s")
    for number in range(kills):
        moment = (number + 1) / (kills + 1) * whole
        name = f"killed-{number}"
        first = launches.time("--configuration", launches.write(name, seconds), kill_after=moment)
        (run,) = find(connect(), {"mlpop.kind": "experiment", "mlpop.name": name})
        second = launches.time("--resume", run.info.run_id)
        say(
            f"killed after {first:5.1f} s, resumed in {second:5.1f} s: "
            f"{first + second - whole:5.1f} s lost"
        )


def median(call: Callable[[], object], times: int = 15) -> float:
    """Return the median time of a call [s]."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def training_state() -> TrainingState:
    """Return the state of the documented network between two epochs."""
    spec = EstimatorSpec.parse(
        {
            "model": "mdn",
            "embedding": {
                "type": "ModelConvSBI",
                "args": {"input_shape": SHAPE, "len_output_layer": 32},
            },
            "x_shape": SHAPE,
            "dimension": LABELS,
        }
    )
    generator = generator_from_seed(0)
    theta, x = torch.rand(8, LABELS, generator=generator), torch.rand(8, *SHAPE)
    network = build_estimator(spec, theta, x, generator)
    optimizer = torch.optim.Adam(network.parameters())
    network.loss(theta, x).mean().backward()
    optimizer.step()
    weights = {name: value.detach() for name, value in network.state_dict().items()}
    return TrainingState(
        epoch=1,
        best_epoch=1,
        best_value=0.0,
        weights=weights,
        best_weights=weights,
        optimizer=optimizer.state_dict(),
        generator=generator.get_state(),
    )


def price(folder: Path) -> None:
    """Print what checkpoints, heartbeats and manifests cost."""
    state, member = training_state(), folder / "member_00"
    with open_run("member", "member_00", experiment="price") as run:
        send = CheckpointSender(run, member)
        written = median(lambda: save_state(member / FOLDER, state))
        stored = median(send)
        beat = median(
            lambda: run.store.client.set_tag(run.run_id, HEARTBEAT_TAG, f"{time.time():.0f}")
        )
        size = sum(path.stat().st_size for path in (member / FOLDER).glob("*.safetensors"))
        files = {f"weights_{j}": next((member / FOLDER).glob("*.safetensors")) for j in range(4)}
        committed = median(lambda: run.commit(files), times=3)
        verified = median(lambda: verify(run.store.client, run.run_id), times=3)
    say(f"checkpoint of {size / 1e6:.1f} MB: written    {1e3 * written:7.1f} ms, by the worker")
    say(f"                      stored     {1e3 * stored:7.1f} ms, by the driver")
    say(f"heartbeat                        {1e3 * beat:7.1f} ms")
    say(f"four such files committed        {1e3 * committed:7.1f} ms")
    say(f"                verified         {1e3 * verified:7.1f} ms")
    worker = written / CHECKPOINT_SECONDS
    driver = MEMBERS * stored / CHECKPOINT_SECONDS + OPEN_RUNS * beat / HEARTBEAT_SECONDS
    say(f"share of the training's time     {100 * worker:7.3f} %")
    say(f"share of the driver's time       {100 * driver:7.3f} %")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.02, help="of one simulation")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlpop-") as name:
        folder = Path(name)
        launches = Launches(folder)
        os.chdir(folder)
        time_lost(launches, options.kills, options.seconds)
        price(folder)


if __name__ == "__main__":
    main()
