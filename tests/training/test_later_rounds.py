"""Two rounds of inference where the posterior is known: are later rounds corrected rightly?"""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from mlpop.config.blocks.training import TrainingOptions
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed
from mlpop.training.fit import fit, validation_split

PRIOR = Prior(("a", "b"), (-1.0, -1.0), (1.0, 1.0))
SPREAD = 0.3
OBSERVED = np.array([0.25, -0.4], dtype=np.float32)
ROWS = 2000


def _simulate(theta, generator):
    """Return x (n, 2) of theta (n, 2) in the unit cube."""
    return 2 * theta - 1 + SPREAD * torch.randn(theta.shape, generator=generator)


def _analytic():
    """Mean (2,) and standard deviation (2,) of the normal posterior, cut to the prior."""
    each = [
        truncnorm((-1 - x) / SPREAD, (1 - x) / SPREAD, loc=x, scale=SPREAD)
        for x in OBSERVED.tolist()
    ]
    return np.array([law.mean() for law in each]), np.array([law.std() for law in each])


def _train(estimator, theta, generator, **how):
    fit(
        estimator,
        theta,
        _simulate(theta, generator),
        validation=validation_split(ROWS, 0.1, generator),
        generator=generator_from_seed(4),
        options=TrainingOptions(batch_size=100, lr=4e-3, stop_after_epochs=10, max_num_epochs=60),
        **how,
    )
    return estimator


def _draws(estimator, number):
    posterior = EnsemblePosterior([estimator], PRIOR)
    return posterior.sample(number, OBSERVED, generator_from_seed(9))


def _first_round(model):
    generator = generator_from_seed(3)
    theta = torch.rand(ROWS, 2, generator=generator)
    spec = EstimatorSpec(
        model=model,
        hidden_features=24,
        num_components=4,
        num_transforms=3,
        num_bins=5,
        x_shape=(2,),
        dimension=2,
    )
    estimator = build_estimator(spec, theta, theta, generator_from_seed(1))
    return _train(estimator, theta, generator), generator


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mdn", "maf"])
def test_atomic_loss_corrects_for_the_proposal_S21(model):
    """theta of round 2 come from round 1's posterior; likelihood alone counts that posterior
    twice and ends with standard deviations too narrow by sqrt(2)."""
    first, generator = _first_round(model)
    theta = PRIOR.to_unit(_draws(first, ROWS))
    mean, spread = _analytic()
    ends = {}
    for loss in ("atomic", "maximum_likelihood"):
        draws = _draws(_train(copy.deepcopy(first), theta, generator, loss=loss), 20_000)
        ends[loss] = (draws.mean(0) - mean) / spread, draws.std(0) / spread
    bias, width = ends["atomic"]
    assert np.abs(bias).max() < 0.25
    assert 0.86 < width.min() <= width.max() < 1.14
    # the control: the same data without the correction
    _, narrow = ends["maximum_likelihood"]
    assert narrow.max() < 0.82


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mdn", "maf"])
def test_truncated_round_needs_no_correction_S21(model):
    """theta of round 2 are uniform in a part of the prior that holds the posterior."""
    first, generator = _first_round(model)
    draws = PRIOR.to_unit(_draws(first, 5000))
    low, high = draws.min(0).values, draws.max(0).values
    assert float((high - low).prod()) < 0.95
    theta = low + (high - low) * torch.rand(ROWS, 2, generator=generator)
    second = _draws(_train(first, theta, generator), 20_000)
    mean, spread = _analytic()
    assert np.abs((second.mean(0) - mean) / spread).max() < 0.25
    width = second.std(0) / spread
    assert 0.86 < width.min() <= width.max() < 1.14
