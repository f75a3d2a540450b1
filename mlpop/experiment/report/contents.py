"""What the files of a complete round tell a reader: the same, whichever launch made them."""

import base64
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.output_tree import PROPOSAL_JSON, RoundFolders
from mlpop.experiment.rounds.compressor import REPORT
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.rounds.run_page import GIVEN
from mlpop.experiment.rounds.training_statistics import epochs_of
from mlpop.inference.estimators.store import read_record
from mlpop.inference.posteriors.preprocessing import COMPRESSOR_FOLDER
from mlpop.io.files import read_json_object

logger = logging.getLogger(__name__)

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Picture:
    """A figure inside the page.

    Attributes:
        title: above it.
        caption: how to read it.
        file: its name among the files of the round.
        source: the PNG as a `data:` URI; empty if it cannot be read.
    """

    title: str
    caption: str
    file: str
    source: str


@dataclass(frozen=True)
class MemberContents:
    """How the training of one network went.

    Attributes:
        name: of its run.
        run_id: its run.
        epochs: that it was trained for.
        best_epoch: the one whose weights are kept, from 1.
        best_loss: validation loss of that epoch.
        stopped: `patience` or `max_num_epochs`.
        seconds: spent in its epochs.
    """

    name: str
    run_id: str
    epochs: int
    best_epoch: int
    best_loss: float
    stopped: str
    seconds: float


@dataclass(frozen=True)
class RoundContents:
    """A complete round.

    Attributes:
        result: what it gave.
        kind: where its theta come from: prior, given, truncated or posterior.
        proposal: content of `proposal.json`; empty without the file.
        problems: of its Markov chains and of the compressor.
        members: its networks.
        posteriors: figures of the posterior at x_o, and of the proposal that comes from it.
        deciding: the figure that shows what its verdict rests on, if there is one.
        tests: the other figures of its diagnostics.
        curves: figures of its trainings.
        seconds: that launches in these folders spent on it; 0 if none did.
    """

    result: RoundResult
    kind: str
    proposal: Values
    problems: Sequence[str]
    members: Sequence[MemberContents]
    posteriors: Sequence[Picture]
    deciding: Picture | None
    tests: Sequence[Picture]
    curves: Sequence[Picture]
    seconds: float


def round_contents(
    config: SbiConfig, result: RoundResult, folders: RoundFolders, seconds: float
) -> RoundContents:
    """Return what the files of a round tell.

    Raises:
        DataError: a file that every round has is missing or broken.
    """
    models = folders.models
    proposal = _if_there(models / PROPOSAL_JSON)
    drawn = "prior" if config.training_data_loader.simulate else GIVEN
    chains = read_json_object(models / "summary.json").get("problems", [])
    drawn_plots = [
        picture(plot.title, plot.caption, models / plot.file)
        for finding in result.findings.values()
        for plot in finding.plots
    ]
    decides = Path(result.verdict.figure).with_suffix(".png").name if result.verdict.figure else ""
    compressor = _if_there(models / COMPRESSOR_FOLDER / REPORT).get("warnings", [])
    return RoundContents(
        result=result,
        kind=str(proposal.get("kind", drawn)),
        proposal=proposal,
        problems=[
            *(f"posterior at the observed sample: {text}" for text in chains),
            *(f"compressor: {text}" for text in compressor),
        ],
        members=list(_members(config, result, folders)),
        posteriors=list(_posteriors(result, folders)),
        deciding=next((plot for plot in drawn_plots if plot.file == decides), None),
        tests=[plot for plot in drawn_plots if plot.file != decides],
        curves=[
            picture(
                f"Training of {name}",
                "Log probability, minus the loss, over the epochs; the marked weights are kept.",
                folders.training_stats_plot(member if config.trainer.ensemble else None),
            )
            for member, name in enumerate(result.member_runs)
        ],
        seconds=seconds,
    )


def picture(title: str, caption: str, pdf: Path) -> Picture:
    """Return a figure by the PNG that lies beside its PDF; one that is missing is a warning."""
    png = pdf.with_suffix(".png")
    try:
        source = f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"
    except OSError as error:
        logger.warning("%s: not in the report: %s", png, error.strerror or error)
        source = ""
    return Picture(title, caption, png.name, source)


def _members(
    config: SbiConfig, result: RoundResult, folders: RoundFolders
) -> Iterator[MemberContents]:
    runs = zip(result.members, result.member_runs.items(), strict=True)
    for number, (folder, (name, run_id)) in enumerate(runs):
        record = read_record(folder)["record"]
        member = number if config.trainer.ensemble else None
        epochs = epochs_of(read_json_object(folders.training_statistics(member)))
        yield MemberContents(
            name=name,
            run_id=run_id,
            epochs=len(epochs),
            best_epoch=record["best_epoch"],
            best_loss=record["best_loss"],
            stopped=record["stopped"],
            seconds=sum(epoch.seconds for epoch in epochs),
        )


def _posteriors(result: RoundResult, folders: RoundFolders) -> Iterator[Picture]:
    yield picture(
        "Posterior at the observed sample",
        "Panels span the prior; contours enclose 39, 86 and 99 % of the draws, which is 1, 2 and "
        "3 sigma of a two-dimensional Gaussian.",
        folders.corner_plot,
    )
    following = result.number + 1
    proposal = folders.corner_plot_prior(following)
    # a branch may plot it, or not, unlike the rounds that it keeps
    if proposal.is_file():
        yield picture(
            f"Proposal of round {following}",
            "Where a next round simulates, in panels that span the prior.",
            proposal,
        )


def _if_there(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}
