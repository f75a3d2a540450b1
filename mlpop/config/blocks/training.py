"""Blocks about a launch: rounds and optimiser, resume, inference, simulator."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator

from mlpop.config.base import StrictModel
from mlpop.config.blocks.network import IMPORTABLE
from mlpop.config.blocks.observed_file import as_observed
from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.blocks.survey_file import with_contents
from mlpop.config.fields import (
    Count,
    Few,
    Folder,
    Fraction,
    Name,
    Natural,
    OneOf,
    OptionalPath,
    Positive,
)
from mlpop.config.messages import Problem, Refused, describe
from mlpop.config.methods import METHODS, Method

Sampler = Literal["auto", "sir", "rejection", "box"]
TruncationRegion = Literal["density", "box"]


def validation_count(num_simulations: int, fraction: float) -> int:
    """Return how many of at least 2 simulations are kept for validation; one stays to train."""
    return min(max(1, round(fraction * num_simulations)), num_simulations - 1)


class TrainingOptions(StrictModel):
    """How one network is trained.

    A batch larger than the training set is the whole set; what is left over of an epoch after
    whole batches is not used in it. With `ema_decay` a step contributes that many times as much
    to the moving average as the next one: single steps of Adam jump about, and all posteriors of
    a network with them.
    """

    batch_size: Count = 8
    """Simulations of one step."""
    lr: Positive = 5e-4
    """Learning rate of Adam."""
    lr_decay: Fraction | None = None
    """Factor of the learning rate, up to three times, each after half of `stop_after_epochs`
    epochs without a better validation loss; null: it is constant."""
    max_num_epochs: Count | None = None
    """Hard stop; null: only early stopping ends a training."""
    stop_after_epochs: Count = 20
    """Epochs without a better validation loss after which a training stops."""
    clip_max_norm: Positive | None = 5.0
    """Largest gradient norm; null: no clipping."""
    ema_decay: Fraction | None = None
    """Per step, of a moving average of the weights, which is then what is kept; null: none."""
    embedding_weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Part of `lr` times a weight that a step takes from the embedding network's (AdamW)."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Seconds from one checkpoint of a training to the next."""

    def of_the_weights(self) -> dict[str, Any]:
        """Return, as JSON values, the fields that the weights after an epoch depend on."""
        fields = TrainingOptions.model_fields.keys() - {"max_num_epochs", "checkpoint_seconds"}
        return self.model_dump(mode="json", include=fields)


class TrainerConfig(TrainingOptions):
    """Method, rounds, optimiser, ensemble, proposals."""

    type: Annotated[str, OneOf(METHODS)] = "snpe"
    """Neural posterior, likelihood or ratio estimation."""
    num_rounds: Few = 1
    """Rounds in all, round 0 included."""
    save_dir: Folder = Path("output")
    """Root of the documented output tree."""
    validation_fraction: Fraction = 0.1
    """Part of the training set that early stopping watches."""
    ensemble: bool = False
    """Train `size_ensemble` networks and mix their posteriors."""
    size_ensemble: Few = 5
    """Networks of the ensemble; one network is trained when `ensemble` is false."""
    truncated_prior: bool = False
    """Propose from the prior truncated to the posterior's support, not from the posterior."""
    retrain_from_scratch: bool = False
    """New weights in every round."""
    sir: bool = True
    """Sample the truncated prior by importance resampling (true) or rejection (false)."""
    truncation_sampler: Sampler | None = None
    """Overrides `sir`; `auto` lets a pilot choose among all exact methods, as `sir` does."""
    truncation_region: TruncationRegion = "density"
    """What the prior is truncated to: where the posterior is dense, or the box around that."""
    sir_candidates: Annotated[int, Field(ge=2)] = 1024
    """Candidates of which importance resampling picks one."""
    num_atoms: Annotated[int, Field(ge=2)] = 10
    """Parameter sets that are told apart (snre, and snpe with posterior proposals)."""
    append_simulations: bool = False
    """Train and test on the rounds so far (true) or on the current round alone."""
    plot_proposal: bool = False
    """Plot the proposal of the next round."""
    num_posterior_samples: Annotated[int, Field(ge=1, le=10**7)] = 50_000
    """Draws from the posterior at the observed sample."""
    min_success_fraction: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Smallest fraction of usable simulations with which a round goes on."""

    @property
    def members(self) -> int:
        """Networks trained in a round."""
        return self.size_ensemble if self.ensemble else 1

    @property
    def sampler(self) -> Sampler:
        """How the truncated prior is sampled."""
        return self.truncation_sampler or ("sir" if self.sir else "rejection")

    @property
    def method(self) -> Method:
        """What is trained, and how its posterior is drawn from."""
        return METHODS[self.type]

    def loss(self, round_: int) -> Literal["maximum_likelihood", "atomic"]:
        """Return what the networks of a round minimise; ratios compare theta in any case."""
        proposed = round_ > 0 and not self.truncated_prior
        return "atomic" if self.method.corrected and proposed else "maximum_likelihood"

    def too_few_to_compare(self, num_simulations: int) -> str | None:
        """Say why a loss that compares simulations cannot be trained on so many; None if it can.

        It needs two rows on either side, to train on and to validate with.
        """
        held_out = validation_count(num_simulations, self.validation_fraction)
        if min(held_out, num_simulations - held_out) >= 2:
            return None
        return (
            f"{self.validation_fraction:g} keeps {held_out} of {num_simulations} simulations for "
            f"validation and {num_simulations - held_out} to train on; this loss compares "
            "simulations and needs at least 2 of both: take more simulations, or another fraction"
        )

    def learns_inside(self, round_: int) -> bool:
        """Tell whether the networks of a round learn in the support of a truncated prior alone."""
        return round_ > 0 and self.truncated_prior and self.method.estimator == "posterior"

    def forgets(self, round_: int) -> bool:
        """Tell whether the networks of a round know theta of its own proposal alone.

        Their posterior is under the whole prior, so that nothing keeps it from being dense where
        they have seen nothing.
        """
        anew = round_ > 0 and self.retrain_from_scratch and not self.append_simulations
        return anew and not self.learns_inside(round_)

    def _contradictions(self) -> Iterator[Problem]:
        if self.truncation_sampler == "sir" and not self.sir:
            yield "truncation_sampler", "is 'sir', but sir is false"
        elif self.append_simulations and self.loss(self.num_rounds - 1) == "atomic":
            yield (
                "append_simulations",
                f"must be false for {self.type} with several rounds unless truncated_prior is "
                "true: earlier rounds were not drawn from the prior",
            )


class ResumeConfig(StrictModel):
    """Continue an earlier launch after one of its rounds."""

    resume: bool = False
    """Go on after `last_round` of the launch in `save_dir`."""
    last_round: Natural | None = None
    """Last complete round, from 0."""
    save_dir: OptionalPath = None
    """The launch's folder below `models/`."""
    log_dir: OptionalPath = None
    """The launch's folder below `logs/`."""

    def _contradictions(self) -> Iterator[Problem]:
        for name in ("last_round", "save_dir", "log_dir"):
            if self.resume and getattr(self, name) is None:
                yield name, "is required when resume is true"


