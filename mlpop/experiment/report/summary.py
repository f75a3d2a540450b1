"""The result of an experiment in a few lines: on the page of its run, and on the terminal."""

import logging
from collections.abc import Sequence

from mlpop.experiment.rounds.result import RoundResult
from mlpop.tracking import RoundLine, TrackedRun, experiment_note

logger = logging.getLogger(__name__)


def describe(
    run: TrackedRun, about: str, rounds: Sequence[RoundResult], shown: Sequence[str]
) -> None:
    """Write the description of a run: the result of its last round, and links to all rounds.

    Args:
        run: of the experiment, or of an inference.
        about: what it is, in a sentence.
        rounds: that are complete.
        shown: names of the numbers to show of every round.
    """
    last = rounds[-1]
    lines = [
        RoundLine(
            result.number,
            result.run_id,
            "complete",
            {name: result.numbers[name] for name in shown if name in result.numbers},
        )
        for result in rounds
    ]
    run.set_note(
        experiment_note(
            run.experiment_id,
            about,
            lines,
            last.estimates,
            last.verdict.sentence,
            columns=last.columns,
        )
    )
    if last.verdict.name:
        run.set_tags({"mlpop.calibration": last.verdict.name})


def print_result(last: RoundResult) -> None:
    """Show median and interval of every parameter, and the verdict."""
    for estimate in last.estimates:
        low, median, high = estimate.texts
        truth = "" if estimate.truth is None else f"   truth {estimate.truth_text}"
        logger.info("%-28s %9s  95 %% [%s, %s]%s", estimate.label, median, low, high, truth)
    if last.verdict.name:
        logger.info("calibration: %s (%d tests)", last.verdict.name, last.num_tests)
        logger.info("%s", last.verdict.sentence)
