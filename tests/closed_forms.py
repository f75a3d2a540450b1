"""Estimators whose answers are known in closed form."""

import math

import numpy as np
import pytest
import torch
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from torch import nn

from mlpop.config.methods import CLASSIFIERS
from mlpop.inference.estimators.estimator import EmbedOnce, build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.prior import RESOLUTION, Prior, in_cube
from mlpop.networks.rng import generator_from_seed


class GaussianHead(ConditionalDensityEstimator):
    """Normal around the embedding, cut to [-1, 1]: the exact posterior of `GaussianLinear`.

    Its u in the unit cube stand for 2 u - 1 in [-1, 1]. Draws are no numbers where next to none
    (1e-300) of the normal is inside.
    """

    def __init__(self, dimension, spread, shift=0.0):
        super().__init__(nn.Identity(), torch.Size([dimension]), torch.Size([dimension]))
        self.spread = spread
        self.shift = shift

    def _edges(self, condition):
        """Return the sign of the centre, its size, and both edges seen from there, in spreads.

        Mirrored to the right of 0, so that the lower edge is never in the upper tail.
        """
        centre = condition.double() + self.shift
        size = centre.abs()
        sign = torch.where(centre < 0, -1.0, 1.0).double()
        return sign, size, (-1 - size) / self.spread, (1 - size) / self.spread

    def log_prob(self, input, condition, **kwargs):
        sign, size, low, high = self._edges(condition)
        z = (sign * (2 * input.double() - 1) - size) / self.spread
        at_low, at_high = (torch.special.log_ndtr(edge) for edge in (low, high))
        log_mass = at_high + torch.log1p(-(at_low - at_high).exp())
        log_normal = -0.5 * z.square() - 0.5 * math.log(2 * math.pi) - math.log(self.spread)
        return (log_normal - log_mass + math.log(2)).sum(-1).to(input)

    def loss(self, input, condition, **kwargs):
        return -self.log_prob(input[None], condition)[0]

    def sample(self, sample_shape, condition, **kwargs):
        sign, size, low, high = self._edges(condition)
        unit = torch.rand(*sample_shape, *condition.shape, dtype=torch.float64)
        at_low, at_high = (torch.special.ndtr(edge) for edge in (low, high))
        z = torch.special.ndtri(at_low + unit * (at_high - at_low))
        t = sign * (size + self.spread * z)
        u = ((t.clamp(-1, 1) + 1) / 2).clamp(RESOLUTION, 1 - RESOLUTION).float()
        return torch.where(at_high > 1e-300, u, torch.nan)


@pytest.fixture(scope="session")
def gaussian_member():
    """Factory of an estimator that is N(x + shift, spread) cut to [-1, 1]."""

    def make(dimension, spread, shift=0.0):
        shape = torch.Size([dimension])
        return EmbedOnce(GaussianHead(dimension, spread, shift), nn.Flatten(), shape, shape)

    return make


@pytest.fixture(scope="session")
def gaussian_problem():
    """2-d data of x = theta + N(0, 0.3): prior, physical theta, x."""
    rng = np.random.default_rng(11)
    prior = Prior(("a", "b"), (-1.0, -1.0), (1.0, 1.0))
    theta = prior.sample(3000, generator_from_seed(12))
    x = (theta + 0.3 * rng.standard_normal(theta.shape)).astype(np.float32)
    return prior, theta, x


@pytest.fixture(scope="session")
def small_estimator():
    """Factory of an untrained 2-d estimator on vectors of three numbers."""

    def make(model="mdn", seed=0, **changes):
        values = {
            "kind": "ratio" if model in CLASSIFIERS else "posterior",
            "model": model,
            "hidden_features": 8,
            "num_components": 3,
            "num_transforms": 2,
            "num_bins": 4,
            "x_shape": (3,),
            "dimension": 2,
        }
        spec = EstimatorSpec.parse(values | changes)
        generator = generator_from_seed(seed)
        theta = torch.rand(40, 2, generator=generator)
        places = 2 * theta - 1
        x = torch.cat([places, places[:, :1] ** 2], 1) + 0.1 * torch.randn(
            40, 3, generator=generator
        )
        return build_estimator(spec, theta, x, generator), spec, theta, x

    return make


class SilentTracker:
    """Keeps sbi from writing TensorBoard files."""

    log_dir = None

    def log_metric(self, *arguments, **options):
        pass

    log_metrics = log_params = add_figure = flush = log_metric


@pytest.fixture
def silent_tracker():
    """A tracker for sbi's trainers that forgets everything."""
    return SilentTracker()


class MixtureAt:
    """A `ConditionedPosterior` in closed form: Gaussians cut to a box; counts what is asked.

    Means and covariances are in the units of the box, from -edge to edge; theta are in the cube.
    """

    def __init__(self, means, covariances, weights=None, *, edge=1.0, cheap=True):
        self.means = torch.as_tensor(np.array(means), dtype=torch.float64)
        size = self.means.shape[1]
        weights = torch.ones(len(self.means)) if weights is None else torch.tensor(weights)
        self.weights = weights.double() / weights.sum()
        self.parts = [
            torch.distributions.MultivariateNormal(
                mean, torch.as_tensor(np.array(covariance), dtype=torch.float64)
            )
            for mean, covariance in zip(self.means, covariances, strict=True)
        ]
        self.edge = edge
        self.prior = Prior(tuple(f"t{k}" for k in range(size)), (-edge,) * size, (edge,) * size)
        self.cheap = cheap
        self.densities_asked = 0
        self.draws_made = 0

    def to_box(self, theta):
        """Return theta (n, d) of the cube in the units of the box, double."""
        return self.edge * (2 * theta.double() - 1)

    def from_box(self, places):
        """Undo `to_box`, float32."""
        return ((torch.as_tensor(places).double() / self.edge + 1) / 2).float()

    def sample(self, num_samples, generator):
        parts, kept = [], 0
        while kept < num_samples:
            lot = num_samples - kept + 8
            which = torch.multinomial(self.weights, lot, replacement=True, generator=generator)
            normal = torch.randn(
                lot, self.means.shape[1], generator=generator, dtype=torch.float64
            )
            factors = torch.stack([part.scale_tril for part in self.parts])[which]
            theta = self.from_box(self.means[which] + (factors @ normal[..., None])[..., 0])
            parts.append(theta[in_cube(theta)])
            kept += len(parts[-1])
        self.draws_made += num_samples
        return torch.cat(parts)[:num_samples]

    def log_prob(self, theta):
        self.densities_asked += len(theta)
        places = self.to_box(theta.nan_to_num())
        values = torch.stack([part.log_prob(places) for part in self.parts])
        mixed = torch.logsumexp(values + self.weights.log()[:, None], 0)
        log_volume = self.means.shape[1] * math.log(2 * self.edge)
        return torch.where(in_cube(theta), (mixed + log_volume).float(), -torch.inf)

    def density(self, theta):
        return self.log_prob(theta)

    def consensus(self, theta):
        return self.log_prob(theta)


@pytest.fixture(scope="session")
def mixture_at():
    """Factory of a conditioned posterior whose density is known."""
    return MixtureAt
