"""A launch of any command: what it records, and what remains of one that fails."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from mlpop.errors import DataError, MlpopError, TrackingError
from mlpop.experiment import session as module
from mlpop.experiment.session import session
from mlpop.io.errors import StoreAway
from mlpop.tracking import connect, find, tree, verify
from mlpop.tracking.outages import KEPT

CONFIG = {"name": "launch", "trainer": {"lr": 0.1}}


@pytest.fixture(autouse=True)
def quick(at_work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of installed packages takes seconds."""
    monkeypatch.setattr(module, "record_provenance", lambda run: {"mlpop.version": "1"})


def launch(folder: Path, **options: Any) -> Any:
    return session("study", "launch", CONFIG, config_file="c.json", save_dir=folder, **options)


def artifacts_of(run_id: str) -> dict[str, str]:
    client = connect().client
    names = [item.path for item in client.list_artifacts(run_id) if not item.is_dir]
    folder = Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    return {name: (folder / name).read_text() for name in names}


def test_launch_is_recorded_and_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with launch(Path("output"), root_seed=7, params={"n_trials": 2}, tags={"mlpop.x": "y"}) as one:
        logging.getLogger("mlpop").info("half way")
        one.files["result.txt"] = one.tree.logs / "result.txt"
        one.files["result.txt"].write_text("42")
        running = connect().client.get_run(one.run.run_id)
    assert running.data.tags["mlpop.state"] == "running"
    run = connect().client.get_run(one.run.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"cfg.n_trials": "2", "cfg.root_seed": "7"}
    tags = run.data.tags
    assert (tags["mlpop.x"], tags["mlpop.root_seed"]) == ("y", "7")
    assert tags["mlpop.state"] == "complete"
    assert tags["mlpop.save_dir"] == str(one.tree.models)
    assert tags["mlpop.log_dir"] == str(one.tree.logs)
    assert one.tree.models.is_relative_to(tmp_path / "output/models/launch")
    stored = artifacts_of(one.run.run_id)
    assert stored.keys() == {"c.json", "log.txt", "result.txt", "COMPLETE.json"}
    assert json.loads(stored["c.json"]) == CONFIG
    assert (one.tree.models / "c.json").read_text() == stored["c.json"]
    for part in ("root seed 7", f"Run     {one.run.run_id}", "half way"):
        assert part in stored["log.txt"]
    assert verify(connect().client, one.run.run_id) == []


def test_inference_has_one_folder(tmp_path: Path) -> None:
    with launch(tmp_path, models=False) as one:
        pass
    assert (one.tree.logs / "c.json").is_file()
    assert "mlpop.save_dir" not in tree(connect(), one.run.run_id).tags
    assert not (tmp_path / "models").exists()


def test_failed_launch_keeps_its_log_and_says_how_to_go_on(tmp_path: Path) -> None:
    def fails() -> None:
        logging.getLogger("mlpop").info("what went before")
        raise TrackingError("gone") from StoreAway("no connection")

    with pytest.raises(TrackingError, match="gone") as caught, launch(tmp_path) as one:
        fails()
    assert KEPT in str(caught.value)
    assert "what went before" in artifacts_of(one.run.run_id)["log.txt"]
    node = tree(connect(), one.run.run_id)
    assert (node.status, node.state) == ("FAILED", "stopped")
    assert KEPT in node.error


@pytest.mark.parametrize("kind", [DataError, TrackingError])
@pytest.mark.parametrize("reason", ["No space left on device", "database or disk is full"])
def test_launch_that_fills_its_disk_says_how_to_go_on(
    tmp_path: Path, kind: type[MlpopError], reason: str
) -> None:
    with pytest.raises(kind, match="make room") as caught, launch(tmp_path) as one:
        raise kind(f"x.npy: cannot be written: {reason}")
    assert KEPT in str(caught.value)
    assert tree(connect(), one.run.run_id).error == str(caught.value)


def test_resume_goes_on_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataError), launch(Path("output")) as first:
        raise DataError("interrupted")
    monkeypatch.chdir(tmp_path / "there")
    root = tree(connect(), first.run.run_id)
    with launch(Path("output"), resumed=root) as second:
        pass
    assert second.run.run_id == first.run.run_id
    assert second.tree == first.tree
    assert not (tmp_path / "there/output").exists()


def test_curves_of_earlier_processes_are_sent(tmp_path: Path) -> None:
    store = connect()
    with launch(tmp_path) as one:
        pass
    spill = store.spill_folder / f"{one.run.run_id}.jsonl"
    spill.parent.mkdir(parents=True, exist_ok=True)
    spill.write_text(json.dumps(["val/loss", 0.5, 1_700_000_000_000, 3]) + "\n")
    with launch(tmp_path):
        pass
    history = store.client.get_metric_history(one.run.run_id, "val/loss")
    assert [(point.step, point.value) for point in history] == [(3, 0.5)]
    assert not spill.exists()


def test_store_is_checked_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise TrackingError("artifacts cannot be written")

    monkeypatch.setattr(module, "check_artifacts", refused)
    with pytest.raises(TrackingError, match="cannot be written"), launch(tmp_path):
        raise AssertionError("the work began")
    assert not any(tmp_path.iterdir())
    newest = find(connect(), {"mlpop.name": "launch"})[0]
    assert newest.info.status == "FAILED"
