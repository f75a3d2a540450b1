import pytest

from mlpop.tracking import flatten, parameters
from mlpop.tracking.params import logged_value

CONFIG = {
    "name": "sky",
    "trainer": {"num_rounds": 2, "lr": 5e-4, "type": "snpe", "max_num_epochs": None},
    "prior_ranges": {"labels": ["B", "P"], "low": [12, -1.5]},
    "empty": {},
}


def test_flatten_keeps_lists_and_empty_blocks_as_values() -> None:
    assert flatten(CONFIG) == {
        "name": "sky",
        "trainer.num_rounds": 2,
        "trainer.lr": 5e-4,
        "trainer.type": "snpe",
        "trainer.max_num_epochs": None,
        "prior_ranges.labels": ["B", "P"],
        "prior_ranges.low": [12, -1.5],
        "empty": {},
    }


def test_parameters_leave_nothing_out() -> None:
    assert parameters(CONFIG) == flatten(CONFIG)


def test_block_whose_keys_mlflow_refuses_stays_one_value() -> None:
    jobs = {"args": {"queue": "normal"}, "lines": {"+MaxRuntime": 1}, "dots": {"a.b": 1, "a": {}}}
    assert parameters({"jobs": jobs}) == {
        "jobs.args.queue": "normal",
        "jobs.lines": {"+MaxRuntime": 1},
        "jobs.dots": {"a.b": 1, "a": {}},
    }
    long = "x" * 200
    assert parameters({long: {long: 1}}) == {long: {long: 1}}
    assert parameters({"a": {long: 1}}) == {f"a.{long}": 1}


def test_keys_that_differ_in_case_alone_are_told_apart() -> None:
    found = parameters({"cooling": {"a1": 1, "A1": 2, "B": 3}})
    assert found == {"cooling.a1": 1, "cooling.A1.capital": 2, "cooling.B": 3}


def test_long_values_are_cut_and_still_differ() -> None:
    one, other = ([*range(1000), last] for last in (1, 2))
    texts = {logged_value(values) for values in (one, other)}
    assert len(texts) == 2
    assert all(len(text) == 500 and text.startswith("[0,1,2,") for text in texts)
    assert logged_value("x" * 500) == "x" * 500


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (5e-4, "0.0005"),
        (None, "null"),
        (True, "true"),
        ("two words", "two words"),
        ([1, 2], "[1,2]"),
    ],
)
def test_numbers_are_plain(value: object, text: str) -> None:
    assert logged_value(value) == text
