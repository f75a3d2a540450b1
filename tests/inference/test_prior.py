"""The prior: from the cube to theta and back, its densities, and what is refused."""

import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from mlpop.config.blocks.prior import DistributionConfig, PriorConfig
from mlpop.datasets.scaling import LabelScaling
from mlpop.errors import ConfigError, DataError
from mlpop.inference.prior import RESOLUTION, Prior, in_cube
from mlpop.networks.rng import generator_from_seed

LABELS = ("flat", "wide", "cut", "free", "own")
CONFIG = PriorConfig.parse(
    {
        "labels": LABELS,
        "low": [12.0, 0.1, -1.5, None, None],
        "high": [14.0, 10.0, -0.3, None, None],
        "distributions": {
            "wide": {"type": "log_uniform"},
            "cut": {"type": "truncated_normal", "args": {"loc": -1.4, "scale": 0.4}},
            "free": {"type": "normal", "args": {"loc": 3, "scale": 0.2}},
            "own": {"type": "scipy.stats:beta", "args": {"a": 2, "b": 5, "scale": 3.0}},
        },
    }
)
SCIPY = (
    stats.uniform(12, 2),
    stats.loguniform(0.1, 10),
    stats.truncnorm(-0.25, 2.75, -1.4, 0.4),
    stats.norm(3, 0.2),
    stats.beta(2, 5, 0, 3),
)
STATISTICS = {
    label: {"mean": float(k), "std": 2.0 + k, "min": 0.0, "max": 1.0}
    for k, label in enumerate(LABELS)
}


@pytest.fixture(scope="module")
def prior() -> Prior:
    return Prior.configured(CONFIG, LabelScaling("standardize", STATISTICS, LABELS))


def box(*edges: tuple[float, float]) -> Prior:
    return Prior(tuple("abcdef"[: len(edges)]), *map(tuple, zip(*edges, strict=True)))


def test_draws_follow_every_distribution_and_are_reproducible(prior: Prior) -> None:
    theta = prior.sample(4000, generator_from_seed(3))
    assert theta.shape == (4000, 5)
    assert prior.contains(theta).all()
    for column, law in zip(theta.T, SCIPY, strict=True):
        assert stats.kstest(column, law.cdf).pvalue > 0.01
    off_diagonal = np.corrcoef(theta.T)[np.triu_indices(5, 1)]
    assert np.abs(off_diagonal).max() < 4.5 / 4000**0.5
    assert np.array_equal(theta, prior.sample(4000, generator_from_seed(3)))
    assert not np.array_equal(theta, prior.sample(4000, generator_from_seed(4)))


def test_uniform_draws_have_the_bits_of_a_straight_line() -> None:
    """Simulations that exist keep their theta."""
    prior = box((12.0, 14.0), (-1.5, -0.3), (0.1, 0.7))
    low, high = np.array(prior.low), np.array(prior.high)
    unit = np.random.default_rng(5).random((5000, 3))
    assert np.array_equal(prior.quantiles(unit), low + unit * (high - low))
    drawn = torch.rand(5000, 3, generator=generator_from_seed(6), dtype=torch.float64).numpy()
    theta = prior.sample(5000, generator_from_seed(6))
    assert np.array_equal(theta, low + drawn * (high - low))


def test_there_and_back(prior: Prior) -> None:
    theta = prior.sample(2000, generator_from_seed(0))
    unit = prior.to_unit(theta)
    assert unit.dtype == torch.float32
    assert bool(in_cube(unit).all())
    for k, law in enumerate(SCIPY):
        np.testing.assert_allclose(unit[:, k], law.cdf(theta[:, k]), atol=RESOLUTION)
    # as well as float32 tells probabilities apart
    back = prior.to_physical(unit)
    error = RESOLUTION / np.exp([law.logpdf(t) for law, t in zip(SCIPY, theta.T, strict=True)])
    assert (1.01 * error + 1e-14 >= np.abs(back - theta).T).all()
    grid = torch.rand(100, 3, 5, generator=generator_from_seed(1))
    again = prior.to_unit(prior.to_physical(grid))
    torch.testing.assert_close(again, grid, rtol=0, atol=2 * RESOLUTION)


def test_faces_of_the_cube_are_the_ends_of_the_prior(prior: Prior) -> None:
    faces = torch.tensor([[0.0] * 5, [RESOLUTION] * 5, [1 - RESOLUTION] * 5, [1.0] * 5])
    theta = prior.to_physical(faces)
    assert np.isfinite(theta).all()
    assert prior.contains(theta).all()
    assert (theta[0] == prior.low).all()
    assert (theta[0] <= theta[1]).all()
    assert (theta[1] < theta[2]).all()
    # the upper edge is exclusive
    assert (theta[3] < prior.high).all()
    np.testing.assert_allclose(theta[3], prior.high, rtol=1e-12)
    ends = prior.to_unit(np.array([prior.low, prior.high]))
    np.testing.assert_allclose(ends, [[RESOLUTION] * 5, [1 - RESOLUTION] * 5], rtol=1e-6)
    # what is outside ends at the nearest face, and is known to be outside
    outside = np.array([prior.low, prior.high]) + [[-1.0], [1.0]]
    assert torch.equal(prior.to_unit(outside), ends)
    assert not prior.contains(outside).any()


