"""The part of a support that lies apart from its largest region."""

import math

import numpy as np
import pytest
import torch

from mlpop.inference.proposals.connectivity import fraction_apart
from mlpop.inference.proposals.proposal import make_proposal
from mlpop.networks.rng import generator_from_seed


def apart(posterior, count=1000):
    proposal = make_proposal(posterior, generator_from_seed(1), kind="truncated")
    draw = proposal.draw(count, generator_from_seed(2))
    assert draw.apart_fraction == fraction_apart(proposal.support, draw.theta)
    return draw.apart_fraction


@pytest.mark.parametrize("size", [1, 2, 5])
def test_one_region_is_whole(mixture_at, size):
    spread = 0.1 * np.eye(size)
    spread[0, -1] = spread[-1, 0] = 0.09 if size > 1 else 0.1
    assert apart(mixture_at([[0.1] * size], [0.1 * spread])) == 0


def test_an_island_is_counted_by_its_volume(mixture_at):
    # two disks, of radii 3 : 1, far from each other
    posterior = mixture_at(
        [[-0.5, 0.0], [0.6, 0.0]], [np.eye(2) * 0.06**2, np.eye(2) * 0.02**2], [0.9, 0.1]
    )
    proposal = make_proposal(posterior, generator_from_seed(1), kind="truncated")
    draw = proposal.draw(4000, generator_from_seed(2))
    share = float((draw.theta[:2000, 0] > 0.6).double().mean())
    assert share > 0.05
    assert draw.apart_fraction == pytest.approx(share, abs=1e-9)


def test_a_ring_is_one_region(mixture_at):
    angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    means = 0.6 * np.stack([np.cos(angles), np.sin(angles)], 1)
    assert apart(mixture_at(means, [np.eye(2) * 0.05**2] * 24)) == 0


def test_few_draws(mixture_at):
    posterior = mixture_at([[0.0, 0.0]], [np.eye(2) * 0.1**2])
    support = make_proposal(posterior, generator_from_seed(1), kind="truncated").support
    assert fraction_apart(support, torch.full((1, 2), 0.5)) == 0
    assert fraction_apart(support, torch.full((2, 2), 0.5)) == 0
