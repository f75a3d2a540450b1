"""The result of an experiment in a few lines: on the page of its run, and on the terminal."""

import logging
from collections.abc import Sequence
from pathlib import Path

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


def print_result(last: RoundResult, report: Path | None = None) -> None:
    """Show what to know first: the estimates, the verdict, and what to do next."""
    for line in result_lines(last):
        logger.info("%s", line)
    if report is not None:
        logger.info("report: %s", report)


def result_lines(last: RoundResult) -> list[str]:
    """Return the result of a round in lines: digits as in its figures, and what would help.

    Args:
        last: the last round of a launch.
    """
    rows = [("", "median", "95 % interval", "truth")]
    for e in last.estimates:
        low, median, high = e.texts
        rows.append((e.label, median, f"[{low}, {high}]", e.truth_text or ""))
    if all(e.truth is None for e in last.estimates):
        rows = [(*row[:3], "") for row in rows]
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    lines = [f"result of round {last.number}, at the observed sample:"]
    for label, median, interval, truth in rows:
        cells = f"  {label:<{widths[0]}}  {median:>{widths[1]}}  {interval:<{widths[2]}}  {truth}"
        lines.append(cells.rstrip())
    verdict = last.verdict
    if not verdict.name:
        lines.append(f"verdict: none; {verdict.meaning} ({verdict.reason})")
    else:
        lines.append(f"verdict: {verdict.name} ({last.num_tests} tests); {verdict.meaning}")
    if verdict.remedy:
        lines.append(f"what helps: {verdict.remedy}")
    posterior = f'mlpop.load_posterior("runs:/{last.run_id}")'
    lines.append(f"posterior: in Python {posterior}")
    return lines
