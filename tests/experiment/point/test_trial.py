"""Trials that an earlier launch has trained."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlpop.errors import MlpopError
from mlpop.experiment.output_tree import OutputTree
from mlpop.experiment.point.trial import run_trial
from mlpop.tracking import TrackedRun, connect, open_run, tree

RESULT = {
    "trial": 1,
    "monitor": None,
    "distance": None,
    "losses": {},
    "converged": False,
    "failed": True,
    "best_epoch": 0,
    "epochs": 1,
    "stopped": "nan",
    "seconds": 1.0,
}
CALLS = ("list_artifacts", "get_run")


@pytest.fixture
def parent(tracked: Path) -> TrackedRun:
    """The run of a launch with one complete trial."""
    with (
        open_run("train_nn", "trial taken over", store=connect()) as run,
        open_run("trial", "trial_00", run.run_id, store=run.store) as trial,
    ):
        trial.send_json("trial.json", RESULT)
        trial.send_json("train_results.json", {})
        trial.commit()
    return run


def take_over(parent: TrackedRun, folder: Path) -> Any:
    problem: Any = None
    (node,) = tree(parent.store, parent.run_id).children
    folders = OutputTree(folder / "logs", folder / "models")
    return run_trial(problem, 1, parent, folders, {}, earlier=node)


def test_a_complete_trial_is_taken_over_with_its_files(parent: TrackedRun, tmp_path: Path) -> None:
    assert vars(take_over(parent, tmp_path)) == RESULT
    names = {path.name for path in (tmp_path / "logs" / "trial_1").iterdir()}
    assert {"trial.json", "train_results.json"} <= names


@pytest.mark.parametrize("name", CALLS)
def test_a_store_that_refuses_meanwhile_is_no_traceback(
    parent: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whichever of the calls to the store it refuses."""
    real, count = getattr(MlflowClient, name), 0

    def refuse(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == refused:
            raise MlflowException("the store refuses")
        return real(*arguments, **options)

    monkeypatch.setattr(MlflowClient, name, refuse)
    for refused in range(1, 20):
        count = 0
        # what is no error of mlpop passes
        with suppress(MlpopError):
            take_over(parent, tmp_path / str(refused))
        if count < refused:
            return
    pytest.fail("too many calls")
