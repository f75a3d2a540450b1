"""Likelihoods whose posteriors are known in closed form, as Markov chains see them."""

import math

import numpy as np
import torch
from scipy import stats
from torch import nn

from mlpop.inference.prior import Prior


class Analytic(nn.Module):
    """A trained likelihood whose potential is `function(theta, x)`; counts its calls.

    The function's theta are in [-1, 1], the box of `unit_prior`, not in the unit cube.
    """

    def __init__(self, function, dimension, width=None):
        super().__init__()
        self.function = function
        self.theta_shape = torch.Size([dimension])
        self.x_shape = torch.Size([dimension if width is None else width])
        self.calls = 0
        self.points = 0

    def embed(self, x):
        return x

    def log_potential_embedded(self, theta, embedding):
        self.calls += 1
        self.points += theta.shape[0] * theta.shape[1]
        return self.function(2 * theta - 1, embedding)


def gaussian(dimension, spread, shift=0.0, slope=0.0):
    """x = theta + shift + N(0, spread), plus a function of x that means nothing."""

    def log_likelihood(theta, x):
        return -0.5 * ((theta + shift - x) / spread).square().sum(-1) + slope * x.sum(-1)

    return Analytic(log_likelihood, dimension)


def correlated(dimension, spread, correlation):
    """x = theta + normal noise with one correlation of all labels."""
    covariance = np.full((dimension, dimension), correlation * spread**2)
    np.fill_diagonal(covariance, spread**2)
    precision = torch.from_numpy(np.linalg.inv(covariance)).float()

    def log_likelihood(theta, x):
        offset = theta - x
        return -0.5 * ((offset @ precision) * offset).sum(-1)

    return Analytic(log_likelihood, dimension)


def two_modes(dimension, spread, share):
    """Two normal modes at -0.5 and 0.5, the first with this share, whatever x is."""

    def log_likelihood(theta, x):
        parts = [
            math.log(weight) - 0.5 * ((theta - centre) / spread).square().sum(-1)
            for centre, weight in ((-0.5, share), (0.5, 1 - share))
        ]
        return torch.logsumexp(torch.stack(parts), 0)

    return Analytic(log_likelihood, dimension)


def crescent():
    """Two crescents, as those of the two moons, whatever x is; of equal mass."""

    def log_likelihood(theta, x):
        first = (theta[..., 0] + theta[..., 1]).abs() / math.sqrt(2)
        second = (theta[..., 1] - theta[..., 0]) / math.sqrt(2)
        radius = ((first - 0.25).square() + second.square()).sqrt()
        outer = torch.where(first > 0.25, 0.0, -torch.inf)
        return -0.5 * ((radius - 0.1) / 0.01).square() + outer

    return Analytic(log_likelihood, 2)


def unit_prior(dimension):
    """The box from -1 to 1."""
    return Prior(tuple("abcdefghij"[:dimension]), (-1.0,) * dimension, (1.0,) * dimension)


def cut_normal(centre, spread, low=-1.0, high=1.0):
    """The exact posterior of one label of `gaussian`."""
    return stats.truncnorm(
        (low - centre) / spread, (high - centre) / spread, loc=centre, scale=spread
    )
