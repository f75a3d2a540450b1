"""What rounds of truncated proposals learn from: draws of one prior, the truncated one."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from mlpop.datasets.loading import Dataset
from mlpop.errors import DataError
from mlpop.experiment.rounds.ensemble import validation_rows
from mlpop.experiment.rounds.learned_region import in_prior, inside
from mlpop.inference.proposals.proposal import make_proposal
from mlpop.inference.proposals.truncation import recorded_support
from mlpop.networks.rng import generator_from_seed

CONFIG: Any = SimpleNamespace(trainer=SimpleNamespace(validation_fraction=0.1))


def dataset(prior, unit):
    theta = prior.to_physical(unit)
    x = theta.astype(np.float32)
    return Dataset(theta=theta, x=x, labels=prior.labels, channels=("x",), source=Path("set"))


def two_rounds(mixture_at, region="density"):
    """Return the supports of two rounds, the second narrower, and sets of three rounds."""
    wide = mixture_at([[0.1, 0.1]], [0.04 * np.eye(2)])
    narrow = mixture_at([[0.3, 0.1]], [0.015 * np.eye(2)])
    options = {"kind": "truncated", "region": region}
    one = make_proposal(wide, generator_from_seed(1), **options)
    two = make_proposal(narrow, generator_from_seed(2), within=one.support, **options)
    unit = torch.rand(4000, 2, generator=generator_from_seed(3))
    draws = [p.draw(2000, generator_from_seed(4 + k)).theta for k, p in enumerate((one, two))]
    sets = {k: dataset(wide.prior, u) for k, u in enumerate([unit, *draws])}
    return one, two, sets, wide.prior


@pytest.mark.parametrize("region", ["density", "box"])
def test_supports_are_nested_and_all_sets_uniform_in_the_last(mixture_at, region):
    one, two, sets, prior = two_rounds(mixture_at, region)
    assert bool(one.support.contains(prior.to_unit(sets[2].theta)).all())
    found = inside(two.support, prior, sets)
    assert (
        found.count
        == sum(map(len, found.sets.values()))
        == sum(int(used.sum()) for used in found.used.values())
    )
    # of its own set nothing is lost, and of the first as much as the volume says
    assert found.used[2].all()
    volume = two.draw(100, generator_from_seed(9)).volume_fraction
    assert abs(len(found.sets[0]) / 4000 - volume) < 4 * (volume / 4000) ** 0.5 + 0.03 * volume
    for label in range(2):
        first, second, third = (found.sets[k].theta[:, label] for k in range(3))
        assert stats.ks_2samp(first, second).pvalue > 1e-3
        assert stats.ks_2samp(second, third).pvalue > 1e-3


def test_without_a_support_all_is_kept(mixture_at):
    _, _, sets, prior = two_rounds(mixture_at)
    found = inside(None, prior, sets)
    assert found.sets is sets
    assert found.count == 8000


def test_what_the_prior_does_not_reach_is_left_out(mixture_at):
    prior = mixture_at([[0.1, 0.1]], [0.04 * np.eye(2)]).prior
    theta = np.random.default_rng(1).uniform(-2, 2, (1000, 2))
    data = Dataset(theta=theta, x=theta, labels=prior.labels, channels=("x",), source=Path("set"))
    left = in_prior(prior, data)
    within = (np.abs(theta) <= 1).all(1)
    np.testing.assert_array_equal(left.theta, theta[within])
    np.testing.assert_array_equal(left.x, theta[within])
    assert in_prior(prior, left) is left
    with pytest.raises(DataError, match="set: none of 1000 theta lies inside of prior_ranges"):
        in_prior(prior, replace(data, theta=theta + 10))


@pytest.mark.parametrize("region", ["density", "box"])
def test_a_support_is_the_same_from_its_record(mixture_at, region):
    one, two, sets, prior = two_rounds(mixture_at, region)
    record = two.draw(50, generator_from_seed(9)).to_dict()
    again = recorded_support(record, two.support.conditioned, one.support)
    unit = prior.to_unit(sets[0].theta)
    assert torch.equal(again.contains(unit), two.support.contains(unit))
    assert again.edges == two.support.edges
    posterior = make_proposal(two.support.conditioned, generator_from_seed(1), kind="posterior")
    other = posterior.draw(50, generator_from_seed(9)).to_dict()
    assert recorded_support(other, two.support.conditioned, None) is None


def test_validation_rows_stay_the_same_simulations():
    """Whatever is kept, no row that validates in one round trains in another."""
    rng = np.random.default_rng(1)
    whole = {0: np.ones(200, bool), 1: np.ones(100, bool)}
    part = {0: rng.random(200) < 0.3, 1: rng.random(100) < 0.8}
    everything = validation_rows(CONFIG, whole, 7).numpy()
    used = np.concatenate(list(part.values()))
    kept = validation_rows(CONFIG, part, 7).numpy()
    assert set(used.nonzero()[0][kept]) == set(everything) & set(used.nonzero()[0])
    assert len(kept) > 5
