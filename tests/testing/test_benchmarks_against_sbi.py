"""benchmarks/training.py and expected_coverage.py: sbi is asked for the same numbers."""

import math

import pytest
import torch

from benchmarks import expected_coverage, training
from mlpop.config.blocks.training import TrainingOptions
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.prior import RESOLUTION, Prior
from mlpop.networks.rng import generator_from_seed, lend


@pytest.mark.parametrize("case", ["maf", "nsf", "maps", "vectors"])
def test_losses_with_atoms_are_those_of_sbi(case: str) -> None:
    theta, x = training.population(6)
    if case in ("maf", "nsf"):
        ways = training.atomic_ways(theta, x, case, 4)
    else:
        x = x if case == "maps" else torch.randn(6, 20, generator=generator_from_seed(3))
        ways = training.ratio_ways(theta, x, "resnet", 4)
    values = []
    for way in ways:
        with lend(generator_from_seed(5)), torch.no_grad():
            values.append(float(way()))
    assert values[0] == pytest.approx(values[1], abs=1e-4)


@pytest.mark.parametrize("way", ["train_ours", "train_sbi"])
def test_losses_that_are_compared_are_of_densities_on_the_cube(way: str) -> None:
    theta, x = training.population(30)
    options = TrainingOptions(batch_size=10, lr=1e-3, max_num_epochs=2, stop_after_epochs=5)
    losses = getattr(training, way)(theta, x, "mdn", options)
    # a mixture of z that hardly learned may rise towards the faces: more points there
    z = 2 * torch.randn(1600, training.LABELS, generator=generator_from_seed(1))
    per_point = (math.log(2) - 0.5 * z.square() * (1 - 1 / 4)).sum(-1)
    points = torch.special.ndtr(z).clamp(RESOLUTION, 1 - RESOLUTION)
    with torch.no_grad():
        density = (per_point - losses(points, x[:1].expand(1600, *training.SHAPE))).exp()
    error = float(density.std()) / 40
    assert error < 0.15
    assert float(density.mean()) == pytest.approx(1, abs=4 * error)


@pytest.mark.parametrize("model", ["maf", "mdn"])
def test_ranks_of_coverage_go_by_the_same_density(model: str) -> None:
    generator = generator_from_seed(0)
    theta = torch.rand(20, expected_coverage.LABELS, generator=generator)
    x = torch.rand(20, *expected_coverage.SHAPE, generator=generator)
    members = expected_coverage.make_members(model, 2, theta, x)
    truths, _, log_density = expected_coverage.sbi_way(members, model, theta, x)
    labels = tuple("abcde")
    posterior = EnsemblePosterior(members, Prior(labels, (0.0,) * 5, (1.0,) * 5))
    expected = posterior.log_prob_embedded(theta[:, None], posterior.embed(x[:1].numpy()))[:, 0]
    torch.testing.assert_close(log_density(truths, x[0]), expected, atol=1e-4, rtol=1e-5)
