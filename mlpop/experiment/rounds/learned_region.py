"""What a round of truncated proposals learns from, and is tested on: all that lies in its support.

Networks of a posterior learn it under the distribution of their theta. In the support of a round
every earlier set is uniform too, since each lies inside that of the round before: together they
are draws of one prior, the truncated one, and no correction is needed.

References:
    Deistler, Goncalves & Macke 2022, https://arxiv.org/abs/2210.04815, appendix 6.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlpop.datasets.loading import Dataset
from mlpop.errors import DataError
from mlpop.inference.prior import Prior
from mlpop.inference.proposals.truncation import Support
from mlpop.io.scratch import taken


@dataclass(frozen=True, eq=False)
class LearnedSets:
    """Sets of simulations, and which of them are used.

    Attributes:
        sets: round -> those that are used.
        used: round -> (n,) which of its simulations these are.
    """

    sets: Mapping[int, Dataset]
    used: Mapping[int, NDArray[np.bool_]]

    @property
    def count(self) -> int:
        """Simulations that are used."""
        return sum(len(data) for data in self.sets.values())


def inside(support: Support | None, prior: Prior, sets: Mapping[int, Dataset]) -> LearnedSets:
    """Keep the simulations in a support; None keeps all."""
    if support is None:
        return LearnedSets(sets, {round_: np.ones(len(d), bool) for round_, d in sets.items()})
    used = {
        round_: support.contains(prior.to_unit(data.theta)).numpy()
        for round_, data in sets.items()
    }
    kept = {round_: _rows(data, used[round_]) for round_, data in sets.items()}
    return LearnedSets({round_: data for round_, data in kept.items() if len(data)}, used)


def in_prior(prior: Prior, data: Dataset) -> Dataset:
    """Leave out simulations whose theta no prior has drawn.

    Raises:
        DataError: none is left.
    """
    inside = prior.contains(data.theta)
    if not inside.any():
        raise DataError(
            f"{data.source}: none of {len(data)} theta lies inside of prior_ranges; they must be "
            "in physical units, or the prior another"
        )
    return data if inside.all() else _rows(data, inside)


def _rows(data: Dataset, which: NDArray[np.bool_]) -> Dataset:
    x = taken(data.x, which, data.source.parent)
    return replace(data, theta=data.theta[which], x=x)
