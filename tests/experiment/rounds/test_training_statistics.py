import json
import math
from pathlib import Path

import pytest

from mlpop.errors import DataError
from mlpop.experiment.rounds.training_statistics import (
    write_training_statistics,
)
from mlpop.training.events import EpochRecord

EPOCHS = [
    EpochRecord(1, 3.0, 2.5, 0.1, 100.0),
    EpochRecord(2, 2.0, 1.5, 0.2, 100.2),
    EpochRecord(3, 1.0, 1.75, 0.3, 100.5),
]


def test_documented_tags_old_and_new_B14(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    values = write_training_statistics(path, EPOCHS, 1, first_step=20, summary_step=2)
    assert json.loads(path.read_text()) == values
    times = [100.0, 100.2, 100.5]
    assert values["validation_log_probs"] == {
        "step": [20, 21, 22],
        "value": [-2.5, -1.5, -1.75],
        "wall_time": times,
        "round": 1,
    }
    assert values["training_log_probs"]["value"] == [-3.0, -2.0, -1.0]
    assert values["validation_loss"]["value"] == [2.5, 1.5, 1.75]
    assert values["training_loss"]["value"] == [3.0, 2.0, 1.0]
    assert values["epoch_durations_sec"]["value"] == [0.1, 0.2, 0.3]
    summary = {"step": [2], "wall_time": [100.5], "round": 1}
    assert values["epochs_trained"] == summary | {"value": [3]}
    assert values["best_validation_log_prob"] == summary | {"value": [-1.5]}
    assert values["best_validation_loss"] == summary | {"value": [1.5]}
    assert len(values) == 8


def test_file_is_strict_json_also_where_a_loss_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "training_statistics_0.json"
    records = [*EPOCHS, EpochRecord(4, math.nan, math.inf, 0.1, 101.0)]
    write_training_statistics(path, records, 0, first_step=0, summary_step=1)
    values = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert values["training_loss"]["value"] == [3.0, 2.0, 1.0, None]
    assert values["validation_log_probs"]["value"] == [-2.5, -1.5, -1.75, None]
    assert values["best_validation_loss"]["value"] == [1.5]
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_unwritable_file_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"a\.json: cannot be written"):
        write_training_statistics(
            tmp_path / "file" / "a.json", EPOCHS, 0, first_step=0, summary_step=1
        )
