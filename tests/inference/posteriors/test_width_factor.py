"""The width of an ensemble, against the width that its simulations have."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from mlpop.errors import DataError
from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.inference.estimators.truncated_mixture import TruncatedMixture
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.width_factor import FACTORS, fit_width_factor
from mlpop.inference.prior import Prior

WIDTH = 0.06


def member(width: float, mean: float = 0.5) -> EmbedOnce:
    """Return a density of one label that is a Gaussian, whatever x."""
    density = TruncatedMixture(1, 2, 1, 4)
    raw = math.log(math.expm1(width))
    with torch.no_grad():
        for value in density.net.parameters():
            value.zero_()
        density.first.copy_(torch.tensor([0.0, mean, raw]).view(1, 3, 1))
    return EmbedOnce(density, torch.nn.Identity(), torch.Size((1,)), torch.Size((2,))).eval()


def simulations(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    theta = np.random.default_rng(seed).normal(0.5, WIDTH, (count, 1))
    return torch.from_numpy(theta).float(), torch.zeros(count, 2)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.4])
def test_what_was_trained_too_wide_or_too_narrow_is_mended(factor):
    """Over 30 sets of simulations, where one is uncertain by 1 / sqrt(2 n)."""
    found = [
        fit_width_factor([member(WIDTH / factor)], *simulations(500, seed)) for seed in range(30)
    ]
    logs = np.log(np.array(found) / factor)
    # less what the factor is drawn to 1
    kept = 1000 / (1000 + 1 / 0.2**2)
    expected = (kept - 1) * math.log(factor)
    assert abs(logs.mean() - expected) < 3 / math.sqrt(1000 * 30)
    assert logs.std() == pytest.approx(kept / math.sqrt(1000), rel=0.4)


def test_an_ensemble_is_made_as_wide_as_it_is_together():
    """Members as wide as the truth, displaced by half of it, are too wide as a mixture."""
    members = [member(WIDTH, 0.5 - WIDTH / 2), member(WIDTH, 0.5 + WIDTH / 2)]
    theta, x = simulations(4000, 3)
    width_factor = fit_width_factor(members, theta, x)

    def likelihood(factor: float) -> float:
        z = theta[:, 0].double().numpy()
        means = (0.5 - WIDTH / 2, 0.5 + WIDTH / 2)
        parts = [stats.norm.pdf(z, mean, factor * WIDTH) for mean in means]
        return float(np.log(np.mean(parts, axis=0)).sum())

    assert 0.8 < width_factor < 0.95
    assert likelihood(width_factor) > likelihood(width_factor - 0.03)
    assert likelihood(width_factor) > likelihood(width_factor + 0.03)
    assert all(one.net.width_factor == width_factor for one in members)


def test_few_simulations_say_little():
    for factor, count in ((0.5, 1), (2.0, 1)):
        width_factor = fit_width_factor([member(WIDTH / factor)], *simulations(count, 5))
        assert 0.7 < width_factor < 1.4


def test_it_stays_in_reach_and_1_where_nothing_is_finite():
    theta, x = simulations(500, 1)
    assert fit_width_factor([member(5 * WIDTH)], theta, x) == pytest.approx(FACTORS[0], abs=0.01)
    broken = member(WIDTH)
    with torch.no_grad():
        broken.net.first.fill_(math.nan)
    assert fit_width_factor([broken], theta, x) == pytest.approx(1.0, abs=0.01)


def test_a_posterior_sets_its_members_and_refuses_no_width():
    one = member(WIDTH)
    prior = Prior(("a",), (0.0,), (1.0,))
    posterior = EnsemblePosterior([one], prior, width_factor=0.8)
    assert one.net.width_factor == 0.8
    exact = stats.norm(0.5, 0.8 * WIDTH).logpdf([0.45, 0.5])
    assert posterior.log_prob([[0.45], [0.5]], [0.0, 0.0]) == pytest.approx(exact, abs=1e-4)
    with pytest.raises(DataError, match="width_factor must be above 0, found 0"):
        EnsemblePosterior([one], prior, width_factor=0)
