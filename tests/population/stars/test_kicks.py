"""Natal kicks: golden moments, agreement of draws and distribution, isotropy."""

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.population.stars.kicks import sample_kick, speed_cdf

N = 40_000
LEAST_P = 1e-3
MODELS = ("km_maxwell", "km_exp", "km_double_maxwell", "km_log-normal")


def config_of(model, **changes):
    return DynamicsConfig.parse({"kick_model": model, **changes})


def draw(config, n=N, seed=1):
    return sample_kick(
        n,
        config,
        rng_speed=np.random.default_rng(seed),
        rng_direction=np.random.default_rng(seed + 1),
    )


@pytest.mark.parametrize(
    ("model", "mean", "median"),
    [
        ("km_maxwell", 422.878817, 407.615647),
        ("km_exp", 360.0, 302.102458),
        ("km_double_maxwell", 448.395165, 446.763967),
        ("km_log-normal", 340.767355, 270.426407),
    ],
)
def test_mean_and_median_G26_G27(model, mean, median):
    # The golden values are analytic, hence without the cut at vk_extent.
    cut = {"vk_extent": 1e5} if model in ("km_exp", "km_double_maxwell") else {}
    config = config_of(model, **cut)
    survival = integrate.quad(
        lambda v: 1.0 - float(speed_cdf(v, config)),
        *(0.0, 2e5),
        points=[100, 300, 1000, 3000, 10000],
        limit=500,
        epsabs=1e-6,
    )[0]
    assert survival == pytest.approx(mean, rel=1e-6)
    middle = optimize.brentq(lambda v: float(speed_cdf(v, config)) - 0.5, 1.0, 2000.0)
    assert middle == pytest.approx(median, rel=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_speeds_follow_the_distribution(model):
    config = config_of(model)
    speed = np.linalg.norm(draw(config), axis=1)
    assert stats.kstest(speed, lambda v: speed_cdf(v, config)).pvalue > LEAST_P


@pytest.mark.parametrize("model", ["km_exp", "km_double_maxwell"])
def test_cut_at_vk_extent(model):
    config = config_of(model, vk_extent=300.0)
    speed = np.linalg.norm(draw(config), axis=1)
    assert speed.max() <= 300.0 * (1 + 1e-12)
    assert speed.max() > 290.0
    assert stats.kstest(speed, lambda v: speed_cdf(v, config)).pvalue > LEAST_P
    assert speed_cdf([300.0, 500.0], config).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_double_maxwell_of_one_component(weight):
    config = config_of("km_double_maxwell", kick_weight_comp1=weight)
    sigma = 55.0 if weight == 1.0 else 334.0
    speed = np.linalg.norm(draw(config), axis=1)
    assert stats.kstest(speed, stats.maxwell(scale=sigma).cdf).pvalue > LEAST_P


@pytest.mark.parametrize("model", MODELS)
def test_directions_are_isotropic(model):
    kick = draw(config_of(model))
    direction = kick / np.linalg.norm(kick, axis=1, keepdims=True)
    for axis in range(3):
        assert stats.kstest(direction[:, axis], stats.uniform(-1, 2).cdf).pvalue > LEAST_P
    speed = np.linalg.norm(kick, axis=1)
    assert stats.spearmanr(speed, direction[:, 2]).pvalue > LEAST_P


def test_cdf_at_zero():
    for model in MODELS:
        assert speed_cdf(0.0, config_of(model)) == 0.0
