from pathlib import Path

from mlpop.tracking import TrackedRun, recorded_datasets
from mlpop.tracking.datasets import RecordedDataset


def test_inputs_of_a_run_are_read_back_by_name(run: TrackedRun, tmp_path: Path) -> None:
    digest = "0123456789abcdef" * 4
    run.log_dataset("training", digest, str(tmp_path / "full.csv"), "training", {"num_rows": 3})
    run.log_dataset("test", "f" * 64, "s3://bucket/full.csv", "testing")
    client = run.store.client
    assert recorded_datasets(client, run.run_id, "training") == [
        RecordedDataset(str(tmp_path / "full.csv"), digest)
    ]
    assert recorded_datasets(client, run.run_id, "observed") == []
