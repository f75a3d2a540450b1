"""A study that dies goes on: no trial is lost or run twice, and the result is the same."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from mlpop.commands import study as study_launch
from mlpop.commands.study import resume_study, run_study
from mlpop.config.files.study import StudyConfig
from mlpop.errors import ConfigError, TrackingError
from mlpop.study.storage import open_storage, records
from mlpop.tracking import connect, find, tree, verify

Values = dict[str, Any]


def stop_after(monkeypatch: pytest.MonkeyPatch, trials: int) -> None:
    """Let the driver die when this trial has ended in Optuna and before MLflow hears of it."""
    from mlpop.study.trial_runs import TrialRuns

    end = TrialRuns.end

    def dying(self: TrialRuns, record: Any) -> None:
        if record.slot == trials:
            raise KeyboardInterrupt
        end(self, record)

    monkeypatch.setattr(TrialRuns, "end", dying)


@pytest.mark.parametrize("slot", [0, 4])
def test_resumed_study_is_the_uninterrupted_one(
    slot: int,
    study,
    study_values: Callable[..., Values],
    at_work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"interrupted-{slot}"
    config = StudyConfig.parse(study_values(tmp_path, name=name))
    with monkeypatch.context() as patch:
        stop_after(patch, slot)
        with pytest.raises(KeyboardInterrupt):
            run_study(config)
    (root,) = find(connect(), {"mlpop.kind": "study", "mlpop.name": name})
    assert root.info.status == "KILLED"
    result = resume_study("last", StudyConfig.parse(study_values(tmp_path, name=name)))
    assert result.run_id == root.info.run_id
    found, expected = (
        [(t.slot, t.state, t.values, t.point, t.epochs, dict(t.losses)) for t in trials]
        for trials in (result.trials, study.result.trials)
    )
    assert found == expected
    nodes = tree(connect(), result.run_id).children
    assert [node.name for node in nodes] == [trial.name for trial in study.result.trials]
    assert {node.status for node in nodes} == {"FINISHED", "FAILED"}


def ended(journal: Path, study_name: str) -> list[Any]:
    try:
        storage = open_storage(None, journal)
        return records(optuna.load_study(study_name=study_name, storage=storage))
    except KeyError:
        return []


@pytest.mark.parametrize(
    "seed",
    [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 9))],
)
def test_killed_study_loses_no_trial_and_runs_none_twice(
    seed: int,
    process_environment: dict[str, str],
    study_values: Callable[..., Values],
    at_work: Path,
    tmp_path: Path,
) -> None:
    moment = random.Random(seed)
    name, count = f"killed-{seed}-{tmp_path.name}", 6
    values = study_values(tmp_path / "output", name=name, n_trials=count, n_workers=2)
    values["base"]["trainer"]["max_num_epochs"] = 20
    file = tmp_path / "study.json"
    file.write_text(json.dumps(values))
    wanted = moment.randint(5, 60)

    def reached() -> bool:
        files = list((at_work / "mlruns" / "optuna").glob(f"{name}-*.log"))
        # each line of the journal is one operation; a trial takes up to 30
        return bool(files) and files[0].read_bytes().count(b"\n") > wanted

    with (tmp_path / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlpop", "study", "--configuration", str(file)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=process_environment,
        )
        try:
            deadline = time.monotonic() + 300
            while not reached():
                assert process.poll() is None, (tmp_path / "output.txt").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(moment.uniform(0, 0.1))
        finally:
            workers = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    (root,) = find(connect(), {"mlpop.kind": "study", "mlpop.name": name})
    run_id = root.info.run_id
    journal = at_work / "mlruns" / "optuna" / f"{name}-{run_id}.log"
    before = {record.slot: record for record in ended(journal, run_id)}
    assert len(before) < count

    result = resume_study(run_id)
    assert [record.slot for record in result.trials] == list(range(count))
    for record in result.trials:
        if record.slot in before:
            assert record == before[record.slot]
    store = connect()
    nodes = tree(store, run_id).children
    assert [node.name for node in nodes] == [record.name for record in result.trials]
    for record, node in zip(result.trials, nodes, strict=True):
        assert node.status == ("FAILED" if record.state == "failed" else "FINISHED")
        assert node.tags["optuna.trial"] == str(record.number)
        if record.slot in before:
            assert int(node.tags.get("mlpop.attempt", "1")) <= 2
        curve = store.client.get_metric_history(node.run_id, "val/loss")
        assert [point.step for point in curve] == list(range(1, record.epochs + 1))
    assert verify(store.client, run_id) == []
    with pytest.raises(TrackingError, match="is complete"):
        resume_study(run_id)


def test_changed_study_is_not_resumed(
    study_values: Callable[..., Values],
    at_work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    values = study_values(Path("output"), name="changing")
    with monkeypatch.context() as patch:
        patch.setattr(study_launch, "study_data", away)
        with pytest.raises(KeyboardInterrupt):
            run_study(StudyConfig.parse(values))
    (root,) = find(connect(), {"mlpop.kind": "study", "mlpop.name": "changing"})
    # a resume may be started from anywhere
    assert Path(root.data.tags["mlpop.save_dir"]).is_relative_to(tmp_path / "output")
    other = StudyConfig.parse(values | {"sampler": {"type": "random"}})
    with pytest.raises(ConfigError, match=r'sampler.type: "tpe" in the run, "random" now'):
        resume_study("last", other)
    fewer = StudyConfig.parse(values | {"n_trials": 3})
    with pytest.raises(ConfigError, match="n_trials: 14 in the run, 3 now"):
        resume_study("last", fewer)
    more = StudyConfig.parse(values | {"n_trials": 15, "n_workers": 2})
    assert len(resume_study("last", more).trials) == 15
