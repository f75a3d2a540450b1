"""What theta of joined sets were drawn from: the prior and proposals, in some proportion."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mlpop.inference.proposals.proposal import Proposal

_SAME_SHARE = 0.02
"""Shares of sets that differ by less are the same: some simulations fail."""


@dataclass(frozen=True, eq=False)
class ThetaMixture:
    """Sets of theta that are used together.

    Args:
        counts: round -> simulations of its set.
        proposals: round -> what they were drawn from; None is the prior.
    """

    counts: Mapping[int, int]
    proposals: Mapping[int, Proposal | None]

    @property
    def shares(self) -> dict[int, float]:
        """Round -> its part of all simulations."""
        total = sum(self.counts.values())
        return {round_: count / total for round_, count in self.counts.items() if count}

    def log_ratio(self, theta: Tensor) -> Tensor:
        """Return log densities (n,) of scaled theta (n, d) over that of the prior."""
        parts = []
        for round_, share in self.shares.items():
            proposal = self.proposals[round_]
            ratio = torch.zeros(len(theta)).double()
            ratio = ratio if proposal is None else proposal.log_ratio(theta)
            parts.append(ratio + torch.tensor(share).double().log())
        return torch.logsumexp(torch.stack(parts), 0)

    def is_prior(self) -> bool:
        """Tell whether everything was drawn from the prior."""
        return all(self.proposals[round_] is None for round_ in self.shares)

    def like(self, other: "ThetaMixture") -> bool:
        """Tell whether another one has the same proposals in the same proportion."""
        own, others = self.shares, other.shares
        return set(own) == set(others) and all(
            self.proposals[round_] is other.proposals[round_]
            and abs(own[round_] - others[round_]) < _SAME_SHARE
            for round_ in own
        )


def correction(
    tests: ThetaMixture, trained_on: ThetaMixture | None
) -> Callable[[Tensor], Tensor] | None:
    """Return the log ratio of what tests come from to what a posterior is under.

    Args:
        tests: where theta of the tests come from.
        trained_on: where those of the training come from, if the posterior is under that; None
            if it is under the prior.

    Returns:
        Scaled theta (n, d) to a log ratio (n,); None if it is the same everywhere.
    """
    if trained_on is None:
        return None if tests.is_prior() else tests.log_ratio
    if tests.like(trained_on):
        return None
    return lambda theta: tests.log_ratio(theta) - trained_on.log_ratio(theta)
