"""The configuration file of a study: what is searched, on which data, how, and for how long."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mlpop.config.base import StrictModel
from mlpop.config.fields import Count, Few, Name, Natural, OptionalPath, Positive
from mlpop.config.files.sbi import FileName
from mlpop.config.messages import Problem, show

Scalar = bool | int | float | str | None
Condition = dict[Name, Scalar | tuple[Scalar, ...]]


class _Dimension(StrictModel):
    """What all kinds of a searched field share."""

    when: Condition = {}
    """Search the field only where each of these fields has this value, or one of these."""

    def conditions(self) -> dict[str, tuple[Scalar, ...]]:
        """Return field -> values with which this one means something."""
        return {
            path: allowed if isinstance(allowed, tuple) else (allowed,)
            for path, allowed in self.when.items()
        }


class FloatRange(_Dimension):
    """A number from `low` to `high`, both included."""

    type: Literal["float"]
    """A number."""
    low: float
    """Least value."""
    high: float
    """Largest value."""
    log: bool = False
    """Search the logarithm."""
    step: Positive | None = None
    """Only every `step` from `low` on; null: any number."""

    def _contradictions(self) -> Iterator[Problem]:
        return _range_problems(self)


class IntRange(_Dimension):
    """A whole number from `low` to `high`, both included."""

    type: Literal["int"]
    """A whole number."""
    low: int
    """Least value."""
    high: int
    """Largest value."""
    log: bool = False
    """Search the logarithm."""
    step: Count | None = None
    """Only every `step` from `low` on; null: any whole number."""

    def _contradictions(self) -> Iterator[Problem]:
        return _range_problems(self)


def _range_problems(field: FloatRange | IntRange) -> Iterator[Problem]:
    low, high = field.low, field.high
    if low >= high:
        yield "low", f"the range is empty: must be less than high = {high:.12g}, found {low:.12g}"
    if field.log and low <= 0:
        yield "low", f"must be greater than 0 when log is true, found {low:.12g}"
    if field.log and field.step is not None:
        yield "step", "must be null when log is true"


class Choices(_Dimension):
    """One of some values."""

    type: Literal["categorical"]
    """One of some values."""
    choices: Annotated[tuple[Scalar, ...], Field(min_length=1)]
    """The values."""

    def _contradictions(self) -> Iterator[Problem]:
        for i, choice in enumerate(self.choices):
            if any(choice == other and type(choice) is type(other) for other in self.choices[:i]):
                yield f"choices[{i}]", f"must be unique, found {show(choice)} again"
                return


Dimension = Annotated[FloatRange | IntRange | Choices, Field(discriminator="type")]


class StudyDataConfig(StrictModel):
    """What the trials train and validate on; all null: what the base experiment says."""

    folder: OptionalPath = None
    """Folder of a dataset, `dataset_full.csv`."""
    run: Name | None = None
    """Id of an experiment's run: the training sets of its rounds."""
    rounds: Annotated[tuple[Natural, ...], Field(min_length=1)] | None = None
    """Rounds of `run`; null: all that are complete."""

    def _contradictions(self) -> Iterator[Problem]:
        if self.folder is not None and self.run is not None:
            yield "run", "must be null when folder is given"
        elif self.rounds is not None and self.run is None:
            yield "rounds", "selects rounds of run, which is not given"


class SamplerConfig(StrictModel):
    """Who proposes the next trial."""

    type: Literal["tpe", "random"] = "tpe"
    """Tree-structured Parzen estimator, or independent random draws."""
    n_startup_trials: Count = 10
    """Random trials before the estimator takes over (tpe only)."""


class PrunerConfig(StrictModel):
    """Who stops trials that go badly, by their validation loss after every epoch."""

    type: Literal["median", "hyperband", "none"] = "median"
    """Worse than the median of earlier trials, successive halving in brackets, or nobody."""
    n_startup_trials: Natural = 5
    """Trials that must have ended before one is stopped (median only)."""
    n_warmup_steps: Natural = 5
    """Epochs in which no trial is stopped (median), or the least a trial gets (hyperband)."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """Of so many trials one survives a rung (hyperband only)."""


class StudyConfig(StrictModel):
    """Everything a launch of `mlpop study` can be told."""

    name: FileName = "study"
    """Names the MLflow experiment and the folders."""
    base: Path | dict[str, Any]
    """The experiment that is varied: path of its file, or its content. It is the first trial."""
    dataset: StudyDataConfig = StudyDataConfig()
    use_default_space: bool = True
    """Search embedding, density estimator and training, as docs/studies.md lists."""
    space: dict[Name, Dimension] = {}
    """Field of the experiment, as a dotted path, -> what to search; goes before the default."""
    sampler: SamplerConfig = SamplerConfig()
    pruner: PrunerConfig | None = None
    """null: `median`, or `none` with a second objective."""
    second_objective: Literal["seconds", "parameters"] | None = None
    """Minimise the time of training or the number of weights too; gives a Pareto front."""
    n_trials: Few = 20
    """Trials in all, the base experiment included."""
    n_workers: Few = 1
    """Trials that run at a time."""
    enable_dask: bool = False
    """Run the trials on Dask instead of processes of this machine."""
    timeout: Positive | None = None
    """Seconds after which no further trial is started [s]; null: no limit."""
    max_num_epochs: Count | None = None
    """Epochs of a trial at most; null: `trainer.max_num_epochs` of the experiment."""
    storage: Name | None = None
    """URL of an Optuna storage, e.g. `postgresql://…`; null: a file in `mlruns/optuna/`."""
    seed: Natural | None = None
    """Root seed; null: that of the base experiment, else one is drawn and logged."""

    @property
    def pruning(self) -> PrunerConfig:
        """The pruner, its default resolved."""
        if self.pruner is not None:
            return self.pruner
        return PrunerConfig(type="none" if self.second_objective else "median")

    def _contradictions(self) -> Iterator[Problem]:
        if not self.use_default_space and not self.space:
            yield "space", "must not be empty when use_default_space is false"
        if self.second_objective and self.pruning.type != "none":
            yield "pruner.type", "must be 'none' with a second_objective: Optuna prunes by one"
        if self.storage is not None and "://" not in self.storage:
            yield (
                "storage",
                "must be a URL such as sqlite:///study.db, or null for a file in "
                f"mlruns/optuna/, found {show(self.storage)}",
            )

    def resolved(self) -> dict[str, Any]:
        """Return every field as JSON values, defaults written out; parses to the same study."""
        return self.model_dump(mode="json") | {"pruner": self.pruning.model_dump(mode="json")}
