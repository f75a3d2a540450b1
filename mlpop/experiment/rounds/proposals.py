"""Where the theta of a round come from: the prior, or the posterior of the round before."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Generator

from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.experiment.rounds.context import Launch
from mlpop.experiment.rounds.result import RoundResult
from mlpop.inference.prior import Prior
from mlpop.inference.proposals.proposal import Proposal, make_proposal
from mlpop.inference.proposals.proposal_draw import ProposalDraw
from mlpop.inference.proposals.truncation import Support, recorded_support
from mlpop.networks.rng import generator_from_seed

logger = logging.getLogger(__name__)

USES = {"training": 0, "test": 1, "plot": 2}
"""Last place in the seed, so that one use does not change the draws of another."""


def prior_theta(
    config: SbiConfig, count: int, seed: np.random.SeedSequence
) -> NDArray[np.float64]:
    """Draw theta (count, D) from the prior, physical units."""
    prior = Prior.configured(config.prior_ranges)
    return prior.quantiles(np.random.default_rng(seed).random((count, prior.dimension)))


def proposed(
    launch: Launch, previous: RoundResult, round_: int, use: str, count: int
) -> ProposalDraw:
    """Draw theta from the proposal that a round leaves to the next one.

    The proposal is found once, so that a truncated prior ends at the same edge for training,
    tests and plots: networks that learn inside one edge are not calibrated inside another.

    What proposes is the posterior of `previous` at x_o, for the round number `round_`.

    Raises:
        SamplingError: the proposal cannot be drawn from within its budget.
    """
    proposal = round_proposal(launch, previous, round_, previous.observed)
    draw = proposal.draw(count, _generator(launch, round_, USES[use]))
    logger.info(
        "round %d: %d theta for %s from the %s proposal (%s), acceptance %.3g",
        round_,
        count,
        use,
        draw.kind,
        draw.method,
        draw.acceptance,
    )
    return draw


def round_proposal(
    launch: Launch, previous: RoundResult, round_: int, observed: ObservedSample
) -> Proposal:
    """Return what the theta of a round are drawn from, found once in a launch.

    Args:
        previous: the round before, whose posterior proposes.
        round_: number of the round.
        observed: the x_o that it proposes for.

    Raises:
        SamplingError: the posterior cannot be drawn from.
    """
    if round_ not in launch.proposals:
        trainer, generator = launch.config.trainer, _generator(launch, round_)
        with launch.profiler.section(f"ComputeRestrictedPriorRound{previous.number}"):
            launch.proposals[round_] = make_proposal(
                previous.posterior.at(observed.x, generator),
                generator,
                kind="truncated" if trainer.truncated_prior else "posterior",
                sampler=trainer.sampler,
                region=trainer.truncation_region,
                sir_candidates=trainer.sir_candidates,
                within=previous.support,
            )
    return launch.proposals[round_]


def round_support(
    launch: Launch,
    previous: RoundResult | None,
    record: Mapping[str, Any],
    observed: ObservedSample | None,
) -> Support | None:
    """Return where theta of a round come from, by its `proposal.json`; None: anywhere.

    Args:
        previous: the round before, whose posterior proposed them; None for round 0.
        record: content of the file; empty without one.
        observed: the x_o that it proposed for.
    """
    if previous is None or observed is None or not record:
        return None
    generator = _generator(launch, previous.number + 1)
    conditioned = previous.posterior.at(observed.x, generator)
    return recorded_support(record, conditioned, previous.support)


def _generator(launch: Launch, *place: int) -> Generator:
    return generator_from_seed(
        torch_seed(seed_sequence(launch.root_seed, Purpose.PROPOSAL, *place))
    )
