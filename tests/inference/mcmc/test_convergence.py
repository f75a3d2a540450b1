import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.inference.mcmc.convergence import bulk_ess, r_hat


def _chains(seed, phi, steps, count, shift=0.0, scale=0.0):
    """Autoregressive chains with different means and widths."""
    noise = np.random.default_rng(seed).standard_normal((steps, count))
    chains = np.empty_like(noise)
    chains[0] = noise[0] / np.sqrt(1 - phi**2)
    for step in range(1, steps):
        chains[step] = phi * chains[step - 1] + noise[step]
    return chains * (1 + scale * np.arange(count)) + shift * np.arange(count)


@pytest.mark.parametrize(
    ("chains", "expected_r_hat", "expected_ess"),
    [
        ((1, 0.0, 200, 4), 1.0053318652414092, 811.8332002525241),
        ((2, 0.8, 500, 4), 1.0322020250150798, 128.5557788615137),
        ((3, 0.3, 101, 20), 1.0111529750388117, 1027.1408663537184),
        ((4, -0.5, 200, 4), 1.009648432857859, 2322.471989593555),
        ((5, 0.5, 300, 4, 0.3, 0.0), 1.0546424058724126, 88.33355009287985),
        ((6, 0.5, 300, 4, 0.0, 0.5), 1.0591505134196069, 432.84182742233304),
        ((7, 0.0, 25, 20), 1.0023007335309062, 641.1736993214295),
    ],
)
def test_values_of_arviz_0_22(chains, expected_r_hat, expected_ess):
    draws = _chains(*chains)
    assert r_hat(draws) == pytest.approx(expected_r_hat, rel=1e-12)
    # arviz adds one more correlation where the sum ends
    assert bulk_ess(draws) == pytest.approx(expected_ess, rel=0.02)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_ess_of_autoregressive_chains_is_the_closed_form(phi):
    draws = _chains(0, phi, 20_000, 4)
    exact = draws.size * (1 - phi) / (1 + phi)
    assert bulk_ess(draws) == pytest.approx(exact, rel=0.05)
    assert r_hat(draws) == pytest.approx(1, abs=0.003)


def test_chains_in_different_modes_are_seen():
    apart = _chains(0, 0.0, 100, 10)
    apart[:, 5:] += 6
    assert r_hat(apart) > 1.5
    assert bulk_ess(apart) < 30


def test_chains_of_different_width_are_seen():
    """The means agree: only the folded ranks tell."""
    draws = _chains(0, 0.0, 400, 8)
    draws[:, 4:] *= 5
    assert r_hat(draws) > 1.2


def test_a_chain_that_drifts_is_seen():
    drift = np.linspace(0, 4, 400)[:, None] + _chains(0, 0.0, 400, 4)
    assert r_hat(drift) > 1.3


def test_every_label_for_itself():
    draws = np.stack([_chains(1, 0.0, 200, 4), _chains(2, 0.9, 200, 4)], -1)[:, :, None]
    assert r_hat(draws).shape == bulk_ess(draws).shape == (1, 2)
    assert bulk_ess(draws)[0, 1] == pytest.approx(bulk_ess(draws[:, :, 0, 1]))
    assert bulk_ess(draws)[0, 0] > 5 * bulk_ess(draws)[0, 1]


def test_constant_chains_have_no_value():
    constant = np.ones((50, 4))
    assert np.isnan(r_hat(constant))
    assert np.isnan(bulk_ess(constant))


def test_too_few_draws_are_refused():
    with pytest.raises(DataError, match=r"n at least 4, but got \(3, 5\)"):
        r_hat(np.zeros((3, 5)))
