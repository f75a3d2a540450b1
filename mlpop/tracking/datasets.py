"""The datasets that a run has recorded as its inputs."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpop.tracking.store import translated

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class RecordedDataset:
    """A dataset that is an input of a run: path or URI of its index file, and its digest."""

    uri: str
    digest: str


def recorded_datasets(client: "MlflowClient", run_id: str, name: str) -> list[RecordedDataset]:
    """Return the inputs of a run that `TrackedRun.log_dataset` recorded under a name.

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
