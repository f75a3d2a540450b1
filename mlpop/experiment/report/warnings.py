"""Everything about a finished experiment that is not well, in sentences."""

from collections.abc import Iterator, Sequence

import numpy as np

from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.diagnostics.diagnostic import Grade
from mlpop.experiment.report.contents import RoundContents
from mlpop.inference.prior import Prior
from mlpop.tracking.pages.description import Estimate, shown

WIDE = 0.8
"""Part of the prior that an interval spans at least if little was learnt; a posterior that is the
prior spans 0.95."""

CUT = 0.1
"""The lower side of an interval that the prior cuts off ends nearer to the prior's edge than this
part of the median's distance: for a Gaussian, a mean within 1.5 sigma of the edge."""

UNCOVERED = 0.01
"""Part of the posterior's support that a proposal may miss without a word."""


def experiment_warnings(config: SbiConfig, rounds: Sequence[RoundContents]) -> list[str]:
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
        *(text for contents in rounds for text in _of_round(config, contents)),
    ]


def _of_verdicts(config: SbiConfig, rounds: Sequence[RoundContents]) -> Iterator[str]:
    *earlier, last = (contents.result for contents in rounds)
    verdict = last.verdict
    if verdict.grade is not Grade.GOOD:
        yield f"{(verdict.name or 'not tested').capitalize()}: {verdict.meaning}."
    others = (finding.verdict for finding in last.findings.values())
    for other in others:
        if other is not None and other.grade is Grade.BAD and other is not verdict:
            yield f"{other.name.capitalize()}, too: {other.meaning}."
    for result in earlier:
        number, verdict = result.number, result.verdict
        if verdict.grade is not Grade.BAD:
            continue
        text = f"Round {number}, {verdict.name}: {verdict.meaning}"
        if config.trainer.truncated_prior:
            text += f"; round {number + 1} simulated only where its posterior has mass"
        yield f"{text}."


def _of_estimates(estimates: Sequence[Estimate], prior: Prior) -> Iterator[str]:
    for estimate, marginal in zip(estimates, prior.marginals, strict=True):
        from_prior, to_prior = marginal.cdf(np.array([estimate.low, estimate.high]))
        if to_prior - from_prior > WIDE:
            yield (
                f"{estimate.label} is hardly constrained: its 95 % interval spans "
                f"{100 * (to_prior - from_prior):.0f} % of the prior."
            )
            continue
        if not marginal.bounded:
            continue
        low, median, high = marginal.low, estimate.median, marginal.high
        if estimate.low - low < CUT * (median - low):
            yield _cut_off(estimate.label, "lower", low)
        if high - estimate.high < CUT * (high - median):
            yield _cut_off(estimate.label, "upper", high)


def _cut_off(label: str, which: str, edge: float) -> str:
    return (
        f"The posterior of {label} is cut off by the {which} edge of the prior, {shown(edge)}: "
        "its interval depends on that edge."
    )


def _of_observation(contents: RoundContents) -> Iterator[str]:
    observed = contents.result.observed
    if observed.x.ndim != 3:
        return
    for name, values in zip(observed.channels, observed.x, strict=True):
        if not values.any():
            yield f"The map {name} of the observed sample is empty."


def _of_round(config: SbiConfig, contents: RoundContents) -> Iterator[str]:
    result = contents.result
    place = f"Round {result.number}"
    failed = result.numbers.get("sim/failed_fraction", 0.0)
    if failed > 0:
        yield (
            f"{place}: {shown(100 * failed)} % of the training simulations failed and are left "
            "out; if that depends on theta, the posterior does too."
        )
    for problem in contents.problems:
        yield f"{place}: {problem}."
    yield from _of_proposal(place, contents)
    for finding in result.findings.values():
        for text in finding.warnings:
            yield f"{place}: {text}"
    stopped = [member for member in contents.members if member.stopped == "max_num_epochs"]
    if stopped:
        yield (
            f"{place}: trainer.max_num_epochs ({config.trainer.max_num_epochs}) stopped "
            f"{len(stopped)} of {len(contents.members)} networks while they could still learn."
        )


def _of_proposal(place: str, contents: RoundContents) -> Iterator[str]:
    proposal = contents.proposal
    if not proposal.get("exact", True):
        yield (
            f"{place}: theta were resampled, not drawn exactly, and are denser where the last "
            f"posterior is (median effective number of candidates "
            f"{shown(proposal.get('ess_median'))})."
        )
    uncovered = proposal.get("uncovered") or 0.0
    if uncovered > UNCOVERED:
        part = f"up to {100 * uncovered:.1f} % of the proposal's support"
        yield f"{place}: {part} may have been missed."
    if proposal.get("redraws"):
        yield (
            f"{place}: draws of the last posterior were NaN or outside the prior and were made "
            f"again ({proposal['redraws']} times)."
        )
