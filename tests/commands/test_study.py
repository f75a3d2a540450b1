"""A study from its file to its best experiment: trials, runs, figures, objectives, data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpop.commands.sbi import run_experiment
from mlpop.commands.study import run_study
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.study import StudyConfig
from mlpop.errors import TrackingError
from mlpop.experiment.resume.attempts import recorded_json
from mlpop.study.trial_runs import short
from mlpop.tracking import connect, tree, verify
from mlpop.tracking.params import logged_value

Values = dict[str, Any]


def test_all_trials_are_there_once(study) -> None:
    slots = [trial.slot for trial in study.result.trials]
    assert slots == list(range(14))
    names = [child.name for child in study.tree.children]
    assert names == [f"trial_{slot:03d}" for slot in slots]


def test_first_trial_is_the_users_experiment(study) -> None:
    first = study.result.trials[0]
    assert first.state == "complete"
    assert first.point == {
        "trainer.lr": 5e-3,
        "density_estimator.args.hidden_features": 16,
        "density_estimator.type": "mdn",
        "density_estimator.args.num_components": 2,
    }
    assert study.result.best.value <= first.value


def test_bad_trials_are_pruned_before_their_last_epoch(study) -> None:
    pruned = [trial for trial in study.result.trials if trial.state == "pruned"]
    assert pruned
    assert all(2 < trial.epochs < 8 for trial in pruned)
    assert all(len(trial.losses) == trial.epochs for trial in pruned)


def test_nan_is_recorded_with_its_reason(study) -> None:
    failed = [trial for trial in study.result.trials if trial.point["trainer.lr"] == 1e25]
    assert failed
    for trial in failed:
        assert trial.state == "failed"
        assert "the loss became NaN in epoch" in trial.reason
        (node,) = [n for n in study.tree.children if n.name == trial.name]
        assert node.status == "FAILED"
        assert node.error == trial.reason
    others = [trial for trial in study.result.trials if trial not in failed]
    assert {trial.state for trial in others} == {"complete", "pruned"}


def test_fields_that_mean_nothing_are_not_searched(study) -> None:
    for trial in study.result.trials:
        mixture = trial.point["density_estimator.type"] == "mdn"
        assert ("density_estimator.args.num_components" in trial.point) == mixture
    models = {trial.point["density_estimator.type"] for trial in study.result.trials}
    assert models == {"mdn", "maf"}


def test_runs_of_trials_can_be_compared(study) -> None:
    client = study.store.client
    for trial, node in zip(study.result.trials, study.tree.children, strict=True):
        run = client.get_run(node.run_id)
        params = {key.removeprefix("cfg."): value for key, value in run.data.params.items()}
        # a trial is a training: it has the parameters of a member, what is searched among them
        assert {path: params[path] for path in trial.point} == {
            path: logged_value(value) for path, value in trial.point.items()
        }
        maf = params["density_estimator.type"] == "maf"
        assert ("density_estimator.args.num_components" in params) == (not maf)
        assert {"trainer.batch_size", "seeds", "loss"} <= params.keys()
        if trial.state == "complete":
            assert params["parameters"] == str(trial.result["parameters"])
        assert run.data.tags["mlpop.study"] == study.result.run_id
        assert run.data.tags["optuna.trial"] == str(trial.number)
        assert run.data.tags["optuna.state"] == trial.state.upper()
        curve = client.get_metric_history(node.run_id, "val/loss")
        assert [point.step for point in curve] == list(range(1, trial.epochs + 1))
        assert [point.value for point in curve] == pytest.approx(list(trial.losses.values()))
        if trial.state == "complete":
            assert run.data.metrics["best_val_loss"] == pytest.approx(trial.value, rel=1e-5)
            assert run.data.metrics["parameters"] == trial.result["parameters"] > 0
            assert min(trial.losses.values()) == trial.value


def test_trials_know_their_runs(study) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    (tag,) = [study.tree.tags["mlpop.storage"]]
    storage = optuna.storages.JournalStorage(JournalFileBackend(tag))
    stored = optuna.load_study(study_name=study.result.run_id, storage=storage)
    found = {t.user_attrs["slot"]: t.user_attrs["run_id"] for t in stored.trials}
    assert found == {n: c.run_id for n, c in enumerate(study.tree.children)}


def test_study_run_has_everything(study) -> None:
    client, run_id = study.store.client, study.result.run_id
    assert verify(client, run_id) == []
    files = {item.path for item in client.list_artifacts(run_id)}
    assert files >= {"best_config.json", "study.json", "trials.json", "importances.json"}
    figures = {item.path for item in client.list_artifacts(run_id, "figures")}
    names = ("optimization_history", "slices", "parallel_coordinates", "importances")
    assert figures >= {f"figures/{name}.{suffix}" for name in names for suffix in ("png", "pdf")}
    metrics = client.get_run(run_id).data.metrics
    assert metrics["study/best_loss"] == pytest.approx(study.result.best.value, rel=1e-5)
    assert metrics["study/default_loss"] == pytest.approx(study.result.trials[0].value, rel=1e-5)
    pruned = [trial for trial in study.result.trials if trial.state == "pruned"]
    # as it is logged: six digits
    assert metrics["study/pruned_fraction"] == float(f"{len(pruned) / 14:.6g}")
    assert sum(study.result.importances["all"].values()) == pytest.approx(1, abs=1e-3)
    note = study.tree.tags["mlflow.note.content"]
    # MLflow folds away what comes later
    assert note.startswith("**Best validation loss ")
    assert study.result.best.name in note.splitlines()[0]
    assert "failed: TrainingError" in note


def test_best_config_is_an_experiment_that_runs(study, at_work: Path) -> None:
    values = recorded_json(study.store, study.result.run_id, "best_config.json")
    assert json.loads(study.result.best_config.read_text()) == values
    config = SbiConfig.parse(values)
    best = study.result.best
    assert config.trainer.lr == best.point["trainer.lr"]
    assert config.density_estimator.type == best.point["density_estimator.type"]
    assert config.prior_ranges == SbiConfig.parse(study.config.base).prior_ranges
    values["trainer"]["max_num_epochs"] = 1
    values["test_data_loader"]["testing"] = False
    result = run_experiment(SbiConfig.parse(values))
    (first,) = result.rounds
    # the data of the study and of the experiment are the same simulations
    source = {
        d.dataset.digest
        for run_id in (first.run_id, study.result.run_id)
        for d in study.store.client.get_run(run_id).inputs.dataset_inputs
        if d.dataset.name == "training"
    }
    assert len(source) == 1


@pytest.mark.parametrize("dask", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_workers_share_a_study(
    dask: bool, study_values: Callable[..., Values], at_work: Path, tmp_path: Path
) -> None:
    values = study_values(tmp_path, n_workers=2, n_trials=6, name="two", enable_dask=dask)
    config = StudyConfig.parse(values)
    result = run_study(config)
    assert [trial.slot for trial in result.trials] == list(range(6))
    assert len({trial.number for trial in result.trials}) == 6
    nodes = tree(connect(), result.run_id).children
    assert len(nodes) == 6
    assert all("mlpop.attempt" not in node.tags for node in nodes)
    points = [json.dumps(trial.point, sort_keys=True) for trial in result.trials]
    assert len(set(points)) > 3


def test_two_objectives_give_a_front(
    study_values: Callable[..., Values], at_work: Path, tmp_path: Path
) -> None:
    values = study_values(tmp_path, n_trials=5, second_objective="parameters", name="front")
    values["space"] = values["space"] | {
        "trainer.lr": {"type": "float", "low": 1e-3, "high": 1e-2}
    }
    del values["pruner"]
    result = run_study(StudyConfig.parse(values))
    front = recorded_json_list(result.run_id, "pareto.json")
    losses, weights = zip(*(trial["values"] for trial in front), strict=True)
    assert list(losses) == sorted(losses)
    assert list(weights) == sorted(weights, reverse=True)
    assert front[0]["slot"] == result.best.slot
    for trial in result.trials:
        assert any(
            loss <= trial.values[0] and size <= trial.values[1]
            for loss, size in zip(losses, weights, strict=True)
        )
    files = connect().client.list_artifacts(result.run_id, "figures")
    assert "figures/pareto_front.png" in {item.path for item in files}


def recorded_json_list(run_id: str, name: str) -> list[Values]:
    from mlpop.tracking.artifacts import fetched

    with fetched(connect().client, run_id, name) as path:
        return list(json.loads(path.read_text()))


def test_given_data_and_rounds_of_a_run(
    vectors: Callable[..., Values],
    study_values: Callable[..., Values],
    at_work: Path,
    tmp_path: Path,
) -> None:
    short = {"training_data_loader__num_sim": 60, "trainer__max_num_epochs": 1}
    result = run_experiment(SbiConfig.parse(vectors(tmp_path / "sbi", **short)))
    (folder,) = (tmp_path / "sbi").glob("data/training_dataset/generated_dataset/*")
    for dataset in ({"run": result.run_id}, {"folder": str(folder)}):
        values = study_values(tmp_path, n_trials=2, dataset=dataset, max_num_epochs=2)
        done = run_study(StudyConfig.parse(values))
        inputs = connect().client.get_run(done.run_id).inputs.dataset_inputs
        (source,) = {json.loads(item.dataset.source)["uri"] for item in inputs}
        assert Path(source).parent == folder
        assert all(trial.epochs <= 2 for trial in done.trials)
        assert np.isfinite(done.trials[0].value)
    values = study_values(tmp_path, dataset={"run": result.run_id, "rounds": [3]})
    with pytest.raises(TrackingError, match="no complete round 3; complete rounds: 0"):
        run_study(StudyConfig.parse(values))


def test_timeout_starts_no_further_trial(
    study_values: Callable[..., Values], at_work: Path, tmp_path: Path
) -> None:
    config = StudyConfig.parse(study_values(tmp_path, timeout=1e-3, name="short", n_trials=3))
    with pytest.raises(Exception, match="none of 0 trials was complete"):
        run_study(config)


def test_command_takes_the_best_experiment_by_its_uri(
    study, at_work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from mlpop.cli.main import cli

    found = []
    monkeypatch.setattr("mlpop.commands.sbi.run_experiment", found.append)
    uri = f"runs:/{study.result.run_id}/best_config.json"
    done = CliRunner().invoke(cli, ["sbi", "-c", uri, "--set", "name=again"])
    assert done.exception is None, done.output
    (config,) = found
    assert config.name == "again"
    assert config.trainer.lr == study.result.best.point["trainer.lr"]
    for wrong in ("runs:/", "runs:/abc", f"runs:/{study.result.run_id}/nothing.json"):
        done = CliRunner().invoke(cli, ["sbi", "-c", wrong])
        assert done.exception is not None
        assert type(done.exception).__name__ in ("ConfigError", "TrackingError")


def test_short_names_stay_clear() -> None:
    point = {
        "arch.type": "a",
        "density_estimator.type": "mdn",
        "trainer.lr": 0.00012345678,
        "arch.args.width": 1,
        "density_estimator.args.width": 2,
    }
    assert short(point) == {
        "arch.type": "a",
        "density_estimator.type": "mdn",
        "lr": 0.000123457,
        "arch.args.width": 1,
        "density_estimator.args.width": 2,
    }
