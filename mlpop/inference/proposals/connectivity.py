"""How much of a support lies apart from its largest connected region."""

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from mlpop.inference.proposals.truncation import Support

_POINTS = 2000
"""Draws that are looked at."""
_NEIGHBOURS = 10
_STEPS = 5
"""Places between two neighbours at which the support is asked for."""


def fraction_apart(support: Support, theta: Tensor) -> float:
    """Return the fraction of draws of a support outside of its largest connected region.

    Two draws are connected if the straight line between them lies in the support. Every draw is
    compared with its nearest neighbours, in units of the standard deviation of each label.

    Args:
        support: what the draws lie in.
        theta: (n, d) draws, uniform in the support; the first 2000 are looked at.
    """
    theta = theta[:_POINTS]
    neighbours = min(_NEIGHBOURS, len(theta) - 1)
    if neighbours < 1:
        return 0.0
    places = (theta / theta.std(0).clamp_min(1e-12)).double().numpy()
    near = cKDTree(places).query(places, neighbours + 1)[1][:, 1:].ravel()
    first, second = np.repeat(np.arange(len(theta)), neighbours), np.asarray(near)
    part = torch.linspace(0, 1, _STEPS + 2)[1:-1, None, None]
    between = theta[first] + part * (theta[second] - theta[first])
    inside = support.contains(between.flatten(0, 1)).view(_STEPS, -1).all(0).numpy()
    pairs = coo_array((inside[inside], (first[inside], second[inside])), shape=[len(theta)] * 2)
    _, region = connected_components(pairs, directed=False)
    return 1 - float(np.bincount(region).max()) / len(theta)
