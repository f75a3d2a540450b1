"""Scaling of labels and maps: goldens of learning.md A7, B2 and E."""

import json

import numpy as np
import pytest

from mlpop.datasets.scaling import (
    MODES,
    LabelScaling,
    Mode,
    Statistics,
    foreign_statistics,
    label_statistics,
    read_statistics,
    scale_inputs,
)
from mlpop.errors import ConfigError, DataError

LABELS = ("B_initial_log10_mean", "P_initial_log10_mean")
TEST_ROWS = [15, 1, 10, 0]


@pytest.fixture
def statistics(example_labels: np.ndarray) -> Statistics:
    return label_statistics(np.delete(example_labels, TEST_ROWS, axis=0), LABELS)


def test_scaled_labels_A7(statistics: Statistics) -> None:
    scaled = LabelScaling("standardize", statistics, LABELS).scale(
        [12.942382264486357, -0.95971740507355]
    )
    np.testing.assert_allclose(scaled, [0.19440222, -0.13085108], atol=1e-8)


def test_scaled_test_labels_E(statistics: Statistics, example_labels: np.ndarray) -> None:
    scaled = LabelScaling("standardize", statistics, LABELS).scale(example_labels[TEST_ROWS])
    expected = [[1.85881, 0.16815], [0.19440, -0.13085], [1.32464, 0.72141], [1.56626, 0.12268]]
    np.testing.assert_allclose(scaled, expected, atol=6e-6)
    normalized = LabelScaling("normalize", statistics, LABELS).scale(example_labels[TEST_ROWS])
    assert normalized[:, 0].max() == pytest.approx(1.0594, abs=5e-5)


def test_prior_bounds_B2(statistics: Statistics) -> None:
    box = ([12, -1.5], [14, -0.3])
    low, high = LabelScaling("standardize", statistics, LABELS).scale(box)
    np.testing.assert_allclose(low, [-1.8056103, -1.6285571], atol=1e-7)
    np.testing.assert_allclose(high, [2.4389783, 1.6979376], atol=1e-7)
    low, high = LabelScaling("normalize", statistics, LABELS).scale(box)
    np.testing.assert_allclose([low[0], high[0]], [-0.0013721, 1.2273898], atol=1e-7)
    np.testing.assert_allclose([low[1], high[1]], [-0.0362035, 1.0232808], atol=1e-7)
    low, high = LabelScaling("none", {}, LABELS).scale(box)
    np.testing.assert_array_equal([low, high], box)


