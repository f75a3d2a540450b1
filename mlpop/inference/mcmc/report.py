"""What Markov chains tell about themselves, and what is wrong with it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlpop.inference.mcmc.chains import WarmChains
from mlpop.inference.mcmc.convergence import bulk_ess, r_hat

MAX_R_HAT = 1.05
"""Twenty short chains scatter by 0.01 around 1, so that 1.01 would cry wolf."""

MIN_ESS = 400
MIN_ESS_FRACTION = 0.1
"""Fewer independent draws are a warning: 400, or a tenth of the draws where these are fewer."""

MIN_EVIDENCE_ESS = 100


def least_ess(num_samples: int) -> float:
    """Return how many independent draws `num_samples` must be worth at least."""
    return min(MIN_ESS, MIN_ESS_FRACTION * num_samples)


@dataclass(frozen=True)
class McmcReport:
    """How the Markov chains of one observation did.

    Attributes:
        labels: d names.
        sampler: the documented name.
        num_chains: for every member.
        num_samples: draws that were returned.
        r_hat: (label) rank-normalized split R-hat, the worst of all members; None where a label
            did not vary.
        ess: (label) effective number of the draws that were returned; None likewise.
        jump_acceptance: of every member: fraction of accepted jumps drawn from a fitted mixture.
        log_evidence: of every member: log of the mean of exp(potential) over the prior.
        evidence_ess: of every member: effective number of draws that it comes from.
        candidate_ess: of every member: effective number of the prior candidates.
        temperatures: of every member: steps from prior to posterior that the start needed.
    """

    labels: tuple[str, ...]
    sampler: str
    num_chains: int
    num_samples: int
    r_hat: dict[str, float | None]
    ess: dict[str, float | None]
    jump_acceptance: tuple[float, ...]
    log_evidence: tuple[float, ...]
    evidence_ess: tuple[float, ...]
    candidate_ess: tuple[float, ...]
    temperatures: tuple[int, ...]

    def problems(self) -> list[str]:
        """Return a warning for everything that a user should know; none is good."""
        problems = []
        for label, value in self.r_hat.items():
            if value is None:
                problems.append(f"the chains of {label} did not move")
            elif value > MAX_R_HAT:
                problems.append(
                    f"R-hat of {label} is {value:.3f}, above {MAX_R_HAT}: the chains have not "
                    "mixed; take more mcmc_sampler.num_chains or thin"
                )
        least = least_ess(self.num_samples)
        for label, value in self.ess.items():
            if value is not None and value < least:
                problems.append(
                    f"{self.num_samples} draws of {label} are worth {value:.0f} independent "
                    f"ones, below {least:.0f}; take more mcmc_sampler.num_chains or thin"
                )
        for member, value in enumerate(self.evidence_ess):
            if len(self.evidence_ess) > 1 and value < MIN_EVIDENCE_ESS:
                problems.append(
                    f"the evidence of member {member} comes from {value:.0f} effective draws, "
                    f"below {MIN_EVIDENCE_ESS}: its density is off by about {value**-0.5:.0%}"
                )
        return problems

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the problems."""
        return asdict(self) | {"problems": self.problems()}


@dataclass(frozen=True, eq=False)
class MemberChains:
    """The kept draws of one member's chains, for b observations.

    Attributes:
        warm: the tuned chains they come from.
        theta: (b, n, c, d) scaled.
        acceptance: (b,) of the jumps.
        used: (b,) draws of each observation that were returned.
    """

    warm: WarmChains
    theta: Tensor
    acceptance: Tensor
    used: Tensor


def convergence(parts: Sequence[MemberChains]) -> tuple[Tensor, Tensor]:
    """Return R-hat (b, d), the worst of the members, and the ESS (b, d) of the draws returned.

    Of N draws of a member that are worth ESS independent ones, any k are worth
    1 / (1 / k + 1 / ESS - 1 / N); the members' draws are independent of each other.
    """
    worst, effective = [], []
    for part in parts:
        draws = part.theta.permute(1, 2, 0, 3).double().numpy()
        worst.append(torch.from_numpy(r_hat(draws)))
        ess = torch.from_numpy(bulk_ess(draws))
        number = part.theta.shape[1] * part.theta.shape[2]
        lost = (1 / ess - 1 / number).clamp_min(0)
        share = 1 / (1 / part.used.double()[:, None] + lost)
        effective.append(torch.where(part.used[:, None] > 0, share, 0.0))
    return torch.stack(worst).amax(0), torch.stack(effective).sum(0)


def make_report(parts: Sequence[MemberChains], labels: tuple[str, ...]) -> McmcReport:
    """Report on the first observation of `parts`, one a member."""
    worst, effective = (values[0].numpy() for values in convergence(parts))
    options = parts[0].warm.options
    return McmcReport(
        labels=labels,
        sampler=options.type,
        num_chains=options.num_chains,
        num_samples=sum(int(part.used[0]) for part in parts),
        r_hat=_named(labels, worst),
        ess=_named(labels, effective),
        jump_acceptance=tuple(float(part.acceptance[0]) for part in parts),
        log_evidence=tuple(float(part.warm.log_evidence[0]) for part in parts),
        evidence_ess=tuple(float(part.warm.evidence_ess[0]) for part in parts),
        candidate_ess=tuple(float(part.warm.candidate_ess[0]) for part in parts),
        temperatures=tuple(int(part.warm.stages[0]) for part in parts),
    )


def _named(labels: tuple[str, ...], values: np.ndarray) -> dict[str, float | None]:
    return {
        label: float(value) if np.isfinite(value) else None
        for label, value in zip(labels, values, strict=True)
    }
