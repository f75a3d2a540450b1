import pytest

from mlpop.errors import TrackingError
from mlpop.tracking import flatten, select
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


def test_select_takes_fields_and_blocks_and_leaves_out_what_is_not_set() -> None:
    assert select(CONFIG, ["trainer.lr", "prior_ranges", "trainer.max_num_epochs", "gone"]) == {
        "trainer.lr": 5e-4,
        "prior_ranges.labels": ["B", "P"],
        "prior_ranges.low": [12, -1.5],
    }


def test_select_refuses_more_than_anybody_compares() -> None:
    with pytest.raises(TrackingError, match="16 parameters .* at most 15"):
        select({"a": {f"k{i}": i for i in range(16)}}, ["a"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (5e-4, "0.0005"), (True, "true"), ("two words", "two words"), ([1, 2], "[1,2]")],
)
def test_numbers_are_plain(value: object, text: str) -> None:
    assert logged_value(value) == text
