"""Documented names of a dataset's files, and where the dataset of a round lies."""

from pathlib import Path

from mlpop.config.fields import dataset_root

FULL_CSV = "dataset_full.csv"
TRAIN_CSV = "dataset_train.csv"
VALID_CSV = "dataset_valid.csv"
TEST_CSV = "dataset_test.csv"
OBSERVED_CSV = "dataset_atnf.csv"
MANIFEST_CSV = "manifest.csv"
PARAMETER_SETS_CSV = "parameter_sets.csv"
FULL_STATISTICS = "statistics_full.json"
TRAIN_STATISTICS = "statistics_train.json"
GENERATOR_JSON = "generator.json"
TRUTH_JSON = "truth.json"

GENERATED = "generated_dataset"


def round_csv(root: Path, round_number: int) -> Path:
    """Index file of the dataset of a round below `root`."""
    return dataset_root(root) / GENERATED / f"round_{round_number}" / FULL_CSV
