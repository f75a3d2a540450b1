"""Densities of joined sets of theta."""

import math

import numpy as np
import pytest
import torch

from mlpop.inference.proposals.proposal import make_proposal
from mlpop.inference.proposals.theta_mixture import ThetaMixture
from mlpop.networks.rng import generator_from_seed


@pytest.fixture(scope="module")
def conditioned(mixture_at):
    return mixture_at([[0.2, -0.1]], [np.diag([0.02, 0.03])])


@pytest.mark.parametrize("kind", ["posterior", "truncated"])
def test_ratio_to_the_prior_integrates_to_one(conditioned, kind):
    """Its mean over draws of the prior is 1."""
    proposal = make_proposal(conditioned, generator_from_seed(1), kind=kind)
    theta = torch.rand(200_000, 2, generator=generator_from_seed(2))
    ratio = proposal.log_ratio(theta).exp()
    error = float(ratio.std()) / 200_000**0.5
    # the volume of a truncated prior is known to a few per cent
    assert float(ratio.mean()) == pytest.approx(1, abs=0.05 + 4 * error)


def test_ratio_is_infinite_outside_of_the_support(conditioned):
    proposal = make_proposal(conditioned, generator_from_seed(1), kind="truncated")
    drawn = proposal.draw(200, generator_from_seed(3)).theta
    assert proposal.log_ratio(drawn).isfinite().all()
    assert proposal.log_ratio(torch.tensor([[0.05, 0.95]])).item() == -math.inf


def test_mixture_adds_up_its_parts(conditioned):
    proposal = make_proposal(conditioned, generator_from_seed(1), kind="posterior")
    mixture = ThetaMixture({0: 100, 1: 300}, {0: None, 1: proposal})
    theta = torch.tensor([[0.6, 0.45], [0.1, 0.75]])
    expected = 0.25 + 0.75 * proposal.log_ratio(theta).exp()
    torch.testing.assert_close(mixture.log_ratio(theta).exp(), expected)
    assert not mixture.is_prior()
    assert ThetaMixture({0: 100}, {0: None, 1: proposal}).is_prior()
