"""Draws under the prior become draws under what tests come from."""

import numpy as np
import pytest
import torch
from scipy import stats

from mlpop.inference.diagnostics.reweighting import reweighted
from mlpop.networks.rng import generator_from_seed


def test_product_of_normal_densities_is_drawn_from():
    """N(0, 1) times exp(-(theta - 1)^2 / 2) is N(1/2, 1/2)."""
    draws = torch.randn(20_000, 3, 1, generator=generator_from_seed(1))
    log_prob = -0.5 * draws[..., 0] ** 2
    found, density, accepted = reweighted(
        draws,
        log_prob,
        lambda theta: -0.5 * (theta[:, 0] - 1) ** 2 + 5,
        2000,
        generator_from_seed(2),
    )
    assert found.shape == (2000, 3, 1)
    assert (accepted > 2000).all()
    for j in range(3):
        assert stats.kstest(found[:, j, 0], stats.norm(0.5, 0.5**0.5).cdf).pvalue > 1e-3
        assert len(np.unique(found[:, j, 0])) == 2000
    exact = -((found[..., 0] - 0.5) ** 2)
    offset = density - exact
    assert float(offset.std()) < 1e-4


def below(limit):
    return lambda theta: torch.where(theta[:, 0] < limit, 0.0, -torch.inf)


def test_accepted_draws_beyond_the_least_are_repeated_in_turn():
    draws = torch.arange(100.0)[:, None, None]
    found, _, accepted = reweighted(
        draws, torch.zeros(100, 1), below(4), 10, generator_from_seed(1), least=4
    )
    assert accepted.tolist() == [4]
    assert found[:, 0, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize(("limit", "least"), [(4, 5), (0, 1), (0, 0)])
def test_posteriors_with_too_few_accepted_draws_are_not_drawn_from(limit, least):
    draws = torch.arange(6.0)[:, None, None]
    found, density, accepted = reweighted(
        draws, torch.ones(6, 1), below(limit), 4, generator_from_seed(1), least=least
    )
    assert accepted.tolist() == [limit]
    assert not found.any()
    assert not density.any()


def test_more_draws_are_made_only_for_posteriors_that_lack_them():
    """Of uniform draws 0.6, 0.1 and 0 are accepted."""
    generator = generator_from_seed(3)
    limits = torch.tensor([0.6, 0.1, 0.0])
    asked = []

    def draw(rows, number):
        theta = torch.rand(number, len(rows), 1, generator=generator)
        # the distance to the limit, accepted where it is negative
        return theta - limits[rows, None], torch.zeros(number, len(rows))

    def more(rows, number):
        asked.append((rows.tolist(), number))
        return draw(rows, number)

    found, _, accepted = reweighted(
        *draw(torch.arange(3), 1000), below(0), 500, generator, more=more, most=20_000
    )
    assert (accepted >= 500).tolist() == [True, True, False]
    assert accepted[2] == 0
    assert len(found[:, 1].unique()) == 500
    # after 16 000 draws, of which none is accepted, the last one is given up
    assert asked == [([1, 2], 1000), ([1, 2], 2000), ([1, 2], 4000), ([2], 8000)]
    assert stats.kstest(found[:, 1, 0], stats.uniform(-0.1, 0.1).cdf).pvalue > 1e-3


def test_a_larger_ratio_found_later_rejects_what_was_accepted_before():
    """The ratio is theta; the first draws are all below 0.5, and know nothing of larger ones."""
    generator = generator_from_seed(5)

    def more(rows, number):
        return torch.rand(number, 1, 1, generator=generator), torch.zeros(number, 1)

    first = torch.rand(1000, 1, 1, generator=generator) / 2
    found, density, accepted = reweighted(
        first,
        torch.zeros(1000, 1),
        lambda theta: theta[:, 0].log(),
        4000,
        generator,
        more=more,
    )
    assert accepted >= 4000
    theta = found[:, 0, 0]
    torch.testing.assert_close(density[:, 0], theta.double().log())
    # on either side the density rises with theta, whichever draws came first
    above = theta[theta > 0.5].double()
    assert stats.kstest(above, lambda t: (t**2 - 0.25) / 0.75).pvalue > 1e-3
    below_half = theta[theta <= 0.5].double()
    assert stats.kstest(below_half, lambda t: 4 * t**2).pvalue > 1e-3
