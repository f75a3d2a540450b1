"""An experiment that is stopped at any stage and resumed: same bits, nothing done twice."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from resume_checks import (
    EPOCHS,
    SMALL,
    check_tree,
    experiment_called,
    results,
    without_figures,
)

from mlpop.commands import sbi
from mlpop.commands.sbi import resume_experiment, run_experiment
from mlpop.compute.campaign import campaign
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.rounds import datasets as round_data
from mlpop.experiment.rounds import ensemble as members
from mlpop.experiment.rounds import member_files as member_state
from mlpop.experiment.rounds import run as round
from mlpop.tracking import Node, Store, TrackedRun, connect
from mlpop.tracking.owner import HEARTBEAT_TAG, OWNER_TAG, Owner
from mlpop.tracking.run import STAGE_TAG
from mlpop.tracking.uploads import Uploader
from mlpop.training.events import Started, TrainingEvent

Values = dict[str, Any]
MEMBERS = [(r, j) for r in (0, 1) for j in (0, 1)]
SIZES = {
    use: campaign.task_sizes(number, SMALL["compute__simulations_per_task"])
    for use, number in (("training", SMALL["training_data_loader__num_sim"]), ("test", 10))
}
SHARDS = [(r, use, k) for r in (0, 1) for use, sizes in SIZES.items() for k in range(len(sizes))]
ALL = len(SHARDS)
ONE = ALL // 2
"""Shards of both rounds, and of one."""
UNTESTED = ONE + len(SIZES["training"])
"""Shards before the test simulations of the second round."""


@dataclass(frozen=True)
class Stage:
    """Where an experiment is stopped: at a call of a function of mlpop, or after it.

    Attributes:
        owner, name: the function.
        call: which call of it, from 1.
        after: whether the call itself is still made.
        shards: shards that are finished then.
        complete: members that are complete then.
        epochs: epochs that the checkpoint of the next member has then.
    """

    owner: Any
    name: str
    call: int
    after: bool
    shards: int
    complete: int
    epochs: int = 0


SENDER = member_state.CheckpointSender
CALLS = EPOCHS + 1
"""Checkpoints of a training: one every epoch, and one at its end."""
LAST = 3 * CALLS + 3
"""The third one of the last training."""

STAGES = {
    "before theta": Stage(round_data._Source, "_drawn", 3, False, ONE, 2),
    "after theta": Stage(round_data, "simulate_set", 1, False, 0, 0),
    "in the middle of simulating": Stage(Uploader, "send_shard", ONE + 2, True, ONE + 2, 2),
    "before the test simulations": Stage(
        round_data, "simulate_set", 4, False, ONE + len(SIZES["training"]), 2
    ),
    "in the middle of training": Stage(SENDER, "__call__", 4, True, ONE, 0, 4),
    "in the middle of training the last": Stage(
        SENDER, "__call__", 3 * CALLS + 3, True, ALL, 3, 3
    ),
    "after one member": Stage(members, "_finish", 4, False, ALL, 3, EPOCHS),
    "at testing": Stage(round, "evaluate", 2, False, ALL, 4),
    "after the manifest of a round": Stage(round, "write_json", 1, False, ONE, 2),
    "between rounds": Stage(sbi, "_tell", 1, False, ONE, 2),
    "before the final commit": Stage(sbi, "_tell", 3, False, ALL, 4),
    "after the final commit": Stage(TrackedRun, "commit", 7, True, ALL, 4),
}
FAST = ("in the middle of simulating", "in the middle of training", "after one member")


@dataclass
class Work:
    """What was done: shards made, and of which member how many epochs were there already."""

    shards: list[tuple[int, str, int]] = field(default_factory=list)
    trainings: dict[tuple[int, int], int] = field(default_factory=dict)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Count the work of this process; leave out that of drawing figures."""
    done = Work()
    make, train = campaign.simulate_shard, members.train_member

    def simulate_shard(job: Any, task: Any, emit: Any) -> Any:
        made = make(job, task, emit)
        use = "training" if "TRAINING" in job.purpose.name else "test"
        done.shards.append((job.round_index, use, task.number))
        return made

    def train_member(task: Any, emit: Any) -> Any:
        folder = Path(task.folder)
        place = int(folder.parent.name[-1]), int(folder.name[-1])

        def hear(event: TrainingEvent) -> None:
            if isinstance(event, Started):
                done.trainings[place] = len(event.history)
            emit(event)

        return train(task, hear)

    monkeypatch.setattr(campaign, "simulate_shard", simulate_shard)
    monkeypatch.setattr(members, "train_member", train_member)
    without_figures(monkeypatch)
    return done


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage], Any]:
    """Stop an experiment at a stage, as Ctrl-C does."""

    def run(stage: Stage, start: Callable[[], Any]) -> None:
        real, calls = getattr(stage.owner, stage.name), 0

        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == stage.call and not stage.after:
                raise KeyboardInterrupt
            value = real(*args, **options)
            if calls == stage.call:
                raise KeyboardInterrupt
            return value

        with monkeypatch.context() as patch:
            patch.setattr(stage.owner, stage.name, call)
            with pytest.raises(KeyboardInterrupt):
                start()

    return run


