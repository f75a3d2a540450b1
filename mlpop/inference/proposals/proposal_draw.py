"""What a proposal gives, and draws of a posterior that can be relied on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Generator, Tensor

from mlpop.inference.posteriors.arguments import SamplingError
from mlpop.inference.posteriors.conditioned import ConditionedPosterior
from mlpop.inference.prior import in_cube

ProposalKind = Literal["posterior", "truncated"]

MAX_REDRAWS = 20
"""Times that draws of a posterior which are NaN or outside the prior are made again."""


@dataclass(frozen=True, eq=False)
class ProposalDraw:
    """Draws for the next round, and how they were made.

    Args:
        theta: (n, d) draws, float32, all inside the prior.
        kind: `posterior`, or `truncated` for the prior where the posterior is dense.
        sampler: what was asked for.
        method: what drew.
        exact: whether the draws are independent and of exactly this distribution; false only for
            `sampling-importance-resampling`.
        acceptance: accepted attempts over attempts.
        attempts: candidates looked at, without the pilot.
        seconds: wall time [s], pilot included.
        outside_fraction: part of the draws outside the support or the prior; 0.
        redraws: times that draws of the posterior had to be made again, see `MAX_REDRAWS`.
        epsilon: mass of the posterior outside the support; None for `posterior`.
        apart_fraction: part of the draws outside of the largest connected region of the support.
        threshold: mean log density of the members, in the unit cube, at the edge of the support;
            None where that is all of the box.
        box: (d, 2) edges of a box around the support, in the unit cube.
        threshold_samples: draws that it was taken from.
        volume_fraction: volume of the support over the prior's.
        volume_error: its standard error.
        uncovered: part of the support that the method may miss at most, with 95 % confidence.
        ess_median: median effective number of candidates; of resampling only.
        pilot: acceptance of every method that the pilot looked at.
    """

    theta: Tensor
    kind: ProposalKind
    sampler: str
    method: str
    exact: bool
    acceptance: float
    attempts: int
    seconds: float
    outside_fraction: float
    redraws: int = 0
    epsilon: float | None = None
    apart_fraction: float | None = None
    threshold: float | None = None
    box: Sequence[Sequence[float]] | None = None
    threshold_samples: int | None = None
    volume_fraction: float | None = None
    volume_error: float | None = None
    uncovered: float | None = None
    ess_median: float | None = None
    pilot: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values without theta and the seconds: the same for the same seed."""
        names = [name for name in self.__dataclass_fields__ if name not in ("theta", "seconds")]
        values = {name: getattr(self, name) for name in names}
        return values | {"num_samples": len(self.theta), "pilot": dict(self.pilot)}


@dataclass
class PosteriorDraws:
    """Draws of a posterior, made again (`redraws` times) where NaN or outside the prior."""

    conditioned: ConditionedPosterior
    made: int = 0
    redraws: int = 0

    def __call__(self, count: int, generator: Generator) -> Tensor:
        """Draw theta (count, d).

        Raises:
            SamplingError: some draws are wrong however often they are repeated.
        """
        theta = self.conditioned.sample(count, generator).detach().cpu().clone()
        self.made += count
        for attempt in range(MAX_REDRAWS + 1):
            wrong = (~in_cube(theta)).nonzero()[:, 0]
            if not len(wrong):
                return theta
            if attempt < MAX_REDRAWS:
                theta[wrong] = self.conditioned.sample(len(wrong), generator).detach().cpu()
                self.made += len(wrong)
                self.redraws += 1
        raise SamplingError(
            f"{len(wrong)} of {count} draws of the posterior are NaN or outside the prior after "
            f"{MAX_REDRAWS} redraws: the training failed or the observation is unlike the "
            "training data"
        )
