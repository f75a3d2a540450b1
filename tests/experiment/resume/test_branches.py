"""More rounds for a complete experiment, and rounds done again as a branch (B8, S23)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from resume_checks import (
    SMALL,
    check_tree,
    experiment_called,
    results,
    without_figures,
)

from mlpop.commands.sbi import resume_experiment, run_experiment
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.rounds import ensemble as members
from mlpop.tracking import Node, Store, connect, find, tree

Values = dict[str, Any]


@pytest.fixture(scope="module")
def values(vectors: Callable[..., Values]) -> Callable[..., Values]:
    """The experiment, with another name, folder, or more rounds."""
    return lambda save_dir, name, **changes: vectors(save_dir, name=name, **SMALL | changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the experiment of two rounds."""
    return tmp_path_factory.mktemp("trunk")


@pytest.fixture(scope="module")
def trunk(workplace: Any, values: Callable[..., Values], place: Path) -> dict[str, str]:
    """The results of the experiment of two rounds."""
    with workplace(), pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        run_experiment(SbiConfig.parse(values(place, "trunk")))
        store = connect()
        return results(store, experiment_called(store, "trunk"))


@pytest.fixture
def store(trunk: dict[str, str], at_work: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that has the experiment."""
    without_figures(monkeypatch)
    return connect()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Which members of which rounds this process trains."""
    done: list[tuple[int, int]] = []
    train = members.train_member

    def train_member(task: Any, emit: Any) -> Any:
        folder = Path(task.folder)
        done.append((int(folder.parent.name[-1]), int(folder.name[-1])))
        return train(task, emit)

    monkeypatch.setattr(members, "train_member", train_member)
    return done


def block(place: Path, name: str, last_round: int) -> Values:
    """The block `resume_training` that names the first launch of an experiment."""
    folders = {f"{a}_dir": min((place / b / name).iterdir()) for a, b in FOLDERS.items()}
    named = {key: str(path) for key, path in folders.items()}
    return {"resume_training": {"resume": True, "last_round": last_round, **named}}


FOLDERS = {"save": "models", "log": "logs"}


def branches_of(store: Store, root: Node) -> list[Node]:
    found = find(store, {"mlpop.kind": "experiment", "mlpop.branch_of": root.run_id})
    return [tree(store, run.info.run_id) for run in found]


def told(root: Node) -> list[Any]:
    """Return what the runs of a tree say, run by run."""
    return [(n.run_id, n.status, n.started, n.ended, n.tags) for _, n in root.walk()]


def below(found: dict[str, str], round_: int) -> dict[str, str]:
    """Return the results of one round."""
    mine = {key: value for key, value in found.items() if key.startswith(f"round_{round_:02d}")}
    assert len(mine) > 30
    return mine


@pytest.mark.slow
def test_complete_experiment_gets_the_round_that_one_with_more_rounds_has(
    store: Store,
    trunk: dict[str, str],
    values: Callable[..., Values],
    trained: list[tuple[int, int]],
    tmp_path: Path,
) -> None:
    three = {"trainer__num_rounds": 3}
    run_experiment(SbiConfig.parse(values(tmp_path / "from_the_start", "three", **three)))
    expected = results(store, experiment_called(store, "three"))
    first = run_experiment(SbiConfig.parse(values(tmp_path / "grown", "grown"))).run_id
    assert below(results(store, experiment_called(store, "grown")), 1) == below(trunk, 1)
    trained.clear()
    config = SbiConfig.parse(values(tmp_path / "grown", "grown", **three))
    assert resume_experiment(first, config).run_id == first
    assert trained == [(2, 0), (2, 1)]
    root = experiment_called(store, "grown")
    check_tree(store, root, rounds=(0, 1, 2))
    assert results(store, root) == expected
    assert root.tags["mlpop.now.trainer.num_rounds"] == "3"


def test_earlier_round_makes_a_branch_and_leaves_the_old_run_as_it_was_S23(
    store: Store,
    trunk: dict[str, str],
    values: Callable[..., Values],
    trained: list[tuple[int, int]],
    place: Path,
) -> None:
    old = experiment_called(store, "trunk")
    again = SbiConfig.parse(values(place, "trunk") | block(place, "trunk", 0))
    branch_id = run_experiment(again).run_id
    now = tree(store, old.run_id)
    assert told(now) == told(old)
    assert results(store, now) == trunk
    assert trained == [(1, 0), (1, 1)]
    (branch,) = branches_of(store, old)
    assert branch.run_id == branch_id
    assert branch.tags["mlpop.branch_round"] == "0"
    check_tree(store, branch, rounds=(1,), kept=1)
    assert below(results(store, branch), 1) == below(trunk, 1)
    folders = [Path(node.tags["mlpop.save_dir"]) for node in (old, branch)]
    assert folders[0] != folders[1]
    for round_ in (0, 1):
        weights = [
            (folder / f"round_{round_}" / "member_00" / "estimator.safetensors").read_bytes()
            for folder in folders
        ]
        assert weights[0] == weights[1]
    store.client.delete_run(branch_id)


def test_run_of_mlflow_projects_becomes_an_attempt_of_the_run_that_goes_on(
    store: Store,
    values: Callable[..., Values],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = {"trainer__num_rounds": 1, "trainer__size_ensemble": 1}
    config = SbiConfig.parse(values(tmp_path, "attempts", **short))

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mlpop.experiment.rounds.run.evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(config)
    root = experiment_called(store, "attempts")
    place = store.client.get_run(root.run_id).info.experiment_id
    given = store.client.create_run(place, run_name="brawny-shark-12").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    assert resume_experiment(root.run_id).run_id == root.run_id
    assert "MLFLOW_RUN_ID" not in os.environ
    store.client.set_terminated(given)
    root = experiment_called(store, "attempts")
    check_tree(store, root, rounds=(0,), members=1)
    (attempt,) = [node for node in root.children if node.kind == "attempt"]
    assert (attempt.run_id, attempt.name) == (given, "attempt_02")
    assert root.tags["mlpop.attempt"] == "2"


@pytest.mark.slow
def test_branch_with_another_optimiser_that_is_killed_goes_on_S23(
    store: Store,
    trunk: dict[str, str],
    values: Callable[..., Values],
    trained: list[tuple[int, int]],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = experiment_called(store, "trunk")
    config = SbiConfig.parse(values(place, "trunk", trainer__lr=0.02) | block(place, "trunk", 0))
    undisturbed = run_experiment(config).run_id
    expected = results(store, tree(store, undisturbed))
    changed = below(expected, 1)
    weights = "round_01/member_00/estimator.safetensors"
    assert changed[weights] != trunk[weights]
    assert changed["round_01/training/theta.npy"] == trunk["round_01/training/theta.npy"]
    finish, calls = members._finish, []

    def stop(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        finish(*args)

    with monkeypatch.context() as patch:
        patch.setattr(members, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(config)
    (killed,) = [node for node in branches_of(store, old) if node.status == "KILLED"]
    trained.clear()
    assert resume_experiment(killed.run_id).run_id == killed.run_id
    assert trained == [(1, 1)]
    root = tree(store, killed.run_id)
    check_tree(store, root, rounds=(1,), kept=1)
    assert results(store, root) == expected
    for run_id in (undisturbed, killed.run_id):
        store.client.delete_run(run_id)


def test_block_with_the_newest_round_goes_on_in_the_same_folders_S23(
    store: Store,
    trunk: dict[str, str],
    values: Callable[..., Values],
    trained: list[tuple[int, int]],
    place: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = experiment_called(store, "trunk")
    config = SbiConfig.parse(values(place, "trunk") | block(place, "trunk", 1))
    assert run_experiment(config).run_id == old.run_id
    assert "nothing to train" in caplog.text
    assert trained == []
    root = experiment_called(store, "trunk")
    check_tree(store, root)
    assert results(store, root) == trunk
    assert root.tags["mlpop.save_dir"] == old.tags["mlpop.save_dir"]
    assert branches_of(store, root) == []
