import json
import math

import pytest

from mlpop.errors import DataError
from mlpop.regression.learner import Epoch
from mlpop.regression.records import Records, read_records


def epoch(number, value, valid=True):
    numbers = {"b": value, "a": 1.0, "loss": value + 1.0, "MetricAccuracyMSE": 0.5}
    return Epoch(number, numbers, numbers, numbers if valid else None, 1e-3, 0.1, 0.0)


def test_files_are_the_documented_ones_A9_N16(tmp_path):
    records = Records(tmp_path)
    for number in range(1, 4):
        records.add(epoch(number, float(number)))
    names = {"train_results.json", "train_eval_results.json", "valid_results.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    text = (tmp_path / "valid_results.json").read_text()
    values = json.loads(text)
    assert list(values) == ["00001", "00002", "00003"]
    assert values["00002"] == {"MetricAccuracyMSE": 0.5, "a": 1.0, "b": 2.0, "loss": 3.0}
    assert text == json.dumps(values, indent=2, sort_keys=True) + "\n"


def test_not_a_number_is_null(tmp_path):
    Records(tmp_path).add(epoch(1, math.nan, valid=False))
    assert read_records(tmp_path, "train_results.json")["00001"]["b"] is None
    assert not (tmp_path / "valid_results.json").exists()


def test_continued_files_equal_those_of_one_go(tmp_path):
    history = [epoch(n, n / 3) for n in (1, 2, 3)]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    records = Records(whole)
    for record in history:
        records.add(record)
    Records(parts, history[:2]).add(history[2])
    for path in whole.iterdir():
        assert path.read_bytes() == (parts / path.name).read_bytes()


def test_names_of_the_reference_are_read_D4(tmp_path):
    (tmp_path / "validation_result.json").write_text('{"00001": {"loss": 2.0}}')
    assert read_records(tmp_path, "valid_results.json")["00001"]["loss"] == 2.0
    with pytest.raises(DataError, match="train_results.json: no such file"):
        read_records(tmp_path, "train_results.json")
