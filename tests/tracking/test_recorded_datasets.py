from mlpop.tracking import Store, open_run, recorded_datasets
from mlpop.tracking.lineage import RecordedDataset


def test_inputs_of_a_run_are_read_back_by_name(store: Store) -> None:
    digest = "0123456789abcdef" * 4
    with open_run("round", "datasets", store=store) as run:
        run.log_dataset("training", digest, "/data/full.csv", "training", {"num_rows": 3})
        run.log_dataset("test", "f" * 64, "s3://bucket/full.csv", "testing")
    recorded = recorded_datasets(store.client, run.run_id, "training")
    assert recorded == [RecordedDataset("/data/full.csv", digest)]
    assert recorded_datasets(store.client, run.run_id, "observed") == []
