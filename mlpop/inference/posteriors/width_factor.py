"""How wide an ensemble is: as wide as simulations that it did not learn from say."""

import math
from collections.abc import Sequence

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.networks.rng import one_thread

FACTORS = (0.5, 2.0)
"""The least and the largest factor that is looked for."""

_UNLIKELY = 1e9
"""What a likelihood that is no number counts for [nat]."""

_USUAL = 0.2
"""Standard deviation of the log of the factor before any simulation is seen."""


@torch.no_grad()
@one_thread()
def fit_width_factor(members: Sequence[EmbedOnce], theta: Tensor, x: Tensor) -> float:
    """Return the factor of all widths at which the ensemble is most likely, and widen it so.

    A mixture of networks is wider than each of them, averaged weights leave smaller residuals
    than the widths have learned from, and networks that fit their training set too well are too
    narrow. One number for all of it is known from few simulations, to about 1 / sqrt(2 n d) of
    it; where these are very few it stays near 1, as though log(factor) were normal with a
    standard deviation of 0.2. It has two decimals, so that it is the same on any machine.

    Args:
        members: trained densities of theta, of equal weight.
        theta: (n, d) in the unit cube, of simulations that were not trained on.
        x: (n, *x_shape) as the networks see them.

    References:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599 (temperature scaling).
    """
    embeddings = [member.embed(x) for member in members]

    def cost(log_factor: float) -> float:
        _widen(members, math.exp(log_factor))
        parts = [
            member.log_prob_embedded(theta[None], embedding)[0]
            for member, embedding in zip(members, embeddings, strict=True)
        ]
        likely = float((torch.stack(parts).logsumexp(0) - math.log(len(parts))).double().sum())
        return 0.5 * (log_factor / _USUAL) ** 2 - (likely if math.isfinite(likely) else -_UNLIKELY)

    bounds = tuple(math.log(factor) for factor in FACTORS)
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    width_factor = round(math.exp(found.x), 2)
    _widen(members, width_factor)
    return width_factor


def _widen(members: Sequence[EmbedOnce], width_factor: float) -> None:
    for member in members:
        member.widen(width_factor)
