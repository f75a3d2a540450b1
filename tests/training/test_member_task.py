import json
import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mlpop.config.blocks.training import TrainerConfig, TrainingOptions
from mlpop.errors import DataError
from mlpop.inference.estimators.cube import probit
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.estimators.store import load_ensemble, load_estimator, read_record
from mlpop.networks.rng import generator_from_seed
from mlpop.training.events import CheckpointWritten, EpochEnded, Started
from mlpop.training.fit import validation_split
from mlpop.training.member_task import MemberTask, train_member

SPEC = EstimatorSpec.parse(
    {
        "hidden_features": 8,
        "num_components": 2,
        "x_shape": [2, 8, 8],
        "dimension": 1,
        "embedding": {
            "type": "ModelConvSBIshallow",
            "args": {"input_shape": [2, 8, 8], "len_output_layer": 4},
            "initializer": "InitializerXavier",
        },
    }
)
OPTIONS = TrainingOptions(batch_size=16, max_num_epochs=3)
ALWAYS_SAVED = OPTIONS.model_copy(update={"checkpoint_seconds": 0.0})


@pytest.fixture
def tasks(tmp_path):
    """Two members on memory-mapped maps whose level is theta."""
    rng = np.random.default_rng(0)
    theta = rng.random((64, 1), np.float32)
    x = (2 * theta[:, :, None, None] - 1 + rng.standard_normal((64, 2, 8, 8))).astype(np.float32)
    np.save(tmp_path / "theta.npy", theta)
    np.save(tmp_path / "x.npy", x)
    return [
        MemberTask(
            folder=str(tmp_path / f"member_{j}"),
            theta_path=str(tmp_path / "theta.npy"),
            x_path=str(tmp_path / "x.npy"),
            validation=tuple(validation_split(64, 0.25, generator_from_seed(0)).tolist()),
            spec=SPEC,
            options=OPTIONS,
            init_seed=1 + 2 * j,
            training_seed=2 + 2 * j,
            data_digest="d",
        )
        for j in range(2)
    ]


def _weights(folder):
    estimator, _ = load_estimator(Path(folder))
    return estimator.state_dict()


def _same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_members_train_save_and_report(tasks, tmp_path):
    events = []
    result = train_member(tasks[0], events.append)
    assert result.folder == str(tmp_path / "member_0")
    assert events[0] == Started(())
    assert events[-1] == CheckpointWritten(3)
    assert [event.record for event in events[1:-1]] == list(result.history)
    assert [record.epoch for record in result.history] == [1, 2, 3]
    assert [pickle.loads(pickle.dumps(event)) for event in events] == events
    assert result.best_loss == min(record.val_loss for record in result.history)
    assert result.stopped == "max_num_epochs"
    train_member(tasks[1])
    assert not _same(_weights(tmp_path / "member_0"), _weights(tmp_path / "member_1"))
    assert pickle.loads(pickle.dumps(result)) == result


def test_same_bits_in_a_worker_process(tasks, tmp_path):
    train_member(tasks[0])
    here = _weights(tmp_path / "member_0")
    (tmp_path / "member_0").rename(tmp_path / "kept")
    assert len(pickle.dumps(tasks[0])) < 5000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result = pool.apply(train_member, (tasks[0],))
    assert result.resumed_from == 0
    assert _same(_weights(tmp_path / "member_0"), here)


def test_killed_member_goes_on_bit_identically(tasks, tmp_path):
    whole = train_member(tasks[0])
    expected = _weights(tmp_path / "member_0")
    (tmp_path / "member_0").rename(tmp_path / "kept")

    class Killed(Exception):
        pass

    def kill(event):
        if isinstance(event, EpochEnded) and event.record.epoch == 3:
            raise Killed

    task = replace(tasks[0], options=ALWAYS_SAVED)
    with pytest.raises(Killed):
        train_member(task, kill)
    assert not (tmp_path / "member_0" / "estimator.json").exists()
    events = []
    result = train_member(task, events.append)
    assert result.resumed_from == 2
    assert [record.epoch for record in events[0].history] == [1, 2]
    assert [event.record.epoch for event in events if isinstance(event, EpochEnded)] == [3]
    assert [r.val_loss for r in result.history] == [r.val_loss for r in whole.history]
    assert _same(_weights(tmp_path / "member_0"), expected)


def test_checkpoint_of_other_data_is_not_continued(tasks):
    train_member(tasks[0])
    changed = replace(tasks[0], data_digest="other")
    assert train_member(changed).resumed_from == 0
    assert train_member(changed).resumed_from == 3


def test_fingerprint_leaves_out_how_long_and_how_often(tasks):
    """A trainer's other fields, such as its folders, have no part in it either."""
    trainer = TrainerConfig(batch_size=16, max_num_epochs=9, checkpoint_seconds=1.0)
    assert replace(tasks[0], options=trainer).fingerprint == tasks[0].fingerprint
    faster = OPTIONS.model_copy(update={"lr": 1e-3})
    assert replace(tasks[0], options=faster).fingerprint != tasks[0].fingerprint


def test_longer_training_goes_on(tasks):
    train_member(tasks[0])
    longer = OPTIONS.model_copy(update={"max_num_epochs": 5})
    result = train_member(replace(tasks[0], options=longer))
    assert result.resumed_from == 3
    assert len(result.history) == 5


