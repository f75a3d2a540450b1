"""Everything about a finished experiment that is not well, in sentences."""

from collections.abc import Iterator, Sequence

from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.models.posterior_model import CALIBRATED
from mlpop.experiment.report.contents import RoundStory
from mlpop.experiment.rounds.typicality import MISSPECIFIED
from mlpop.inference.prior import Prior
from mlpop.tracking.description import Estimate, shown

MEANINGS = {
    CALIBRATED: (
        "the credible regions hold the truth of test simulations as often as they say",
        "",
    ),
    "overconfident": (
        "the credible regions hold the truth of test simulations too rarely: the intervals are "
        "too narrow",
        "more simulations, an ensemble or a smaller network",
    ),
    "underconfident": (
        "the credible regions hold the truth of test simulations too often: the intervals are "
        "wider than the data require",
        "a longer training, a larger network or embedding",
    ),
    "biased": (
        "posteriors of test simulations lie to one side of the truth in some label: do not rely "
        "on its interval",
        "more simulations; the table of the round says which labels are shifted",
    ),
    MISSPECIFIED: (
        "the observed sample is unlike all simulations: whatever the tests say, its posterior is "
        "an extrapolation",
        "to compare its maps with simulated ones; other physics or selection, or a wider prior",
    ),
    "too few tests": (
        "too few test simulations to tell whether the credible regions can be trusted",
        "a larger test_data_loader.num_sim",
    ),
    "": (
        "nobody has checked whether the credible regions can be trusted",
        "test_data_loader.testing",
    ),
}
"""Verdict -> what it means, and what would help."""

UNJUDGED = ("", "too few tests")

WIDE = 0.8
"""Part of the prior's range that an interval spans at least if little was learnt; a posterior that
is the prior spans 0.95."""

CUT = 0.1
"""The lower side of an interval that the prior cuts off ends nearer to the prior's edge than this
part of the median's distance: for a Gaussian, a mean within 1.5 sigma of the edge."""

UNCOVERED = 0.01
"""Part of the posterior's support that a proposal may miss without a word."""

POOR_CHAINS = 0.05
"""Fraction of the tests with poor chains that is worth a word."""


def doubts(config: SbiConfig, rounds: Sequence[RoundStory]) -> list[str]:
    """Return a sentence for everything that is not well; none is good.

    Args:
        config: of the experiment.
        rounds: all its rounds, in order.
    """
    last = rounds[-1]
    return [
        *_of_verdicts(config, rounds),
        *_of_estimates(last.result.estimates, last.result.problem.prior),
        *_of_observation(last),
        *(text for story in rounds for text in _of_round(config, story)),
    ]


def _of_verdicts(config: SbiConfig, rounds: Sequence[RoundStory]) -> Iterator[str]:
    *earlier, last = rounds
    verdict = last.result.verdict
    meaning, _ = MEANINGS[verdict]
    if verdict != CALIBRATED:
        yield f"{(verdict or 'not tested').capitalize()}: {meaning}."
    for story in earlier:
        number, verdict = story.result.number, story.result.verdict
        if verdict in (CALIBRATED, *UNJUDGED):
            continue
        text = f"Round {number} was {verdict} ({story.reason})"
        if config.trainer.truncated_prior:
            text += f"; round {number + 1} simulated only where its posterior has mass"
        yield f"{text}."


def _of_estimates(estimates: Sequence[Estimate], prior: Prior) -> Iterator[str]:
    for estimate, low, high in zip(estimates, prior.low, prior.high, strict=True):
        width = (estimate.high - estimate.low) / (high - low)
        if width > WIDE:
            yield (
                f"{estimate.label} is hardly constrained: its 95 % interval spans {width:.0%} of "
                "the prior."
            )
            continue
        median = estimate.median
        if estimate.low - low < CUT * (median - low):
            yield _cut_off(estimate.label, "lower", low)
        if high - estimate.high < CUT * (high - median):
            yield _cut_off(estimate.label, "upper", high)


def _cut_off(label: str, which: str, edge: float) -> str:
    return (
        f"The posterior of {label} is cut off by the {which} edge of the prior, {shown(edge)}: "
        "its interval depends on that edge."
    )


def _of_observation(story: RoundStory) -> Iterator[str]:
    observed = story.result.observed
    if observed.x.ndim != 3:
        return
    for name, values in zip(observed.channels, observed.x, strict=True):
        if not values.any():
            yield f"The map {name} of the observed sample is empty."


def _of_round(config: SbiConfig, story: RoundStory) -> Iterator[str]:
    result = story.result
    place = f"Round {result.number}"
    failed = result.numbers.get("sim/failed_fraction", 0.0)
    if failed > 0:
        yield (
            f"{place}: {shown(100 * failed)} % of the training simulations failed and are left "
            "out; if that depends on theta, the posterior does too."
        )
    for problem in story.problems:
        yield f"{place}: {problem}."
    yield from _of_proposal(place, story)
    lost = story.calibration.get("num_failed", 0)
    if lost:
        yield f"{place}: {lost} tests are left out, their posterior could not be drawn from."
    poor = story.calibration.get("poor_chains") or 0.0
    if poor > POOR_CHAINS:
        yield (
            f"{place}: the Markov chains of {poor:.0%} of the tests did not mix, so the verdict "
            "cannot be relied on; take more mcmc_sampler.num_chains or thin."
        )
    stopped = [member for member in story.members if member.stopped == "max_num_epochs"]
    if stopped:
        yield (
            f"{place}: trainer.max_num_epochs ({config.trainer.max_num_epochs}) stopped "
            f"{len(stopped)} of {len(story.members)} networks while they could still learn."
        )


def _of_proposal(place: str, story: RoundStory) -> Iterator[str]:
    proposal = story.proposal
    if not proposal.get("exact", True):
        yield (
            f"{place}: theta were resampled, not drawn exactly, and are denser where the last "
            f"posterior is (median effective number of candidates "
            f"{shown(proposal.get('ess_median'))})."
        )
    uncovered = proposal.get("uncovered") or 0.0
    if uncovered > UNCOVERED:
        yield f"{place}: up to {uncovered:.1%} of the proposal's support may have been missed."
    if proposal.get("redraws"):
        yield (
            f"{place}: draws of the last posterior were NaN or outside the prior and were made "
            f"again ({proposal['redraws']} times)."
        )
