"""The configuration file of the main job: simulation-based inference in rounds."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, Field

from mlpop.config.base import StrictModel
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.config.blocks.data import (
    DynamicalDataConfig,
    ObservedConfig,
    TestDataConfig,
    TrainingDataConfig,
)
from mlpop.config.blocks.flux_subsample import with_census
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.network import (
    ArchConfig,
    CompressionConfig,
    DensityConfig,
    InitializerConfig,
    McmcConfig,
    ZScore,
)
from mlpop.config.blocks.preset_stars import fill_stars
from mlpop.config.blocks.prior import PriorConfig
from mlpop.config.blocks.training import InferConfig, ResumeConfig, SimulatorConfig, TrainerConfig
from mlpop.config.fields import Count, Few, Natural
from mlpop.config.files.checks import contradictions
from mlpop.config.files.facts import ppdot_resolution
from mlpop.config.messages import Problem, Refused, show
from mlpop.config.reference import Translation, sbi_fields


def _path_component(value: str) -> str:
    control = any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value)
    if value in ("", ".", "..") or PurePath(value).name != value or control:
        raise Refused(("", f"must be a single file or folder name, found {show(value)}"))
    if len(value.encode()) > 200:
        raise Refused(("", f"must have at most 200 bytes, found {len(value.encode())}"))
    return value


FileName = Annotated[str, AfterValidator(_path_component)]


class SbiConfig(StrictModel):
    """Everything a launch of `mlpop sbi` and `mlpop infer` can be told."""

    name: FileName = "SBI_ConvolutionMDN"
    """Names the experiment and its folders."""
    n_gpu: Natural = 1
    """0 computes on the CPU, 1 or more on the first GPU; more than there are is a warning."""
    enable_dask: bool = False
    """Run on Dask (`workers_dask`) instead of processes of this machine (`n_processes`)."""
    n_processes: Few = 4
    """Worker processes without Dask; 1 runs everything in the main process."""
    workers_dask: Count | None = Field(
        default=None, validation_alias=AliasChoices("workers_dask", "n_workers")
    )
    """Dask workers; null: as many as this machine has cores, 4 of a job queue. `n_workers` is
    accepted too."""
    set_manual_seed: bool = False
    """Take `manual_seed` as root seed; otherwise one is drawn, and logged."""
    manual_seed: Natural = 42
    """The root seed, with `set_manual_seed`."""
    profile_log: FileName = "profile.log"
    """Name of a text file with times, in the folder of logs."""
    profile_json: FileName = "profile.json"
    """Name of the same as JSON, beside it."""
    show_profiling: bool = True
    """Echo the profile to the terminal."""

    arch: ArchConfig | None = ArchConfig()
    """The embedding network; null where x is a vector."""
    weights_initializer: InitializerConfig = InitializerConfig()
    density_estimator: DensityConfig = DensityConfig()
    mcmc_sampler: McmcConfig = McmcConfig()
    compression_input: CompressionConfig = CompressionConfig()

    prior_ranges: PriorConfig
    training_data_loader: TrainingDataConfig
    test_data_loader: TestDataConfig = TestDataConfig()
    observed_sample: ObservedConfig
    dyn_data_loader: DynamicalDataConfig = DynamicalDataConfig()

    trainer: TrainerConfig = TrainerConfig()
    resume_training: ResumeConfig = ResumeConfig()
    infer: InferConfig = InferConfig()

    simulator: SimulatorConfig = SimulatorConfig()
    generator: GeneratorConfig = GeneratorConfig()
    compute: ComputeConfig = ComputeConfig()

    def _contradictions(self) -> Iterator[Problem]:
        return contradictions(self)

    @classmethod
    def _translate(cls, translation: Translation) -> None:
        if {"workers_dask", "n_workers"} <= translation.values.keys():
            del translation.values["n_workers"]
            translation.problems.append(
                ("n_workers", "is another name of workers_dask, give only one of them")
            )
        sbi_fields(translation)
        fill_stars(translation)

    @property
    def root_seed(self) -> int | None:
        """The seed to derive every other from, or None where one is to be drawn."""
        return self.manual_seed if self.set_manual_seed else None

    @property
    def z_score_x(self) -> ZScore:
        """How x is standardized inside the network, `density_estimator.args` resolved."""
        configured = self.density_estimator.args.z_score_x
        vectors = self.arch is None or self.compression_input.use_compression
        return configured or ("independent" if vectors else "none")

    @property
    def map_generator(self) -> GeneratorConfig:
        """The `generator` block with what other blocks say of it.

        The resolution is the one that `arch.args.input_shape` asks for, the flux subsamples are
        the population's `detected_meerkat_*`.
        """
        resolution = ppdot_resolution(self)
        generator = self.generator.model_copy(update={"resolution_ppdot": resolution})
        if not self.simulator.draws_stars:
            return generator
        return with_census(generator, self.simulator.pulsar.population)

    def resolved(self) -> dict[str, Any]:
        """Return every field as JSON values, defaults written out; parses to the same launch."""
        values = self.model_dump(mode="json") | {
            "generator": self.map_generator.model_dump(mode="json")
        }
        if self.arch is not None and self.arch.is_custom:
            # a class of the user's own takes the arguments that are given, and no others
            values["arch"]["args"] = self.arch.args.model_dump(mode="json", exclude_unset=True)
        return values
