import pickle

import numpy as np
import pytest
from numpy.random import SeedSequence, default_rng
from scipy import stats

from mlpop.errors import ConfigError, SimulationFailed
from mlpop.simulators import load
from mlpop.simulators.gaussian_linear import GaussianLinear
from mlpop.simulators.two_moons import TwoMoons

BOX = {"low": (-1.0, -1.0), "high": (1.0, 1.0)}


@pytest.mark.parametrize(
    ("name", "kind", "size"), [("gaussian_linear", GaussianLinear, 10), ("two_moons", TwoMoons, 2)]
)
def test_protocol(name, kind, size):
    simulator = load(name)
    assert isinstance(simulator, kind)
    assert len(simulator.labels) == len(simulator.channels) == size
    theta = np.linspace(-0.5, 0.5, size)
    x = simulator(theta, SeedSequence(3)).x
    assert x.shape == (size,)
    assert x.dtype == np.float32
    copy = pickle.loads(pickle.dumps(simulator))
    assert np.array_equal(copy(theta, SeedSequence(3)).x, x)
    assert not np.array_equal(simulator(theta, SeedSequence(4)).x, x)
    with pytest.raises(SimulationFailed, match="theta must have shape"):
        simulator(theta[:-1], SeedSequence(0))
    with pytest.raises(SimulationFailed, match="finite"):
        simulator(np.full(size, np.nan), SeedSequence(0))


def test_gaussian_noise():
    simulator = GaussianLinear(3, noise=0.5)
    theta = np.array([0.1, -0.2, 0.7])
    x = np.stack([simulator(theta, seed).x for seed in SeedSequence(0).spawn(4000)])
    np.testing.assert_allclose(x.mean(0), theta, atol=0.03)
    np.testing.assert_allclose(x.std(0), 0.5, rtol=0.05)


@pytest.mark.parametrize("arguments", [{"dimension": 0}, {"noise": 0.0}, {"noise": -1.0}])
def test_bad_arguments(arguments):
    with pytest.raises(ConfigError, match="simulator.args"):
        GaussianLinear(**arguments)


@pytest.mark.parametrize("x", [(0.0, 0.5), (0.95, -1.2)])
def test_gaussian_posterior_density_moments_and_draws_agree(x):
    simulator = GaussianLinear(2, noise=0.3)
    grid = (np.arange(400) + 0.5) / 200 - 1
    mesh = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    density = simulator.posterior(x, **BOX).pdf(mesh).prod(-1) / 200**2
    assert density.sum() == pytest.approx(1, abs=1e-3)
    by_hand = np.exp(-0.5 * (((mesh - x) / 0.3) ** 2).sum(1))
    np.testing.assert_allclose(density, by_hand / by_hand.sum(), rtol=1e-3)
    exact = simulator.posterior(x, **BOX)
    mean, std = exact.mean(), exact.std()
    np.testing.assert_allclose(density @ mesh, mean, atol=1e-3)
    np.testing.assert_allclose(np.sqrt(density @ (mesh - mean) ** 2), std, rtol=1e-3)
    draws = simulator.sample_posterior(20_000, x, **BOX, rng=default_rng(0))
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.01)
    np.testing.assert_allclose(draws.std(0), std, rtol=0.03)


@pytest.mark.parametrize(
    ("simulator", "box"),
    [
        (GaussianLinear(2, noise=0.3), BOX),
        (TwoMoons(), BOX),
        (TwoMoons(), {"low": (-0.3, -0.2), "high": (0.9, 0.4)}),
    ],
)
def test_reference_posteriors_are_calibrated(simulator, box):
    """Ranks of true theta among reference draws are uniform, label by label and for a sum."""
    low, high = np.array(box["low"]), np.array(box["high"])
    rng = default_rng(5)
    ranks = []
    for seed in SeedSequence(6).spawn(400):
        theta = low + rng.random(2) * (high - low)
        x = simulator(theta, seed).x
        draws = simulator.sample_posterior(99, x, **box, rng=rng)
        assert draws.shape == (99, 2)
        assert ((draws >= low) & (draws < high)).all()
        values = np.column_stack([draws, draws @ [1, 1], draws @ [1, -1]])
        truth = np.array([*theta, theta.sum(), theta[0] - theta[1]])
        ranks.append((values < truth).sum(0))
    for column in np.array(ranks).T:
        assert stats.kstest((column + 0.5) / 100, "uniform").pvalue > 1e-3


def test_two_moons_has_two_equal_crescents():
    draws = TwoMoons().sample_posterior(4000, (0.0, 0.0), **BOX, rng=default_rng(1))
    right = draws.sum(1) > 0
    assert right.mean() == pytest.approx(0.5, abs=0.03)
    assert np.abs(draws.sum(1)).min() > 0.1
    np.testing.assert_allclose(np.abs(draws.sum(1)).max() / np.sqrt(2), 0.35, atol=0.05)


def test_impossible_observation():
    with pytest.raises(SimulationFailed, match="cannot come from any theta"):
        TwoMoons().sample_posterior(10, (50.0, 0.0), **BOX, rng=default_rng(0))


def test_the_defaults_are_the_tasks_of_sbibm():
    """Ten dimensions and variance 0.1; a crescent of radius 0.1 +- 0.01 centred on (0.25, 0)."""
    gaussian = GaussianLinear()
    assert gaussian.dimension == 10
    assert gaussian.noise**2 == pytest.approx(0.1)
    exact = gaussian.posterior(np.zeros(10), [-10.0] * 10, [10.0] * 10)
    np.testing.assert_allclose(exact.mean(), 0.0, atol=1e-12)
    np.testing.assert_allclose(exact.std(), np.sqrt(0.1))
    points = np.stack([TwoMoons()((0.0, 0.0), seed).x for seed in SeedSequence(1).spawn(2000)])
    radius = np.hypot(*(points - [0.25, 0.0]).T)
    assert radius.mean() == pytest.approx(0.1, abs=1e-3)
    assert radius.std() == pytest.approx(0.01, rel=0.1)
    assert points[:, 0].min() > 0.249
    moved = TwoMoons()((0.3, -0.7), SeedSequence(2)).x - TwoMoons()((0, 0), SeedSequence(2)).x
    np.testing.assert_allclose(moved, [-0.4 / np.sqrt(2), -1.0 / np.sqrt(2)], rtol=1e-5)
