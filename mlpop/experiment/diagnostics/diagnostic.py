"""What a diagnostic is: a test of a round's posterior, from what it looks at to what it says.

A new one is a module of this folder with a class derived from `Diagnostic`, and an entry in
`DIAGNOSTICS` of `table.py`. Rounds, `mlpop infer` and the report then have its numbers, files,
figures, sentences and verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor

from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.datasets.loading import Dataset
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.inference.diagnostics.coverage import CoverageResult
from mlpop.inference.diagnostics.theta_check import ThetaCheck
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.networks.rng import generator_from_seed
from mlpop.tracking.pages.description import Number


@dataclass(frozen=True)
class Simulations:
    """What a posterior was trained on.

    Attributes:
        given: the simulations of the round for training, as they came.
        training: those that it learned from, not of the rounds before.
        validation: its rows that did not train.
        tests: the tests of the round, drawn from the same proposal; None without testing.
        folder: where the files of the round lie.
        from_prior: whether theta of the training set are said to come from the prior.
    """

    posterior: Posterior
    given: Dataset
    training: Dataset
    validation: Tensor
    tests: Dataset | None
    folder: Path
    from_prior: bool = True


class Simulate(Protocol):
    """Makes the simulations that a diagnostic asks for."""

    def __call__(self, use: str, purpose: Purpose, theta: NDArray[np.float64]) -> Dataset:
        """Simulate on the backend, as training sets are: stored in the run, and resumed.

        Args:
            use: what they are for: their folder among the artifacts of the round.
            purpose: of their random numbers; each diagnostic has its own.
            theta: (n, D) physical units; those that an earlier launch stored are taken instead.

        Returns:
            Those that succeeded, with channels and labels of the training set.

        Raises:
            DataError: none succeeded.
        """
        ...


@dataclass(frozen=True)
class Evidence:
    """What every diagnostic may look at.

    Attributes:
        observed: x_o.
        learned: diagnostic -> what it has learned from the simulations of the training; without
            those whose files an older training has not kept.
        folder: where the files of the round lie.
        num_predictive: simulations that are wanted at draws of the posterior.
        simulate: makes simulations; None where the launch has no simulator.
        elsewhere: whether the round learned from simulations for another x_o.
        theta_checks: set of tests -> how its theta compare with what they should follow; of those
            sets that the round did not draw itself.
    """

    posterior: Posterior
    observed: ObservedSample
    learned: Mapping[str, Any]
    folder: Path
    root_seed: int
    round: int
    num_predictive: int = 0
    simulate: Simulate | None = None
    elsewhere: bool = False
    theta_checks: Mapping[str, ThetaCheck] = field(default_factory=dict)

    def generator(self, purpose: Purpose, *place: int) -> Generator:
        """Return a source of draws; `place` tells diagnostics of one purpose apart."""
        seed = seed_sequence(self.root_seed, purpose, self.round, *place)
        return generator_from_seed(torch_seed(seed))

    def rng(self, purpose: Purpose, *place: int) -> np.random.Generator:
        """Return the same for numpy."""
        return np.random.default_rng(seed_sequence(self.root_seed, purpose, self.round, *place))


class Grade(IntEnum):
    """How good a posterior is by a verdict; a round has the worst."""

    GOOD = 0
    OPEN = 1
    BAD = 2


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of a posterior.

    Attributes:
        name: a word or two; empty if nobody has looked.
        grade: only if it is `GOOD` the posterior may become `champion`.
        meaning: of the name, as the end of a sentence.
        reason: what the verdict rests on, likewise.
        remedy: what would help; empty if nothing is needed.
        caveat: a sentence about what the verdict does not say.
        figure: file of the figure that shows what decided, one of the finding's plots; empty
            without one.
    """

    name: str
    grade: Grade
    meaning: str
    reason: str
    remedy: str = ""
    caveat: str = ""
    figure: str = ""

    @property
    def sentence(self) -> str:
        """Name and meaning, for people; empty if nobody has looked."""
        return f"{self.name.capitalize()}: {self.meaning}." if self.name else ""


NOT_TESTED = Verdict(
    "",
    Grade.OPEN,
    "nobody has checked whether the credible regions can be trusted",
    "its coverage was not tested: test_data_loader.testing is false",
    "test_data_loader.testing",
)
"""The verdict of a round without tests."""


@dataclass(frozen=True)
class Plot:
    """A figure for the report: title, how to read it, and the name of its PDF."""

    title: str
    caption: str
    file: str


@dataclass(frozen=True)
class Cell:
    """A number in a table of the report, and whether it is a bad one."""

    text: str
    bad: bool = False


@dataclass(frozen=True)
class LabelTable:
    """A table for the report: numbers of every label.

    Attributes:
        title: above it.
        caption: below it: what the columns mean.
        columns: names of the numbers.
        rows: label -> its numbers.
    """

    title: str
    caption: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[Cell]]


@dataclass(frozen=True)
class Finding:
    """What a diagnostic says of a round.

    Attributes:
        numbers: name in MLflow -> value.
        sentences: for the log, the description of the run and the report.
        warnings: what is not well, for the list of warnings in the report.
        verdict: what it thinks of the posterior; None if it does not judge it. It must have been
            asked to say `GOOD`: where it was not, its verdict is None or `OPEN`.
        num_tests: test simulations that the verdict rests on.
        note: rows of the description of the run.
        rows: rows of the report's table of rounds; the same ones in every round.
        plots: its figures.
        tables: its tables.
        columns: of the table of estimates at x_o: title -> label -> text.
        calibration: what it adds to `calibration.json`, where the round has tests.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    sentences: Sequence[str] = ()
    warnings: Sequence[str] = ()
    verdict: Verdict | None = None
    num_tests: int = 0
    note: Mapping[str, Number] = field(default_factory=dict)
    rows: Mapping[str, Number] = field(default_factory=dict)
    plots: Sequence[Plot] = ()
    tables: Sequence[LabelTable] = ()
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)


class Diagnostic(Protocol):
    """One test of a round's posterior.

    A diagnostic writes what it finds into files, and reads its finding from them: so the finding
    of a round that an earlier launch completed is the same. All but `name` and `finding` may be
    left out.

    Attributes:
        name: of the diagnostic.
        headline: its numbers by which experiments are compared: the experiment's run has them too.
        legend: sentences below the report's table of rounds that explain its rows.
        memory: names of the files that `learn` writes; `mlpop infer` fetches them for `load`.
    """

    name: str
    headline: Sequence[str] = ()
    legend: str = ""
    memory: Sequence[str] = ()

    def learn(self, simulations: Simulations) -> Any:
        """Learn from the training of a round, and write that into `memory`; return it."""
        return None

    def load(self, folder: Path) -> Any:
        """Return what `learn` did; None if the files are not there.

        Raises:
            DataError: a file is damaged.
        """
        return None

    def examine_observed(self, evidence: Evidence) -> Sequence[Path]:
        """Look at x_o, before its posterior is drawn from; return the files written."""
        return ()

    def examine_posterior(self, evidence: Evidence, theta: NDArray[np.float64]) -> Sequence[Path]:
        """Look at draws (n, D) of the posterior at x_o; return the files written."""
        return ()

    def examine_tests(
        self, evidence: Evidence, tests: Dataset, draws: CoverageResult
    ) -> Sequence[Path]:
        """Look at the tests of a round, if it has any; return the files written.

        `draws` are those of the posterior of each but those left out, and where its truth lies
        among them.
        """
        return ()

    def finding(self, folder: Path) -> Finding:
        """Read the files of a round, of which there are none where nothing was examined.

        Raises:
            DataError: a file is damaged.
        """
        ...
