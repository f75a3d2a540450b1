"""Datasets as inputs of a run: recorded with their digests, and read back from the record."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpop.tracking.outages import patiently
from mlpop.tracking.store import translated

if TYPE_CHECKING:
    from mlflow import MlflowClient

DIGEST_LENGTH = 36  # most characters that MLflow takes for the digest of a dataset


def log_dataset(
    client: "MlflowClient",
    run_id: str,
    name: str,
    digest: str,
    source: str,
    context: str,
    profile: Mapping[str, Any] | None = None,
) -> None:
    """Record a dataset as an input of a run: the Dataset column of MLflow's run table.

    Args:
        client: MLflow client.
        run_id: the run.
        name: what the dataset is called, for instance `round_0`.
        digest: digest of its content; MLflow shows the first 36 characters, the source has all.
        source: path or URI of its index file.
        context: what it is used for, for instance `training`, `testing`, `observed`.
        profile: numbers to show with it, for instance the number of rows.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=name,
        digest=digest[:DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"uri": source, "digest": digest}),
        profile=json.dumps(dict(profile)) if profile else None,
    )
    tags = [InputTag("mlflow.data.context", context)]
    what = f"dataset {name} of run {run_id}"

    def attempt() -> None:
        with translated(what):
            client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])

    patiently(attempt, what)


@dataclass(frozen=True)
class RecordedDataset:
    """A dataset that is an input of a run: path or URI of its index file, and its digest."""

    uri: str
    digest: str


def recorded_datasets(client: "MlflowClient", run_id: str, name: str) -> list[RecordedDataset]:
    """Return the inputs of a run that `log_dataset` recorded under a name.

    Raises:
        TrackingError: the store cannot be read.
    """
    with translated(f"inputs of run {run_id}"):
        inputs = client.get_run(run_id).inputs
        sources = [
            json.loads(item.dataset.source)
            for item in (inputs.dataset_inputs if inputs else ())
            if item.dataset.name == name
        ]
        return [RecordedDataset(source["uri"], source["digest"]) for source in sources]
