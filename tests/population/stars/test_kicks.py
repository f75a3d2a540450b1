"""Natal kicks: golden moments, agreement of draws and distribution, isotropy."""

import numpy as np
import pytest
from scipy import stats

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.population.stars.kicks import sample_kick

N = 40_000
LEAST_P = 1e-3
COMPONENTS, WEIGHT = (55.0, 334.0), 0.19
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


def speed_cdf(v, config):
    """Probability of a kick below `v` [km/s], in scipy's words; the cut models are cut."""

    def whole(speed):
        one, two = (stats.maxwell(scale=s).cdf(speed) for s in COMPONENTS)
        return {
            "km_maxwell": stats.maxwell(scale=config.sigma_k).cdf(speed),
            "km_exp": stats.gamma(2, scale=config.vk_c).cdf(speed),
            "km_double_maxwell": WEIGHT * one + (1 - WEIGHT) * two,
            "km_log-normal": stats.norm(config.vk_ln_mean, config.vk_ln_sigma).cdf(np.log(speed)),
        }[config.kick_model]

    if config.kick_model in ("km_exp", "km_double_maxwell"):
        return np.minimum(whole(v) / whole(config.vk_extent), 1.0)
    return whole(v)


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
    speed = np.linalg.norm(draw(config, n=1_000_000), axis=1)
    assert speed.mean() == pytest.approx(mean, abs=4.5 * speed.std() / 1000)
    assert np.median(speed) == pytest.approx(median, rel=5e-3)
    assert speed_cdf(median, config) == pytest.approx(0.5, abs=1e-6)


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
