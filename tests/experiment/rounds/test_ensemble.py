"""Training of an ensemble as MLflow sees it."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from mlpop.compute import make_backend
from mlpop.compute.backends.base import Outcome
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.loading import Dataset
from mlpop.errors import TrainingError
from mlpop.experiment.inputs.problem import LearningProblem, write_training_arrays
from mlpop.experiment.output_tree import OutputTree
from mlpop.experiment.profile import Profiler
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.rounds.context import Launch, OpenRound
from mlpop.experiment.rounds.ensemble import Ensemble, train_ensemble, validation_rows
from mlpop.experiment.rounds.result import RoundResult
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.prior import Prior
from mlpop.tracking import connect, open_run, tree

LABELS = ("theta_1", "theta_2")


class Twice:
    """Tells every event of a task two times, as when a worker dies and the task is repeated."""

    name = "twice"
    workers = 1

    def run(
        self, function: Callable[..., Any], tasks: Sequence[Any], *, on_event: Any
    ) -> Iterator[Outcome]:
        with make_backend() as backend:
            heard: list[tuple[int, Any]] = []
            outcomes = list(
                backend.run(function, tasks, on_event=lambda *event: heard.append(event))
            )
        for index, event in [*heard, *heard]:
            on_event(index, event)
        yield from outcomes


class Failing:
    """Loses the second task."""

    name = "failing"
    workers = 1

    def run(
        self, function: Callable[..., Any], tasks: Sequence[Any], *, on_event: Any
    ) -> Iterator[Outcome]:
        with make_backend() as backend:
            yield from backend.run(function, tasks[:1], on_event=on_event)
        yield Outcome(1, None, "failed", "the loss became NaN", 1, 0.1)


@pytest.fixture
def train(
    at_work: Path, vectors: Callable[..., dict[str, Any]], tmp_path: Path
) -> Callable[..., tuple[str, Ensemble]]:
    """Train an ensemble of two on a given backend; return the run id of its round, and it.

    `members` are the folders of the networks to go on from, `trainer` what else the file says.
    """
    values = vectors(
        tmp_path, trainer__ensemble=True, trainer__size_ensemble=2, trainer__max_num_epochs=4
    )
    config = SbiConfig.parse(values)
    rng = np.random.default_rng(0)
    theta = rng.uniform(-1, 1, (60, 2))
    x = (theta + 0.2 * rng.standard_normal((60, 2))).astype(np.float32)
    problem = LearningProblem(Prior(LABELS, (-1, -1), (1, 1)), ("x_1", "x_2"), Preprocessing())
    data = Dataset(theta, x, LABELS, ("x_1", "x_2"), tmp_path / "none.csv")
    arrays = write_training_arrays(tmp_path / "arrays", problem, data)

    def start(
        backend: Any, round_: int = 0, members: Sequence[Path] | None = None, **trainer: Any
    ) -> tuple[str, Ensemble]:
        name, tree = type(backend).__name__, OutputTree(tmp_path / "logs", tmp_path / "models")
        options = config.trainer.model_copy(update=trainer)
        changed = config.model_copy(update={"trainer": options})
        past = [] if members is None else [Mock(RoundResult, members=members)]
        profiler = Profiler(tmp_path, show=False)
        with open_run("round", "round_00", experiment=name, store=connect()) as run:
            lineage = Lineage(run.store)
            launch = Launch(changed, 1, backend, None, None, tree, profiler, run, lineage)
            rows = validation_rows(config, {0: np.ones(len(data), bool)}, 1)
            current = OpenRound(launch, round_, run, past)
            ensemble = train_ensemble(current, problem, arrays, rows)
        return run.run_id, ensemble

    return start


def test_repeated_epochs_are_one_point_of_a_curve(
    train: Callable[[Any], tuple[str, Ensemble]],
) -> None:
    run_id, ensemble = train(Twice())
    store = connect()
    members = tree(store, run_id).children
    assert [member.run_id for member in members] == list(ensemble.run_ids.values())
    for member in members:
        for key in ("train/loss", "val/loss"):
            history = store.client.get_metric_history(member.run_id, key)
            assert [point.step for point in history] == [1, 2, 3, 4]


def test_epochs_of_later_rounds_go_on_where_the_network_does_B14(
    train: Callable[..., tuple[str, Ensemble]], tmp_path: Path
) -> None:
    with make_backend() as backend:
        _, first = train(backend)
        _, second = train(backend, 1, first.folders)
        train(backend, 2, second.folders)
        train(backend, 3)
    for round_, step in enumerate((0, 4, 8, 0)):
        for path in (tmp_path / "logs" / f"round_{round_}").rglob("training_statistics*.json"):
            values = json.loads(path.read_text())
            assert values["training_loss"]["step"] == list(range(step, step + 4))
            assert values["validation_log_probs"]["step"] == list(range(step, step + 4))
            assert values["best_validation_loss"]["step"] == [round_ + 1]
            assert values["epochs_trained"] | {"wall_time": None} == {
                "step": [round_ + 1],
                "value": [4],
                "wall_time": None,
                "round": round_,
            }


@pytest.mark.parametrize(
    ("trainer", "told"),
    [
        ({}, "set trainer.retrain_from_scratch to false"),
        ({"type": "snre"}, "set trainer.retrain_from_scratch to false or append_simulations"),
        ({"type": "snre", "truncated_prior": True}, "or append_simulations to true"),
        ({"truncated_prior": True}, None),
        ({"type": "snre", "append_simulations": True}, None),
        ({"retrain_from_scratch": False}, None),
    ],
)
def test_networks_that_forget_what_earlier_rounds_saw_are_told(
    train: Callable[..., tuple[str, Ensemble]],
    caplog: pytest.LogCaptureFixture,
    trainer: dict[str, Any],
    told: str | None,
) -> None:
    """Likelihoods and ratios beyond the last proposal would be anything."""
    with make_backend() as backend:
        _, first = train(backend)
        assert not [text for text in caplog.messages if "this round alone" in text]
        train(backend, 1, first.folders, **{"retrain_from_scratch": True} | trainer)
    found = [text for text in caplog.messages if "this round alone" in text]
    assert len(found) == (told is not None)
    assert told is None or told in found[0]


def test_a_member_that_fails_is_named_and_the_others_keep_their_status(
    train: Callable[[Any], tuple[str, Ensemble]],
) -> None:
    with pytest.raises(TrainingError, match="member_01 of round 0: the loss became NaN"):
        train(Failing())
    store = connect()
    place = store.client.get_experiment_by_name("Failing").experiment_id
    runs = {run.info.run_name: run for run in store.client.search_runs([place])}
    status = {name: run.info.status for name, run in runs.items()}
    assert status == {"round_00": "FAILED", "member_00": "FINISHED", "member_01": "FAILED"}
    assert runs["member_01"].data.tags["mlpop.error"] == (
        "member_01 of round 0: the loss became NaN"
    )