def test_a_truth_on_an_edge_stays_finite(prior: Prior) -> None:
    inner = np.array([0.05, 0.05, 0.02, 0.0, 0.0])
    inner[3:] = 0.05, 0.05
    for edges, inwards in ((np.array(prior.low), inner), (np.array(prior.high), -inner)):
        for k in range(4):
            theta = edges + inwards
            theta[k] = edges[k]
            unit = prior.to_unit(theta)
            assert np.isfinite(prior.log_prob(theta)), LABELS[k]
            assert bool(torch.special.ndtri(unit.double()).isfinite().all())
            assert bool(prior.log_prob_at(unit[None]).isfinite().all())


def test_in_cube_is_of_all_labels() -> None:
    points = torch.tensor([[0.0, 1.0], [0.5, 1.0001], [-1e-9, 0.5], [float("nan"), 0.5]])
    assert in_cube(points).tolist() == [True, False, False, False]


def test_log_density_is_that_of_scipy(prior: Prior) -> None:
    theta = prior.sample(500, generator_from_seed(2))
    expected = sum(law.logpdf(t) for law, t in zip(SCIPY, theta.T, strict=True))
    np.testing.assert_allclose(prior.log_prob(theta), expected, rtol=1e-12)
    grid = theta.reshape(5, 100, 5)
    np.testing.assert_array_equal(prior.log_prob(grid), prior.log_prob(theta).reshape(5, 100))
    for k in range(5):
        outside = theta.copy()
        outside[:, k] = prior.high[k] + 1e-9
        assert (prior.log_prob(outside) == -np.inf).all()
        assert not prior.contains(outside).any()


def test_log_density_integrates_to_one() -> None:
    """Two labels, over their box; and what figures show of a label holds 99.8 % at least."""
    values = CONFIG.model_dump(mode="json")
    pair = PriorConfig.parse(
        {
            "labels": ["cut", "free"],
            "low": [-1.5, None],
            "high": [-0.3, None],
            "distributions": {name: values["distributions"][name] for name in ("cut", "free")},
        }
    )
    prior = Prior.configured(pair)

    def height(free: float, cut: float) -> float:
        return float(np.exp(prior.log_prob([cut, free])))

    area = integrate.dblquad(height, *prior.ranges[0], *prior.ranges[1], epsabs=1e-4)[0]
    assert area == pytest.approx(0.998, abs=1e-4)


