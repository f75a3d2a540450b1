"""A whole experiment on an object store: datasets and artifacts at s3:// (S25)."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from object_store import BUCKET, ObjectStoreServer

from mlpop.compute.campaign import shard_task
from mlpop.config.fields import S3Uri
from mlpop.datasets.remote.dataset import RemoteDataset
from mlpop.datasets.shards import finished_shards
from mlpop.experiment.resume.download import restore_shards
from mlpop.io.s3 import ObjectStore
from mlpop.tracking import connect, verify


@pytest.mark.slow
def test_experiment_with_everything_in_an_object_store(
    object_store: ObjectStoreServer,
    at_work: Path,
    vectors: Callable[..., dict[str, Any]],
    mlpop: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = S3Uri(f"s3://{BUCKET}/{uuid.uuid4().hex}")
    name = f"vectors-{place.name}"
    store = connect()
    store.client.create_experiment(name, artifact_location=str(place / "artifacts"))
    made: list[int] = []
    simulate = shard_task._simulate

    def note(*arguments: Any) -> Any:
        made.append(arguments[3])
        return simulate(*arguments)

    monkeypatch.setattr(shard_task, "_simulate", note)

    def run(save_dir: Path) -> dict[str, Any]:
        values = vectors(
            save_dir,
            name=name,
            training_data_loader__dataset_path=str(place / "train"),
            test_data_loader__dataset_path=str(place / "test"),
        )
        file = tmp_path / f"{save_dir.name}.json"
        file.write_text(json.dumps(values))
        ended = mlpop("sbi", "--configuration", file)
        assert ended.code == 0, ended.err
        (summary,) = save_dir.glob("models/*/*/round_0/summary.json")
        return dict(json.loads(summary.read_text())["posterior"])

    first = run(tmp_path / "first")
    count = len(made)
    assert count == 410
    # the same simulations on a machine that has nothing
    assert run(tmp_path / "second") == first
    assert len(made) == count
    (folder,) = (tmp_path / "second").glob("data/training_dataset/generated_dataset/round_0*")
    uri = place / "train" / "generated_dataset" / folder.name
    assert RemoteDataset(uri).shard_numbers() == finished_shards(folder).keys()

    experiment = store.client.get_experiment_by_name(name)
    assert experiment is not None
    runs = store.client.search_runs([experiment.experiment_id])
    rounds = [run for run in runs if run.data.tags["mlpop.kind"] == "round"]
    assert len(rounds) == 2
    for this in rounds:
        assert this.info.artifact_uri.startswith(str(place))
        assert verify(store.client, this.info.run_id) == []
        back = tmp_path / this.info.run_id
        restore_shards(store, this.info.run_id, "training", back)
        assert finished_shards(back) == finished_shards(folder)
    assert any(ObjectStore().list(place / "artifacts"))
