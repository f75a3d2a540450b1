"""Draws under the prior become draws under what tests come from."""

import numpy as np
import torch
from scipy import stats

from mlpop.inference.diagnostics.reweighting import reweighted
from mlpop.networks.rng import generator_from_seed


def test_product_of_normal_densities_is_drawn_from():
    """N(0, 1) times exp(-(theta - 1)^2 / 2) is N(1/2, 1/2)."""
    draws = torch.randn(20_000, 3, 1, generator=generator_from_seed(1))
    log_prob = -0.5 * draws[..., 0] ** 2
    found, density = reweighted(
        draws,
        log_prob,
        lambda theta: -0.5 * (theta[:, 0] - 1) ** 2 + 5,
        2000,
        generator_from_seed(2),
    )
    assert found.shape == (2000, 3, 1)
    for j in range(3):
        assert stats.kstest(found[:, j, 0], stats.norm(0.5, 0.5**0.5).cdf).pvalue > 1e-3
        assert len(np.unique(found[:, j, 0])) == 2000
    exact = -((found[..., 0] - 0.5) ** 2)
    offset = density - exact
    assert float(offset.std()) < 1e-4


def test_few_accepted_draws_are_repeated_in_turn():
    draws = torch.arange(100.0)[:, None, None]
    found, _ = reweighted(
        draws,
        torch.zeros(100, 1),
        lambda theta: torch.where(theta[:, 0] < 4, 0.0, -torch.inf),
        10,
        generator_from_seed(1),
    )
    assert found[:, 0, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_draws_that_no_test_could_come_from_are_kept():
    draws = torch.arange(6.0)[:, None, None]
    found, density = reweighted(
        draws,
        torch.ones(6, 1),
        lambda theta: torch.full((len(theta),), -torch.inf),
        4,
        generator_from_seed(1),
    )
    assert found[:, 0, 0].tolist() == [0, 1, 2, 3]
    assert density.isfinite().all()
