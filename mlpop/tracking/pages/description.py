"""The descriptions that MLflow shows on the pages of runs, in Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlpop.io.digits import needed_digits, plain_texts
from mlpop.tracking.pages.links import run_path

Number = float | int | str | None
Columns = Mapping[str, Mapping[str, str]]
"""Title of a column -> label -> text."""


@dataclass(frozen=True)
class RoundLine:
    """What the table of an experiment says of one round.

    Attributes:
        round: its number.
        run_id: its run.
        state: simulating, training, testing, complete, stopped.
        numbers: column -> value; the columns of all rounds make the table.
    """

    round: int
    run_id: str
    state: str
    numbers: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """One parameter of a posterior: median and the ends of the central 95 % interval."""

    label: str
    median: float
    low: float
    high: float
    truth: float | None = None

    @property
    def texts(self) -> tuple[str, str, str]:
        """Low, median and high with the digits that they need."""
        return plain_texts(self.low, self.median, self.high)

    @property
    def truth_text(self) -> str | None:
        """The truth with the digits of the interval."""
        if self.truth is None:
            return None
        return f"{self.truth:.{needed_digits(self.low, self.median, self.high)}g}"


def experiment_note(
    experiment_id: str,
    about: str,
    rounds: Sequence[RoundLine],
    estimates: Sequence[Estimate] = (),
    verdict: str = "",
    *,
    columns: Columns | None = None,
) -> str:
    """Describe an experiment: its result first, then a table with links to its rounds.

    MLflow folds all but the first five lines away.

    Args:
        experiment_id: the MLflow experiment, for the links.
        about: what is done, in a sentence.
        rounds: its rounds in order.
        estimates: the posterior of the last round at the observed sample.
        verdict: what the tests of the posterior say, in a sentence.
        columns: of the table of estimates, beside its own.
    """
    parts = [*_verdict_line(verdict), *_estimates_line(estimates), about]
    if estimates:
        parts.append(estimates_table(estimates, columns or {}))
    if rounds:
        names = list(dict.fromkeys(name for line in rounds for name in line.numbers))
        rows = [
            [
                f"[round {line.round}]({run_path(experiment_id, line.run_id)})",
                line.state,
                *(line.numbers.get(name) for name in names),
            ]
            for line in rounds
        ]
        parts.append(markdown_table(["round", "state", *names], rows))
    return "\n\n".join(parts) + "\n"


def _verdict_line(verdict: str) -> list[str]:
    return [f"**Verdict: {_cell(verdict)}**"] if verdict else []


def _estimates_line(estimates: Sequence[Estimate]) -> list[str]:
    """Return medians and 95 % intervals in one line, which is none without estimates."""
    texts = [(estimate.label, *estimate.texts) for estimate in estimates]
    shown = [f"`{label}` **{median}** [{low}, {high}]" for label, low, median, high in texts]
    return [" · ".join(shown)] if shown else []


def _members_line(experiment_id: str, members: Mapping[str, str] | None) -> list[str]:
    """Return links to the runs below a run in one line, which is none without them."""
    links = (f"[{name}]({run_path(experiment_id, run)})" for name, run in (members or {}).items())
    return [f"Members: {', '.join(links)}"] if members else []


def round_note(
    experiment_id: str,
    about: str,
    numbers: Mapping[str, Number],
    estimates: Sequence[Estimate] = (),
    members: Mapping[str, str] | None = None,
    verdict: str = "",
    *,
    columns: Columns | None = None,
) -> str:
    """Describe a round: its result first, its main numbers, links to its members.

    Args:
        experiment_id: the MLflow experiment, for the links.
        about: what is done, in a sentence.
        numbers: name -> value.
        estimates: the posterior at the observed sample.
        members: name -> run id.
        verdict: what the tests of the posterior say, in a sentence.
        columns: of the table of estimates, beside its own.
    """
    parts = [*_verdict_line(verdict), *_estimates_line(estimates), about]
    if numbers:
        parts.append(
            markdown_table(["", "value"], [[name, value] for name, value in numbers.items()])
        )
    if estimates:
        parts.append(estimates_table(estimates, columns or {}))
    return "\n\n".join([*parts, *_members_line(experiment_id, members)]) + "\n"


def point_note(
    experiment_id: str,
    about: str,
    numbers: Mapping[str, Mapping[str, float]],
    members: Mapping[str, str] | None = None,
) -> str:
    """Describe point estimates: how far they are off, label by label.

    Args:
        experiment_id: the MLflow experiment, for the links.
        about: what is done, in a sentence.
        numbers: label -> name -> value, among them `rmse`.
        members: name -> run id.
    """
    errors = [f"`{label}` RMSE **{shown(n['rmse'])}**" for label, n in numbers.items()]
    names = list(dict.fromkeys(name for n in numbers.values() for name in n))
    rows = [[f"`{label}`", *map(n.get, names)] for label, n in numbers.items()]
    parts = [" · ".join(errors), about, markdown_table(["parameter", *names], rows)]
    return "\n\n".join([*parts, *_members_line(experiment_id, members)]) + "\n"


def member_note(about: str, numbers: Mapping[str, Number]) -> str:
    """Describe one network of an ensemble by its main numbers."""
    return round_note("", about, numbers)


def estimates_table(estimates: Sequence[Estimate], columns: Columns) -> str:
    """Return a table of parameters with median and central 95 % interval, and more columns."""
    with_truth = any(estimate.truth is not None for estimate in estimates)
    rows: list[list[Number]] = []
    for estimate in estimates:
        low, median, high = estimate.texts
        row: list[Number] = [f"`{estimate.label}`", median, low, high]
        if with_truth:
            row.append(estimate.truth_text)
        rows.append([*row, *(texts.get(estimate.label) for texts in columns.values())])
    head = ["parameter", "median", "2.5 %", "97.5 %", *(["truth"] if with_truth else [])]
    return markdown_table([*head, *columns], rows)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[Number]]) -> str:
    """Return a table of Markdown; values as `shown` writes them."""
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(value: Number) -> str:
    """Return a value as descriptions and reports show it: four digits, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, str | int):
        return str(value)
    return f"{value:.4g}" if math.isfinite(value) else str(value)


def _cell(value: Number) -> str:
    return shown(value).replace("|", "\\|").replace("\n", " ")


def clock(seconds: float) -> str:
    """Return a duration as hours:minutes:seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
