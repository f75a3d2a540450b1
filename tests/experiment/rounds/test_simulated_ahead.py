"""The next round is simulated while the last one is tested: same bits, however either ends."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from resume_checks import SMALL, check_tree, experiment_called, results, without_figures

from mlpop.commands.sbi import resume_experiment, run_experiment
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import DataError
from mlpop.experiment.rounds import datasets as round_data
from mlpop.experiment.rounds import run as round
from mlpop.tracking import Node, connect

Values = dict[str, Any]
SHARDS = "data/training_dataset/generated_dataset/round_1/shards/shard-*/shard.json"
SIMULATORS = Path(__file__).parents[2] / "integration"
PER_TASK = 4
SLOW = {"type": "slow_simulator:SlowGaussian", "args": {"seconds": 0.05}}


@pytest.fixture(scope="module")
def values(vectors: Callable[..., Values]) -> Callable[..., Values]:
    """An experiment of two rounds whose simulations take seconds."""

    def make(save_dir: Path, name: str, **more: Any) -> Values:
        small = SMALL | {"compute__simulations_per_task": PER_TASK, "simulator": SLOW}
        return vectors(save_dir, name=name, **small | more)

    return make


@pytest.fixture(autouse=True)
def _slow_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SIMULATORS))
    without_figures(monkeypatch)


@pytest.fixture(scope="module")
def serial(
    workplace: Any, values: Callable[..., Values], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Results of the same experiment without workers: nothing is simulated ahead."""
    with workplace(), pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SIMULATORS))
        without_figures(patch)
        folder = tmp_path_factory.mktemp("serial")
        run_experiment(SbiConfig.parse(values(folder, "serial")))
        store = connect()
        yield results(store, experiment_called(store, "serial"))


class HeldTesting:
    """The testing stage of round 0, which begins when the next round is being simulated."""

    def __init__(self, patch: pytest.MonkeyPatch, save_dir: Path, error: Any = None) -> None:
        self.save_dir, self.error = save_dir, error
        self.shards: dict[Path, int] = {}
        self._evaluate = round.evaluate
        patch.setattr(round, "evaluate", self)

    def __call__(self, current: Any, *arguments: Any, **options: Any) -> Any:
        if current.number == 0:
            end = time.monotonic() + 90
            while not (found := list(self.save_dir.glob(SHARDS))):
                assert time.monotonic() < end, "nothing is simulated ahead"
                time.sleep(0.01)
            self.shards = {path: path.stat().st_mtime_ns for path in found}
            if self.error is not None:
                raise self.error
        return self._evaluate(current, *arguments, **options)


def runs(name: str) -> dict[str, Node]:
    return {
        node.name: node
        for _, node in experiment_called(connect(), name).walk()
        if node.kind != "member"
    }


def workers() -> set[psutil.Process]:
    """Workers are children of the fork server, which stays for the next test."""
    this = psutil.Process()
    return set(this.children(recursive=True)) - set(this.children())


def results_of(name: str) -> dict[str, str]:
    """Return the results of a complete experiment, whose tree is checked."""
    store = connect()
    root = experiment_called(store, name)
    check_tree(store, root)
    return results(store, root)


@pytest.mark.parametrize(
    "supply",
    [
        pytest.param({"n_processes": 2}, id="processes"),
        pytest.param({"enable_dask": True, "workers_dask": 2}, id="dask", marks=pytest.mark.slow),
    ],
)
def test_workers_simulate_the_next_round_while_this_one_is_tested(
    values: Callable[..., Values],
    serial: dict[str, str],
    supply: Values,
    tmp_path: Path,
    at_work: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"ahead {next(iter(supply))}"
    testing = HeldTesting(monkeypatch, tmp_path)
    run_experiment(SbiConfig.parse(values(tmp_path, name, **supply)))
    assert testing.shards
    assert results_of(name) == serial


def test_a_testing_stage_that_fails_stops_the_simulations_and_is_resumed(
    values: Callable[..., Values],
    serial: dict[str, str],
    tmp_path: Path,
    at_work: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "testing fails"
    workers_of_others = workers()
    with monkeypatch.context() as patch:
        testing = HeldTesting(patch, tmp_path, DataError("a test is broken"))
        with pytest.raises(DataError, match="a test is broken"):
            run_experiment(SbiConfig.parse(values(tmp_path, name, n_processes=2)))
    assert workers() <= workers_of_others
    found = runs(name)
    assert list(found) == [name, "round_00"]
    assert {(n.status, n.error) for n in found.values()} == {("FAILED", "a test is broken")}
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob(SHARDS)}
    assert testing.shards.items() <= finished.items()
    assert not list(tmp_path.rglob(".shard-*"))

    resume_experiment(found[name].run_id)
    now = {path: path.stat().st_mtime_ns for path in tmp_path.glob(SHARDS)}
    assert finished.items() <= now.items()
    assert results_of(name) == serial


def test_simulations_that_fail_meanwhile_end_the_next_round_once_this_one_is_complete(
    values: Callable[..., Values],
    serial: dict[str, str],
    tmp_path: Path,
    at_work: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    simulate, name = round_data.simulate_set, "simulations fail"

    def refuse(*arguments: Any, round_: int, **options: Any) -> Any:
        made = simulate(*arguments, round_=round_, **options)
        if round_ == 1:
            raise DataError("the set is refused")
        return made

    with monkeypatch.context() as patch:
        testing = HeldTesting(patch, tmp_path)
        patch.setattr(round_data, "simulate_set", refuse)
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(DataError, match="the set is refused"),
        ):
            run_experiment(SbiConfig.parse(values(tmp_path, name, n_processes=2)))
    assert testing.shards
    assert "the set is refused" not in caplog.text
    found = {key: (node.status, node.error) for key, node in runs(name).items()}
    assert found == {
        name: ("FAILED", "the set is refused"),
        "round_00": ("FINISHED", ""),
        "round_01": ("FAILED", "the set is refused"),
    }
    resume_experiment(experiment_called(connect(), name).run_id)
    assert results_of(name) == serial
