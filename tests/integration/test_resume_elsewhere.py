"""A resume on a machine that has nothing but the tracking store and the credentials (S25)."""

import json
import os
import shutil
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from object_store import BUCKET, ObjectStoreServer
from resume_checks import check_tree, experiment_called, results

from mlpop.config.fields import S3Uri
from mlpop.tracking import Store, connect, find
from mlpop.tracking.artifacts import listed

EPOCHS = 6


@pytest.fixture
def process_environment(
    object_store: ObjectStoreServer, process_environment: dict[str, str]
) -> dict[str, str]:
    """Environment of processes that know the object store."""
    return process_environment | object_store.environment


def finished_shards(store: Store, name: str) -> int:
    """Return how many training shards the second round keeps in its artifacts."""
    if not find(store, {"mlpop.kind": "experiment", "mlpop.name": name}):
        return 0
    rounds = [node for node in experiment_called(store, name).children if node.round == 1]
    return sum(len(listed(store.client, node.run_id, "training/shards")) for node in rounds)


@pytest.mark.slow
def test_experiment_that_is_killed_goes_on_where_there_is_no_file_of_it_S25(
    object_store: ObjectStoreServer,
    launch: Callable[..., Any],
    at_work: Path,
    vectors: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = connect()

    def started(name: str) -> Any:
        place = S3Uri(f"s3://{BUCKET}/{uuid.uuid4().hex}")
        store.client.create_experiment(name, artifact_location=str(place / "artifacts"))
        machine = tmp_path / name
        machine.mkdir()
        values = vectors(
            Path("output"),
            name=name,
            n_processes=2,
            training_data_loader__num_sim=60,
            simulator={"type": "slow_simulator:SlowGaussian", "args": {"seconds": 0.1}},
            compute__simulations_per_task=4,
            trainer__num_rounds=2,
            trainer__truncated_prior=True,
            trainer__append_simulations=True,
            trainer__ensemble=True,
            trainer__size_ensemble=2,
            trainer__max_num_epochs=EPOCHS,
            trainer__stop_after_epochs=EPOCHS,
            trainer__num_posterior_samples=200,
        )
        (machine / "sbi.json").write_text(json.dumps(values))
        monkeypatch.chdir(machine)
        return launch("sbi", "--configuration", "sbi.json")

    quiet = started("s3-quiet")
    assert quiet.process.wait(timeout=500) == 0, quiet.log.read_text()
    root = experiment_called(store, "s3-quiet")
    check_tree(store, root)
    expected = results(store, root)

    killed = started("s3-killed")
    killed.wait_for(lambda: finished_shards(store, "s3-killed") >= 3, "round 1", 400)
    os.killpg(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    root = experiment_called(store, "s3-killed")
    assert (root.status, root.life) == ("RUNNING", "dead")
    assert 3 <= finished_shards(store, "s3-killed") < 15
    # what was there is gone, also the cache of whatever was fetched
    shutil.rmtree(tmp_path / "s3-killed")
    machine = tmp_path / "empty"
    machine.mkdir()
    monkeypatch.chdir(machine)
    monkeypatch.setenv("MLPOP_CACHE_DIR", str(tmp_path / "empty_cache"))

    again = launch("sbi", "--resume", root.run_id)
    assert again.process.wait(timeout=500) == 0, again.log.read_text()
    root = experiment_called(store, "s3-killed")
    check_tree(store, root)
    assert results(store, root) == expected
    assert all(node.tags.get("mlpop.attempt") == "2" for node in (root, root.children[1]))
    assert "mlpop.attempt" not in root.children[0].tags
    (models,) = (machine / "output" / "models" / "s3-killed").iterdir()
    assert (models / "round_0" / "member_01" / "estimator.safetensors").is_file()
    assert not (tmp_path / "s3-killed").exists()