def as_after_sigkill(store: Store, root: Node) -> None:
    """Leave unfinished runs as a process does that could say nothing any more."""
    dead = Owner("elsewhere", "boot", "namespace", 7, 0.0).to_tag()
    for _, node in root.walk():
        if node.status != "FINISHED":
            store.client.update_run(node.run_id, status="RUNNING")
            for tag, value in {
                "mlpop.ended": "",
                "mlpop.error": "",
                "mlpop.state": node.tags.get(STAGE_TAG, ""),
                HEARTBEAT_TAG: "0",
                OWNER_TAG: dead,
            }.items():
                store.client.set_tag(node.run_id, tag, value)


@pytest.fixture(scope="module")
def values(vectors: Callable[..., Values]) -> Callable[..., Values]:
    """An experiment of two rounds and two members, as small as can be."""
    return lambda save_dir, name: vectors(save_dir, name=name, **SMALL)


@pytest.fixture(scope="module")
def undisturbed(
    workplace: Any, values: Callable[..., Values], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Results of the experiment that is never stopped."""
    with workplace(), pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        folder = tmp_path_factory.mktemp("undisturbed")
        run_experiment(SbiConfig.parse(values(folder, "undisturbed")))
        store = connect()
        root = experiment_called(store, "undisturbed")
        check_tree(store, root)
        yield results(store, root)


def launches(save_dir: Path, name: str) -> list[str]:
    """Names of the folders that launches made for their logs and for their models."""
    found = [
        sorted(p.name for p in (save_dir / part / name).iterdir()) for part in ("logs", "models")
    ]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    "stage",
    [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in STAGES],
)
def test_resumed_has_the_bits_of_an_undisturbed_experiment(
    stage: str,
    undisturbed: dict[str, str],
    values: Callable[..., Values],
    work: Work,
    stop: Any,
    tmp_path: Path,
    at_work: Path,
) -> None:
    where, name = STAGES[stage], f"stopped {stage}"
    config = SbiConfig.parse(values(tmp_path, name))
    stop(where, lambda: run_experiment(config))
    store = connect()
    root = experiment_called(store, name)
    assert root.status == "KILLED"
    assert len(work.shards) == where.shards
    as_after_sigkill(store, root)
    (stamp,) = launches(tmp_path, name)
    log = tmp_path / "logs" / name / stamp / "log.txt"
    logged = log.read_text()
    before, work.shards, work.trainings = work.shards, [], {}

    result = resume_experiment(root.run_id)

    root = experiment_called(store, name)
    assert result.run_id == root.run_id
    check_tree(store, root)
    assert results(store, root) == undisturbed
    assert sorted(before + work.shards) == sorted(SHARDS)
    expected = dict.fromkeys(MEMBERS[where.complete :], 0)
    if where.epochs:
        expected[MEMBERS[where.complete]] = where.epochs
    assert work.trainings == expected
    assert launches(tmp_path, name) == [stamp]
    assert log.read_text().startswith(logged)
    assert len(log.read_text()) > len(logged)


@pytest.mark.parametrize(
    "stage",
    [
        "in the middle of simulating",
        pytest.param("in the middle of training the last", marks=pytest.mark.slow),
        pytest.param("before the final commit", marks=pytest.mark.slow),
    ],
)
def test_resume_needs_no_folder_only_the_store(
    stage: str,
    undisturbed: dict[str, str],
    values: Callable[..., Values],
    work: Work,
    stop: Any,
    tmp_path: Path,
    at_work: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where, name = STAGES[stage], f"moved {stage}"
    first = tmp_path / "first"
    first.mkdir()
    monkeypatch.chdir(first)
    stop(where, lambda: run_experiment(SbiConfig.parse(values(Path("output"), name))))
    shutil.rmtree(first)
    second = tmp_path / "second"
    second.mkdir()
    monkeypatch.chdir(second)
    before, work.shards, work.trainings = work.shards, [], {}
    store = connect()
    root = experiment_called(store, name)

    resume_experiment(root.run_id)

    root = experiment_called(store, name)
    check_tree(store, root)
    assert results(store, root) == undisturbed
    assert sorted(before + work.shards) == sorted(SHARDS)
    expected = dict.fromkeys(MEMBERS[where.complete :], 0)
    if where.epochs:
        expected[MEMBERS[where.complete]] = where.epochs
    assert work.trainings == expected
    (stamp,) = launches(second / "output", name)
    models = second / "output" / "models" / name / stamp
    for r, j in MEMBERS:
        assert (models / f"round_{r}" / f"trained_model_ensemble_{j}.pickle").is_file()
        assert (models / f"round_{r}" / f"member_{j:02d}" / "estimator.safetensors").is_file()
    for r in (0, 1):
        assert (models / f"round_{r}" / "samples_posterior.pt").is_file()
        assert (models / f"round_{r}" / "COMPLETE.json").is_file()
    assert Path(root.tags["mlpop.save_dir"]) == models
    assert not first.exists()
