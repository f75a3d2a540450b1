"""What theta of joined sets were drawn from: the prior and proposals, in some proportion."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mlpop.inference.proposals.proposal import Proposal


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