def test_log_density_across_the_cube(prior: Prior) -> None:
    unit = torch.rand(300, 5, generator=generator_from_seed(3))
    theta = prior.to_physical(unit)
    values = prior.log_prob_at(unit)
    np.testing.assert_allclose(values, prior.log_prob(theta), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("place", [1e-6, 1e-4, 0.01, 0.3, 0.5, 0.9, 0.9999])
def test_slope_of_the_log_density_across_the_cube(place: float) -> None:
    """Of theta = F^-1(u): -z / phi(z) for a normal, log(low / high) for a log-uniform prior."""
    config = PriorConfig.parse(
        {
            "labels": ["flat", "wide", "free"],
            "low": [12.0, 0.1, None],
            "high": [14.0, 10.0, None],
            "distributions": {
                "wide": {"type": "log_uniform"},
                "free": {"type": "normal", "args": {"loc": 3, "scale": 0.2}},
            },
        }
    )
    unit = torch.full((4, 3), place, requires_grad=True)
    (slope,) = torch.autograd.grad(Prior.configured(config).log_prob_at(unit).sum(), unit)
    z = stats.norm.ppf(float(unit[0, 0].detach()))
    expected = [0.0, -np.log(100.0), -z / stats.norm.pdf(z)]
    np.testing.assert_allclose(slope, np.tile(expected, (4, 1)), rtol=2e-3, atol=1e-6)


def test_log_density_across_the_cube_is_finite_at_its_faces(prior: Prior) -> None:
    """Where the sigmoid of a far climb ends."""
    unit = torch.tensor([[0.0, 0.5, 0.5, 0.0, 0.5], [1.0, 0.5, 0.5, 1.0, 0.5]])
    unit.requires_grad_()
    values = prior.log_prob_at(unit)
    assert bool(values.isfinite().all())
    (slope,) = torch.autograd.grad(values.sum(), unit)
    assert bool(slope.isfinite().all())


def test_flat_log_density_has_no_slope() -> None:
    prior = box((12.0, 14.0), (-1.5, -0.3))
    unit = torch.rand(6, 2)
    np.testing.assert_allclose(prior.log_prob_at(unit), -np.log(2 * 1.2), rtol=1e-6)
    np.testing.assert_allclose(prior.log_prob(prior.to_physical(unit)), -np.log(2 * 1.2))


def test_sbi_gets_the_unit_cube(prior: Prior) -> None:
    assert float(prior.box.log_prob(torch.full((1, 5), 0.3))) == 0
    assert bool(in_cube(prior.box.sample((50,))).all())


@pytest.mark.parametrize("mode", ["standardize", "normalize", "none"])
def test_files_hold_scaled_labels_B2(mode: Any) -> None:
    prior = Prior.configured(CONFIG, LabelScaling(mode, STATISTICS, LABELS))
    theta = prior.sample(20, generator_from_seed(0))
    assert prior.scaling is not None
    np.testing.assert_array_equal(prior.to_files(theta), prior.scaling.scale(theta))
    plain = Prior.configured(CONFIG)
    np.testing.assert_array_equal(plain.to_files(theta), theta)
    # what networks see does not depend on it
    assert torch.equal(plain.to_unit(theta), prior.to_unit(theta))


def test_what_figures_show(prior: Prior) -> None:
    assert prior.ranges[:3] == [(12.0, 14.0), (0.1, 10.0), (-1.5, -0.3)]
    assert prior.ranges[3] == pytest.approx(SCIPY[3].ppf([1e-3, 1 - 1e-3]))
    assert prior.ranges[4] == (0.0, 3.0)
    assert prior.dimension == 5


def test_plain_copy_is_equal(prior: Prior) -> None:
    values = json.loads(json.dumps(prior.to_dict(), allow_nan=False))
    copy = Prior.from_dict(values)
    assert copy.to_dict() == prior.to_dict()
    theta = prior.sample(50, generator_from_seed(0))
    assert np.array_equal(copy.sample(50, generator_from_seed(0)), theta)
    assert np.array_equal(copy.log_prob(theta), prior.log_prob(theta))
    assert torch.equal(copy.to_unit(theta), prior.to_unit(theta))
    assert np.array_equal(copy.to_files(theta), prior.to_files(theta))


def test_priors_that_were_written_before_there_were_distributions_are_uniform() -> None:
    old = {"labels": ["a"], "low": [0.0], "high": [2.0], "scaling": None}
    assert Prior.from_dict(old).to_dict() == box((0.0, 2.0)).to_dict()


@pytest.mark.parametrize(
    "values",
    [
        {"labels": ["a"]},
        {"labels": ["a"], "low": [0.0], "high": None, "scaling": None},
        {"labels": 3, "low": [0.0], "high": [1.0], "scaling": None},
    ],
)
def test_broken_copies_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="broken prior"):
        Prior.from_dict(values)


def test_pickled_copy_is_equal(prior: Prior) -> None:
    """As workers get it: also before anything was computed."""
    fresh = Prior.configured(CONFIG)
    theta = prior.sample(20, generator_from_seed(0))
    for each in (prior, fresh):
        copy = pickle.loads(pickle.dumps(each))
        assert copy.to_dict() == each.to_dict()
        assert torch.equal(copy.to_unit(theta), each.to_unit(theta))
        assert np.array_equal(copy.log_prob(theta), each.log_prob(theta))


@pytest.mark.parametrize(
    ("labels", "low", "high", "message"),
    [
        (("a", "b"), (0,), (1, 1), "same length.*got 2, 1 and 2"),
        ((), (), (), "at least 1"),
        (("a",), (1,), (1,), "of a: low must be below high.*low 1.* and high 1"),
        (("a",), (0,), (np.inf,), "both finite"),
        (("a",), (1.0,), (1.0 + 1e-12,), "told apart in double precision"),
    ],
)
def test_bad_ranges(labels: Any, low: Any, high: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Prior(labels, low, high)


def test_the_label_of_a_bad_distribution_is_named() -> None:
    bad = DistributionConfig.parse({"type": "scipy.stats:poisson", "args": {"mu": 2}})
    with pytest.raises(ConfigError, match="distributions.b: 'scipy.stats:poisson' must have"):
        Prior(("a", "b"), (0.0, 0.0), (1.0, 1.0), None, {"b": bad})


def test_labels_must_be_those_of_the_scaling_S15(prior: Prior) -> None:
    scaling = LabelScaling("standardize", STATISTICS, LABELS[::-1])
    with pytest.raises(ConfigError, match="not the labels of the scaling"):
        Prior.configured(CONFIG, scaling)