@pytest.mark.parametrize("mode", MODES)
def test_inverse_undoes_scale_and_volume_is_its_jacobian(
    mode: Mode, statistics: Statistics, example_labels: np.ndarray
) -> None:
    scaling = LabelScaling(mode, statistics, LABELS)
    np.testing.assert_allclose(
        scaling.inverse(scaling.scale(example_labels)), example_labels, atol=1e-12
    )
    low, high = scaling.scale([[12, -1.5], [14, -0.3]])
    log_ratio = np.log(2 * 1.2) - np.log(np.prod(high - low))
    assert scaling.log_volume == pytest.approx(log_ratio, abs=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_dictionary_round_trip_is_exact(
    mode: Mode, statistics: Statistics, example_labels: np.ndarray
) -> None:
    scaling = LabelScaling(mode, statistics | {"h_c": dict(statistics[LABELS[0]])}, LABELS)
    again = LabelScaling.from_dict(json.loads(json.dumps(scaling.to_dict())))
    assert again == scaling
    np.testing.assert_array_equal(again.scale(example_labels), scaling.scale(example_labels))
    with pytest.raises(DataError, match="broken label scaling"):
        LabelScaling.from_dict({"mode": mode})


def test_labels_are_found_by_name(statistics: Statistics) -> None:
    swapped = LabelScaling("standardize", statistics, LABELS[::-1])
    np.testing.assert_allclose(
        swapped.scale([-0.95971740507355, 12.942382264486357]),
        [-0.13085108, 0.19440222],
        atol=1e-8,
    )
    with pytest.raises(DataError, match="no label 'h_c'; found B_initial_log10_mean"):
        LabelScaling("standardize", statistics, ("h_c",))


def test_label_that_does_not_vary_is_refused_by_name() -> None:
    statistics = {"h_c": {"mean": 1.0, "std": 0.0, "max": 1.0, "min": 1.0}}
    with pytest.raises(DataError, match="'h_c' cannot be scaled: its std is 0.0"):
        LabelScaling("standardize", statistics, ("h_c",))
    with pytest.raises(DataError, match="'h_c' cannot be scaled: its max - min is 0.0"):
        LabelScaling("normalize", statistics, ("h_c",))
    assert LabelScaling("none", statistics, ("h_c",)).scale([3.0]) == 3


def test_wrong_use_is_refused(statistics: Statistics) -> None:
    scaling = LabelScaling("standardize", statistics, LABELS)
    with pytest.raises(DataError, match=r"expected 2 labels .* shape \(4, 3\)"):
        scaling.scale(np.ones((4, 3)))
    with pytest.raises(ConfigError, match="'log' is none of standardize"):
        LabelScaling("log", statistics, LABELS)  # type: ignore[arg-type]


def maps(n: int = 300) -> np.ndarray:
    rng = np.random.default_rng(4)
    return (rng.random((n, 3, 8, 6)) ** 5 * rng.uniform(1, 900, (n, 3, 1, 1))).astype(np.float32)


def test_maps_are_standardized_one_by_one_A7() -> None:
    x = maps()
    scaled = scale_inputs(x, "standardize")
    assert scaled.dtype == np.float32
    assert scaled.shape == x.shape
    for n, c in [(0, 0), (1, 2), (299, 1)]:
        expected = (x[n, c] - x[n, c].mean(dtype=float)) / x[n, c].std(dtype=float)
        np.testing.assert_allclose(scaled[n, c], expected, rtol=1e-5, atol=1e-6)


def test_maps_are_normalized_one_by_one_A7() -> None:
    x = maps()
    scaled = scale_inputs(x, "normalize")
    np.testing.assert_array_equal(scaled.min(axis=(2, 3)), 0)
    np.testing.assert_array_equal(scaled.max(axis=(2, 3)), 1)
    np.testing.assert_allclose(scaled, scale_inputs(x * 4 + 8, "normalize"), atol=1e-5)


@pytest.mark.parametrize(("mode", "value"), [("standardize", -1), ("normalize", 0)])
@pytest.mark.parametrize("level", [0.0, -7.0, 0.1, 1234.567])
def test_constant_channel_leaves_the_others_alone_A7(mode: Mode, value: int, level: float) -> None:
    x = maps(5)
    plain = scale_inputs(x, mode)
    x[2, 1] = level
    scaled = scale_inputs(x, mode)
    assert (scaled[2, 1] == value).all()
    scaled[2, 1] = plain[2, 1]
    np.testing.assert_array_equal(scaled, plain)


def test_numbers_and_mode_none_stay_as_they_are() -> None:
    vectors = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_array_equal(scale_inputs(vectors, "standardize"), vectors)
    x = maps(3)
    np.testing.assert_array_equal(scale_inputs(x, "none"), x)
    with pytest.raises(ConfigError, match="'log' is none of"):
        scale_inputs(x, "log")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["standardize", "normalize"])
@pytest.mark.parametrize(
    ("factor", "offset"), [(1e3, 0.0), (1.0, 100.0), (1e-6, 0.0), (1e-6, 5e-7)]
)
def test_statistics_of_another_set_are_told(mode: Mode, factor: float, offset: float) -> None:
    theta = np.random.default_rng(4).uniform(0.5, 1.5, (50, 2))
    scaling = LabelScaling(mode, label_statistics(theta, LABELS), LABELS)
    assert foreign_statistics(scaling, theta) == []
    assert foreign_statistics(scaling, theta[:, :] * 0.01 + 1.0) == []
    other = theta * [1.0, factor] + [0.0, offset]
    (text,) = foreign_statistics(scaling, other)
    assert f"the statistics give {LABELS[1]} the mean" in text


@pytest.mark.parametrize(
    "odd", [{"std": True}, {"min": 2.0}, {"std": -1.0}, {"mean": 10**400}, {"max": "1"}]
)
def test_statistics_that_cannot_be_are_refused(tmp_path, odd: dict) -> None:
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps({"a": {"mean": 0.5, "std": 0.1, "min": 0.0, "max": 1.0} | odd}))
    with pytest.raises(DataError, match=r"statistics.json: label 'a': "):
        read_statistics(path)


def test_statistics_that_are_given_twice_are_refused(tmp_path) -> None:
    path = tmp_path / "statistics.json"
    path.write_text('{"a": {"mean": 0.5, "mean": 50, "std": 0.1, "min": 0.0, "max": 1.0}}')
    with pytest.raises(DataError, match="'mean' is given twice"):
        read_statistics(path)
