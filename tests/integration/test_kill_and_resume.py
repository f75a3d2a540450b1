"""SIGKILL at any moment, then a resume: the same bits as if nothing had happened.

A reference experiment of two rounds and two members runs undisturbed. Then it is started again
in another place, killed at a seeded random moment of its course, and resumed; what it leaves is
compared with the reference by digest.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resume_checks import check_tree, experiment_called, results

from mlpop.tracking import connect
from mlpop.tracking.run import STAGE_TAG

KILLS, KILLS_IN_CI = 20, 2
NEXT_ROUND = "data/training_dataset/generated_dataset/round_1/shards/shard-*/shard.json"
EPOCHS = 60


@pytest.fixture
def values(vectors: Callable[..., dict[str, Any]]) -> Callable[[Path, str], dict[str, Any]]:
    """An experiment whose stages take about as long as each other."""

    def make(save_dir: Path, name: str) -> dict[str, Any]:
        return vectors(
            save_dir,
            name=name,
            n_processes=2,
            training_data_loader__num_sim=80,
            simulator={"type": "slow_simulator:SlowGaussian", "args": {"seconds": 0.03}},
            trainer__num_rounds=2,
            trainer__truncated_prior=True,
            trainer__append_simulations=True,
            trainer__plot_proposal=True,
            trainer__ensemble=True,
            trainer__size_ensemble=2,
            trainer__max_num_epochs=EPOCHS,
            trainer__stop_after_epochs=EPOCHS,
            trainer__checkpoint_seconds=0.2,
            compute__simulations_per_task=8,
        )

    return make


@dataclass(frozen=True)
class Reference:
    """The undisturbed experiment: digests of its results, and how long it took [s]."""

    digests: Mapping[str, str]
    seconds: float


@pytest.fixture
def play(
    launch: Callable[..., Any],
    values: Callable[[Path, str], dict[str, Any]],
    tmp_path: Path,
    at_work: Path,
) -> "Play":
    """Start, kill and resume experiments."""
    return Play(launch, values, tmp_path)


class Play:
    """Experiments as processes of their own."""

    def __init__(self, launch: Any, values: Any, folder: Path) -> None:
        self._launch, self._values, self._folder = launch, values, folder

    def start(self, name: str) -> Any:
        """Start an experiment; return when its run is open."""
        file = self._folder / f"{name}.json"
        file.write_text(json.dumps(self._values(self._folder / name, name)))
        process = self._launch("sbi", "--configuration", str(file))
        logs = self._folder / name / "logs" / name
        process.wait_for(lambda: logs.is_dir() and any(logs.iterdir()), "the beginning")
        return process

    def wait(self, process: Any) -> None:
        code = process.process.wait(timeout=300)
        assert code == 0, process.log.read_text()

    def reference(self) -> Reference:
        name = f"reference-{self._folder.name}"  # all tests share a store
        started = self.start(name)
        begin = time.monotonic()
        self.wait(started)
        seconds = time.monotonic() - begin
        store = connect()
        root = experiment_called(store, name)
        check_tree(store, root, epochs=EPOCHS)
        return Reference(results(store, root), seconds)

    def killed(self, name: str, moment: float, *, group: bool) -> str:
        """Kill an experiment `moment` seconds after its run was opened; return its stage then."""
        process = self.start(name)
        time.sleep(moment)
        if process.process.poll() is not None:
            return "complete"
        if group:
            os.killpg(process.process.pid, signal.SIGKILL)
        else:
            os.kill(process.process.pid, signal.SIGKILL)
        process.process.wait()
        root = experiment_called(connect(), name)
        running = [node for _, node in root.walk() if node.status == "RUNNING"]
        assert all(node.life == "dead" for node in running)
        return " ".join(f"{node.name}:{node.tags.get(STAGE_TAG, '')}" for node in running)

    def ended_ahead(self, name: str, number: int) -> dict[Path, int]:
        """End an experiment while round 1 is simulated and round 0 still tested.

        Returns:
            Shard of round 1 that was finished -> its time.
        """
        process = self.start(name)
        shards = (self._folder / name).glob
        process.wait_for(lambda: any(shards(NEXT_ROUND)), "simulations ahead", seconds=300)
        seconds = process.stop(number, group=False)
        assert process.left_alive(30) == []
        root = experiment_called(connect(), name)
        names = [node.name for _, node in root.walk()]
        assert names == [name, "round_00", "member_00", "member_01"]
        if number == signal.SIGTERM:
            assert (process.process.returncode, seconds < 10) == (143, True)
            assert {node.status for node in (root, root.children[0])} == {"KILLED"}
        else:
            assert root.children[0].life == "dead"
        assert root.children[0].tags[STAGE_TAG] == "testing"
        return {path: path.stat().st_mtime_ns for path in shards(NEXT_ROUND)}

    def resume(self, name: str) -> None:
        root = experiment_called(connect(), name)
        if root.status == "FINISHED":
            return
        self.wait(self._launch("sbi", "--resume", root.run_id))


def run_harness(play: Play, kills: int) -> None:
    expected = play.reference()
    assert len(expected.digests) > 20
    rng = np.random.default_rng(2026)
    failures, stages = [], []
    for number in range(kills):
        name = f"killed-{number:02d}-of-{kills}"
        # one moment in each of as many parts of the course, so that no stage is left out
        moment = (number + rng.random()) / kills * expected.seconds
        stages.append(play.killed(name, moment, group=bool(number % 2)))
        play.resume(name)
        store = connect()
        root = experiment_called(store, name)
        check_tree(store, root, epochs=EPOCHS)
        found = results(store, root)
        wrong = {key for key in expected.digests if found.get(key) != expected.digests[key]}
        if wrong or found.keys() != expected.digests.keys():
            failures.append((name, round(moment, 2), stages[-1], sorted(wrong)))
    assert not failures, failures
    assert sum("round" in stage for stage in stages) >= kills // 2, stages


def test_killed_and_resumed_gives_the_same_bits(play: Play) -> None:
    run_harness(play, KILLS_IN_CI)


@pytest.mark.slow
def test_killed_at_twenty_moments_and_resumed_gives_the_same_bits(play: Play) -> None:
    run_harness(play, KILLS)


def test_ended_while_the_next_round_is_simulated_and_resumed_gives_the_same_bits(
    play: Play, tmp_path: Path
) -> None:
    expected = play.reference()
    for number in (signal.SIGKILL, signal.SIGTERM):
        name = f"ahead-{number.name}"
        finished = play.ended_ahead(name, number)
        play.resume(name)
        now = {path: path.stat().st_mtime_ns for path in (tmp_path / name).glob(NEXT_ROUND)}
        assert finished.items() <= now.items()
        store = connect()
        root = experiment_called(store, name)
        check_tree(store, root, epochs=EPOCHS)
        assert results(store, root) == expected.digests