def test_checkpoint_events_come_when_it_is_on_disk(tasks, tmp_path):
    """What hears them can send the checkpoint away at once."""
    seen = []

    def hear(event):
        if isinstance(event, CheckpointWritten):
            index = tmp_path / "member_0" / "checkpoint" / "checkpoint.json"
            seen.append((event.epoch, json.loads(index.read_text())["epoch"]))

    train_member(replace(tasks[0], options=ALWAYS_SAVED), hear)
    assert seen == [(1, 1), (2, 2), (3, 3), (3, 3)]


def test_start_from_trained_weights(tasks, tmp_path):
    first = train_member(tasks[0])
    second = replace(tasks[0], folder=str(tmp_path / "next"), start_from=first.folder)
    result = train_member(second)
    assert result.history[0].train_loss < first.history[0].train_loss
    third = train_member(replace(second, folder=str(tmp_path / "last"), start_from=result.folder))
    assert [r.earlier_epochs for r in (first, result, third)] == [0, 3, 6]
    other = SPEC.model_copy(update={"hidden_features": 9})
    with pytest.raises(DataError, match="another specification"):
        train_member(replace(second, spec=other, data_digest="x"))


def test_start_from_keeps_the_standardization_of_its_own_round(tasks, tmp_path):
    """Later rounds have narrower theta; the networks go on seeing what they know."""
    flow = SPEC.model_copy(update={"model": "nsf", "num_transforms": 2, "num_bins": 3})
    task = replace(tasks[0], spec=flow)
    first = train_member(task)
    wide = probit(torch.from_numpy(np.load(tmp_path / "theta.npy")))
    np.save(tmp_path / "narrow.npy", torch.special.ndtr(0.1 * wide).numpy())
    narrow = replace(task, folder=str(tmp_path / "next"), theta_path=str(tmp_path / "narrow.npy"))
    train_member(replace(narrow, start_from=first.folder))
    train_member(replace(narrow, folder=str(tmp_path / "new")))
    kept, (name,) = _weights(tmp_path / "next"), ["net.net.net._transform._transforms.0._scale"]
    assert torch.equal(kept[name], _weights(first.folder)[name])
    torch.testing.assert_close(_weights(tmp_path / "new")[name], 10 * kept[name])


@pytest.mark.parametrize("loss", ["maximum_likelihood", "atomic"])
def test_warm_start_killed_goes_on_bit_identically(tasks, tmp_path, loss):
    start = train_member(tasks[0]).folder
    task = replace(tasks[0], start_from=start, loss=loss, num_atoms=4, options=ALWAYS_SAVED)
    whole = train_member(replace(task, folder=str(tmp_path / "whole")))

    def kill(event):
        if isinstance(event, EpochEnded) and event.record.epoch == 2:
            raise KeyboardInterrupt

    task = replace(task, folder=str(tmp_path / "killed"))
    with pytest.raises(KeyboardInterrupt):
        train_member(task, kill)
    result = train_member(task)
    assert result.resumed_from == 1
    assert [r.val_loss for r in result.history] == [r.val_loss for r in whole.history]
    assert _same(_weights(tmp_path / "killed"), _weights(tmp_path / "whole"))
    assert read_record(tmp_path / "killed")["record"]["loss"] == loss


def test_fingerprint_covers_loss_atoms_and_the_weights_to_start_from(tasks, tmp_path):
    task = tasks[0]
    atomic = replace(task, loss="atomic")
    assert replace(task, num_atoms=5).fingerprint == task.fingerprint
    assert len({t.fingerprint for t in (task, atomic, replace(atomic, num_atoms=5))}) == 3
    first, second = (Path(train_member(each).folder) for each in tasks)
    starts = [replace(task, start_from=str(folder)).fingerprint for folder in (first, second)]
    assert len({task.fingerprint, *starts}) == 3
    first.rename(tmp_path / "elsewhere")
    moved = replace(task, start_from=str(tmp_path / "elsewhere"))
    assert moved.fingerprint == starts[0]


@pytest.mark.parametrize(
    ("kind", "model", "ran"),
    [("likelihood", "maf", "maximum_likelihood"), ("ratio", "resnet", "contrastive")],
)
def test_members_of_every_kind_S01(tmp_path, kind, model, ran):
    rng = np.random.default_rng(0)
    theta = rng.random((60, 2), np.float32)
    np.save(tmp_path / "theta.npy", theta)
    np.save(tmp_path / "x.npy", 2 * theta - 1 + 0.1 * rng.standard_normal(theta.shape))
    spec = EstimatorSpec(kind=kind, model=model, hidden_features=8, x_shape=(2,), dimension=2)
    task = MemberTask(
        folder=str(tmp_path / "member"),
        theta_path=str(tmp_path / "theta.npy"),
        x_path=str(tmp_path / "x.npy"),
        validation=tuple(validation_split(60, 0.2, generator_from_seed(0)).tolist()),
        spec=spec,
        options=OPTIONS,
        init_seed=1,
        training_seed=2,
        num_atoms=5,
    )
    result = train_member(task)
    (loaded,) = load_ensemble([Path(result.folder)])
    assert loaded.kind == kind
    assert read_record(Path(result.folder))["record"]["loss"] == ran
    with pytest.raises(DataError, match=f"a {kind} needs no correction"):
        train_member(replace(task, loss="atomic"))


def test_missing_data_name_the_file(tasks, tmp_path):
    (tmp_path / "x.npy").unlink()
    with pytest.raises(DataError, match=r"x\.npy: cannot be read"):
        train_member(tasks[0])
