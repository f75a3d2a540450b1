import json

import numpy as np
import pytest
import torch

from mlpop.datasets.scaling import LabelScaling
from mlpop.errors import ConfigError, DataError
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed

LABELS = ("B_initial_log10_mean", "P_initial_log10_mean")
STATISTICS = {
    "B_initial_log10_mean": {
        "mean": 12.850782234358956,
        "std": 0.4711881884041647,
        "max": 13.629887947037345,
        "min": 12.002233373316034,
    },
    "P_initial_log10_mean": {
        "mean": -0.9125141724417387,
        "std": 0.3607400958095005,
        "max": -0.3263684883178612,
        "min": -1.458994983333337,
    },
}
LOW, HIGH = (12.0, -1.5), (14.0, -0.3)


def _prior(mode):
    return Prior(LABELS, LOW, HIGH, LabelScaling(mode, STATISTICS, LABELS))


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [
        ("standardize", (-1.8056103, -1.6285571), (2.4389783, 1.6979376)),
        ("normalize", (-0.0013721, -0.0362035), (1.2273898, 1.0232808)),
        ("none", LOW, HIGH),
    ],
)
def test_scaled_box_B2(mode, low, high):
    prior = _prior(mode)
    np.testing.assert_allclose(prior.scaled_low, low, atol=2e-6 if mode == "none" else 1e-6)
    np.testing.assert_allclose(prior.scaled_high, high, atol=2e-6 if mode == "none" else 1e-6)


@pytest.mark.parametrize("mode", ["standardize", "normalize", "none"])
def test_float32_edges_stay_inside_the_ranges(mode):
    prior = _prior(mode)
    exact_low = prior.scaling.inverse(prior.scaled_low.numpy().astype(np.float64))
    exact_high = prior.scaling.inverse(prior.scaled_high.numpy().astype(np.float64))
    tiny = 1e-14
    assert (exact_low >= np.array(LOW) - tiny).all()
    assert (exact_high <= np.array(HIGH) + tiny).all()
    below_edge = torch.nextafter(prior.scaled_high, torch.tensor(-torch.inf))
    assert bool(prior.contains(below_edge))
    physical = prior.to_physical(torch.stack([prior.scaled_low, below_edge]))
    assert (physical >= LOW).all()
    assert (physical < HIGH).all()


def test_contains_is_half_open():
    prior = _prior("standardize")
    assert bool(prior.contains(prior.scaled_low))
    assert not bool(prior.contains(prior.scaled_high))
    outside = prior.scaled_low.clone()
    outside[1] = prior.scaled_high[1] + 1
    assert prior.contains(torch.stack([prior.scaled_low, outside])).tolist() == [True, False]


def test_scaling_there_and_back():
    prior = _prior("standardize")
    theta = prior.sample(1000, generator_from_seed(0))
    np.testing.assert_allclose(prior.to_physical(prior.to_scaled(theta)), theta, atol=1e-6)


def test_samples_are_uniform_and_reproducible():
    prior = _prior("normalize")
    theta = prior.sample(20_000, generator_from_seed(1))
    assert (theta >= LOW).all()
    assert (theta < HIGH).all()
    np.testing.assert_allclose(theta.mean(0), (13, -0.9), atol=0.02)
    np.testing.assert_allclose(theta.std(0), np.array((2, 1.2)) / np.sqrt(12), rtol=0.02)
    assert np.array_equal(theta, prior.sample(20_000, generator_from_seed(1)))


def test_densities():
    prior = _prior("standardize")
    inside = prior.to_scaled(prior.sample(5, generator_from_seed(2)))
    np.testing.assert_allclose(prior.box.log_prob(inside), prior.log_density, rtol=1e-6)
    physical = prior.log_density + prior.log_volume_ratio
    assert physical == pytest.approx(-np.log(2 * 1.2), abs=1e-6)


def test_plain_copy_is_equal():
    prior = _prior("standardize")
    copy = Prior.from_dict(json.loads(json.dumps(prior.to_dict())))
    assert copy.to_dict() == prior.to_dict()
    assert torch.equal(copy.scaled_low, prior.scaled_low)
    with pytest.raises(DataError, match="broken prior"):
        Prior.from_dict({"labels": ["a"]})


@pytest.mark.parametrize(
    ("labels", "low", "high", "message"),
    [
        (("a", "b"), (0,), (1, 1), "same length.*got 2, 1 and 2"),
        ((), (), (), "at least 1"),
        (("a",), (1,), (1,), "of a: low must be below high.*low 1.0 and high 1.0"),
        (("a",), (0,), (np.inf,), "both finite"),
        (("a",), (1.0,), (1.0 + 1e-12,), "empty after scaling to float32"),
    ],
)
def test_bad_ranges(labels, low, high, message):
    with pytest.raises(ConfigError, match=message):
        Prior(labels, low, high)


def test_labels_must_be_those_of_the_scaling_S15():
    with pytest.raises(ConfigError, match="not the labels of the scaling"):
        Prior(LABELS[::-1], LOW, HIGH, LabelScaling("standardize", STATISTICS, LABELS))