class InferConfig(StrictModel):
    """The `infer` command: posterior and coverage of trained rounds; training ignores it."""

    sim_dataset: bool = False
    """Simulate the test sets of rounds after the first instead of reading them."""
    compute_coverage: bool = True
    """Test how often credible regions hold the truth of test simulations."""
    load_dir: OptionalPath = None
    """A launch's folder below `models/`, `models/<name>` for its newest launch, or
    `runs:/<run id>`; null: `<trainer.save_dir>/models/<name>`."""
    num_posterior_samples: Annotated[int, Field(ge=1, le=10**7)] = 5000
    """Draws from the posterior of every round at the observed sample."""
    num_predictive: Natural = 0
    """Simulations at draws of the last round's posterior, which x_o is compared with."""
    save_dir: OptionalPath = None
    """Root of the output tree; null: `trainer.save_dir`."""


def _simulator_name(value: str) -> str:
    if not (value.isidentifier() or IMPORTABLE.fullmatch(value)):
        raise Refused(
            ("", f"must be a simulator's name or 'package.module:Class', found {value!r}")
        )
    return value


class PulsarArgs(StrictModel):
    """Settings of the `pulsar` simulator."""

    population: PopulationConfig = Field(default_factory=PopulationConfig)
    """Everything that theta does not change, and where it starts from."""
    run_mode: Literal["magrot_det", "full"] = "magrot_det"
    """`magrot_det` makes stars until the surveys' counts are reached; `full` maps all stars."""


POPULATION_SIMULATORS: Mapping[str, type[PulsarArgs]] = {"pulsar": PulsarArgs}
"""Simulators that draw the stars of `dyn_data_loader` and make maps as the `generator` block says,
with the block of their `args`; every other takes its `args` and nothing else."""


class SimulatorConfig(StrictModel):
    """What turns theta into x."""

    type: Annotated[str, AfterValidator(_simulator_name)] = "pulsar"
    """A registered name, or `package.module:Class`."""
    args: dict[Name, Any] = Field(default_factory=dict)
    """The simulator's own settings; those of `pulsar` are checked like every other block."""

    @field_validator("args")
    @classmethod
    def _without_paths(cls, args: dict[str, Any]) -> dict[str, Any]:
        """Put the contents of files in place of their paths: a stored configuration is whole."""
        population = args.get("population")
        if not isinstance(population, Mapping):
            return args
        whole = dict(population)
        try:
            if "surveys" in whole:
                whole["surveys"] = with_contents(whole["surveys"])
        except Refused as error:
            path = "population.surveys"
            raise Refused(*((path + p, message) for p, message in error.problems)) from None
        try:
            if isinstance(whole.get("observed"), str | Path):
                read = as_observed(whole["observed"])
                whole["observed"] = read.model_dump(mode="json", exclude_unset=True)
        except Refused as error:
            raise Refused(*(("population.observed", m) for _, m in error.problems)) from None
        return {**args, "population": whole}

    @property
    def draws_stars(self) -> bool:
        """Whether it takes a stellar database and the `generator` block of its maps."""
        return self.type in POPULATION_SIMULATORS

    @property
    def pulsar(self) -> PulsarArgs:
        """The settings in `args`, of a simulator that draws stars."""
        return POPULATION_SIMULATORS[self.type].model_validate_json(json.dumps(self.args))

    def _contradictions(self) -> Iterator[Problem]:
        if self.draws_stars:
            try:
                _ = self.pulsar
            except ValidationError as error:
                problems = describe(error, POPULATION_SIMULATORS[self.type], self.args)
                yield from ((f"args.{path}", message) for path, message in problems)
