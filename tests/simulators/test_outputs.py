"""Arrays by channel of whatever a simulator returned."""

import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.simulators.outputs import by_channel


def test_what_simulators_return_by_channel() -> None:
    stack = np.arange(24.0).reshape(2, 3, 4)
    maps = by_channel(stack, ["a", "b"])
    np.testing.assert_array_equal(maps["b"], stack[1])
    vector = by_channel(np.array([1.0, 2.0, 3.0]), ["x", "y", "z"])
    assert (vector["z"].shape, float(vector["z"])) == ((), 3.0)
    assert [*by_channel({"b": stack[1], "a": stack[0], "c": stack[0]}, ["a", "b"])] == ["a", "b"]
    with pytest.raises(DataError, match="left out the channels b"):
        by_channel({"a": stack[0]}, ["a", "b"])
    with pytest.raises(DataError, match=r"shape \(2, 3, 4\) for 3 channels"):
        by_channel(stack, ["a", "b", "c"])


@pytest.mark.parametrize(
    "values",
    [np.array([1j, 2j]), np.array(["a", "b"]), np.array([None, 1.0], dtype=object)],
    ids=str,
)
def test_what_is_no_real_number_is_refused_by_its_channel(values: np.ndarray) -> None:
    for x in (values, {"a": values[0], "b": values[1]}):
        with pytest.raises(DataError, match="channel a must hold real numbers, found an array of"):
            by_channel(x, ["a", "b"])


@pytest.mark.parametrize("kind", [float, np.float32, int])
def test_what_is_masked_is_no_number(kind: type) -> None:
    masked = np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]], dtype=kind)
    for x in (masked, {"a": masked[0], "b": masked[1]}):
        maps = by_channel(x, ["a", "b"])
        np.testing.assert_array_equal(maps["a"], [1.0, np.nan])
        np.testing.assert_array_equal(maps["b"], [3.0, 4.0])
        assert not any(np.ma.isMA(values) for values in maps.values())
