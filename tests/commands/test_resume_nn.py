"""Interrupted trainings go on from their lineage, bit for bit."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from point_data import LABELS, draw_theta, write_dataset

from mlpop.commands.train_nn import resume_train_nn, train_nn
from mlpop.errors import ConfigError, DataError, TrackingError
from mlpop.experiment.tracked_training import TrackedTraining
from mlpop.tracking import connect, tree
from mlpop.training.events import CheckpointWritten, EpochEnded

pytestmark = pytest.mark.usefixtures("light")

NAMES = ("train_results.json", "train_eval_results.json", "valid_results.json")


class PowerCut(BaseException):
    """Ends a training in the middle."""


def cut_after(monkeypatch, trial, epoch, *, saved=False):
    """Let trial `trial` end after epoch `epoch`, or after its checkpoint, once."""
    hear = TrackedTraining.hear
    done = []

    def cutting(training, event):
        hear(training, event)
        number = event.epoch if isinstance(event, CheckpointWritten) else 0
        if isinstance(event, EpochEnded) and not saved:
            number = event.record.epoch
        name = f"trial_{trial - 1:02d}"
        if training.run.name == name and number == epoch and not done:
            done.append(epoch)
            raise PowerCut

    monkeypatch.setattr(TrackedTraining, "hear", cutting)


def contents(result):
    """SHA-256 of every result and model file that must not depend on interruptions."""
    paths = [result.logs / name for name in NAMES]
    paths += sorted(result.models.glob("*.pth"))
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths if _timeless(p)}


def _timeless(path: Path) -> bool:
    # checkpoints carry the seconds of every epoch
    return not path.name.startswith("checkpoint_")


def newest_run():
    store = connect()
    place = store.client.get_experiment_by_name("points").experiment_id
    runs = store.client.search_runs([place], "tags.`mlpop.kind` = 'train_nn'")
    return max(runs, key=lambda run: run.info.start_time).info.run_id


@pytest.mark.parametrize(
    ("trial", "epoch", "every"), [(1, 1, 0.0), (1, 3, 0.0), (2, 2, 0.0), (2, 2, 1e6)]
)
def test_resumed_training_has_the_bits_of_an_uninterrupted_one(
    configuration, monkeypatch, trial, epoch, every
):
    options = dict(
        trainer__epochs=4,
        trainer__checkpoint_seconds=every,
        lr_scheduler={"type": "StepLR", "args": {"step_size": 2}},
    )
    whole = train_nn(configuration(**options))
    cut_after(monkeypatch, trial, epoch, saved=every == 0)
    config = configuration(**options)
    with pytest.raises(PowerCut):
        train_nn(config)
    run_id = newest_run()
    store = connect()
    node = tree(store, run_id)
    assert node.status == "FAILED"
    resumed = resume_train_nn(run_id)
    assert resumed.run_id == run_id
    assert contents(resumed) == contents(whole)
    node = tree(store, run_id)
    assert (node.status, node.state) == ("FINISHED", "complete")
    assert [child.name for child in node.children] == ["trial_00", "trial_01"]
    assert {child.state for child in node.children} == {"complete"}
    again = [child for child in node.children if child.tags.get("mlpop.attempt")]
    assert [child.name for child in again] == [f"trial_{trial - 1:02d}"]
    for child in node.children:
        for key in ("train/loss", f"valid/{LABELS[1]}", "lr"):
            steps = [p.step for p in store.client.get_metric_history(child.run_id, key)]
            assert steps == [1, 2, 3, 4]


def test_resume_last_finds_the_newest_unfinished_one(configuration, monkeypatch):
    cut_after(monkeypatch, 1, 1)
    config = configuration(trials=1, trainer__epochs=2, name="lasting")
    with pytest.raises(PowerCut):
        train_nn(config)
    result = resume_train_nn("last", config)
    assert result.chosen.epochs == 2
    with pytest.raises(TrackingError, match="no unfinished train_nn run named 'lasting'"):
        resume_train_nn("last", config)
    with pytest.raises(TrackingError, match="run 'lasting' is complete"):
        resume_train_nn(result.run_id)


def test_changed_configuration_is_refused_with_the_fields(configuration, monkeypatch):
    cut_after(monkeypatch, 1, 1)
    with pytest.raises(PowerCut):
        train_nn(configuration(trials=1, trainer__epochs=2))
    run_id = newest_run()
    changed = configuration(
        trials=1,
        trainer__epochs=3,
        optimizer__args__lr=2e-3,
        trainer__verbosity=1,
        training_data_loader__args__num_workers=2,
    )
    with pytest.raises(ConfigError) as caught:
        resume_train_nn(run_id, changed)
    message = str(caught.value)
    assert "trainer.epochs: 2 in the run, 3 now" in message
    assert "optimizer.args.lr: 0.001 in the run, 0.002 now" in message
    assert "verbosity" not in message
    assert "num_workers" not in message
    more = resume_train_nn(run_id, configuration(trials=2, trainer__epochs=2))
    assert len(more.trials) == 2


def test_changed_data_are_refused(configuration, monkeypatch, tmp_path):
    csv = write_dataset(tmp_path, "own", draw_theta(20, 7))
    path = {"training_data_loader__args__dataset_path": str(csv)}
    cut_after(monkeypatch, 1, 1)
    with pytest.raises(PowerCut):
        train_nn(configuration(trials=1, **path))
    write_dataset(tmp_path, "own", draw_theta(20, 8))
    with pytest.raises(DataError, match="the training set is not the one"):
        resume_train_nn(newest_run())


def test_files_are_brought_back_on_another_machine(configuration, monkeypatch):
    """The run tree is enough: the output folder of the first launch is gone."""
    import shutil

    options = dict(trainer__epochs=3, trainer__checkpoint_seconds=0.0)
    whole = train_nn(configuration(**options))
    cut_after(monkeypatch, 2, 2, saved=True)
    config = configuration(**options)
    with pytest.raises(PowerCut):
        train_nn(config)
    run_id = newest_run()
    node = tree(connect(), run_id)
    for tag in ("mlpop.save_dir", "mlpop.log_dir"):
        shutil.rmtree(node.tags[tag])
    resumed = resume_train_nn(run_id)
    assert contents(resumed) == contents(whole)
    assert (resumed.logs / "trial_1" / "valid_results.json").is_file()


def test_resume_from_another_folder_goes_on_in_the_same_tree(configuration, monkeypatch, tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    config = configuration(trials=1, trainer__epochs=2, trainer__save_dir="output")
    cut_after(monkeypatch, 1, 1)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(PowerCut):
        train_nn(config)
    monkeypatch.chdir(tmp_path / "there")
    resumed = resume_train_nn(newest_run())
    assert resumed.models.is_relative_to(tmp_path / "here/output")
    assert not (tmp_path / "there/output").exists()


def test_run_of_mlflow_run_becomes_an_attempt(configuration, monkeypatch):
    cut_after(monkeypatch, 1, 1)
    with pytest.raises(PowerCut):
        train_nn(configuration(trials=1, trainer__epochs=2))
    run_id = newest_run()
    client = connect().client
    fresh = client.create_run(client.get_run(run_id).info.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", fresh)
    result = resume_train_nn(run_id)
    assert result.run_id == run_id
    assert "MLFLOW_RUN_ID" not in os.environ
    children = {child.kind: child for child in tree(connect(), run_id).children}
    assert children["attempt"].run_id == fresh
    assert children["attempt"].name == "attempt_02"


def test_sigterm_ends_in_good_order_and_resume_goes_on(data, tmp_path, tracked):
    import json

    from point_data import document

    options = dict(trials=1, trainer__epochs=4000, trainer__checkpoint_seconds=0.0)
    options |= dict(name="stopped", trainer__early_stop=None)
    values = document(data, tmp_path / "output", **options)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    process = subprocess.Popen(
        [sys.executable, "-m", "mlpop", "train-nn", "--configuration", str(path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "output").rglob("valid_results.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    store = connect()
    place = store.client.get_experiment_by_name("stopped").experiment_id
    runs = store.client.search_runs([place])
    assert {run.info.status for run in runs} == {"KILLED"}
    top = next(run for run in runs if run.data.tags["mlpop.kind"] == "train_nn")
    (child,) = tree(store, top.info.run_id).children
    names = {item.path for item in store.client.list_artifacts(child.run_id)}
    assert "checkpoint.pth" in names
