"""What follows from several blocks of an SBI configuration together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlpop.config.blocks.generator import (
    FLUX_KIND,
    POPULATION_CHANNELS,
    PPDOT_KIND,
    SKY_KINDS,
    is_count,
)

if TYPE_CHECKING:
    from mlpop.config.files.sbi import SbiConfig

PPDOT_MAPS = (PPDOT_KIND, FLUX_KIND)


class ExperimentFacts:
    """What follows from several blocks together."""

    def __init__(self, config: SbiConfig) -> None:
        self.config = config

    @property
    def simulates(self) -> bool:
        """Whether any population is simulated."""
        config = self.config
        return (
            config.training_data_loader.simulate
            or self.simulates_tests
            or config.observed_sample.synthetic is not None
            or config.trainer.num_rounds > 1
        )

    @property
    def simulates_tests(self) -> bool:
        """Whether the round-0 test set is simulated."""
        return self.config.test_data_loader.testing and self.config.test_data_loader.simulate

    @property
    def makes_maps(self) -> bool:
        """Whether populations are simulated and turned into survey maps for a network."""
        return self.simulates and self.config.simulator.draws_stars

    @property
    def channels(self) -> tuple[str, ...]:
        """The maps that the pulsar simulator makes, in the order of the CSV's columns."""
        if self.config.simulator.pulsar.run_mode == "full":
            return (*POPULATION_CHANNELS, FLUX_KIND)
        return self.config.generator.survey_channels

    @property
    def selects_unseen(self) -> bool:
        """Whether `filter_inputs` gives positions in a CSV that is given, and not read here."""
        loader = self.config.training_data_loader
        entries = loader.filter_inputs
        return not loader.simulate and (entries is None or isinstance(entries[0], int))

    @property
    def selected(self) -> tuple[str, ...]:
        """The maps that `filter_inputs` selects, those that exist; none if that is unknown."""
        entries = self.config.training_data_loader.filter_inputs
        if self.selects_unseen:
            return ()
        if entries is None:
            return self.channels
        names = [
            self.channels[e] if isinstance(e, int) and e < len(self.channels) else e
            for e in entries
        ]
        return tuple(name for name in names if name in self.channels and not is_count(name))

    def shape_of(self, channel: str) -> tuple[tuple[int, int], str]:
        """Return the shape of a simulated map, and what decides it."""
        generator = self.config.generator
        if (name := generator.sky_map_of(channel)) is not None:
            bins = ppdot_resolution(self.config)
            resolved = generator.model_copy(update={"resolution_ppdot": bins})
            return resolved.sky_map_shape(name), f"generator.sky_maps.{name}"
        if channel.endswith(PPDOT_MAPS):
            if self.takes_resolution_from_shape and self.config.arch is not None:
                _, height, _ = self.config.arch.args.input_shape
                return (height, height), "P-Pdot maps are square"
            return generator.ppdot_shape, "generator.resolution_ppdot"
        if channel.endswith(SKY_KINDS):
            return generator.sky_shape, "generator.resolution_dyn"
        return (generator.resolution_dyn,) * 2, "generator.resolution_dyn"

    @property
    def takes_resolution_from_shape(self) -> bool:
        """Whether P-Pdot maps are simulated whose size only `arch.args.input_shape` gives."""
        return (
            self.makes_maps
            and self.config.arch is not None
            and "resolution_ppdot" not in self.config.generator.model_fields_set
            and (self.selects_unseen or any(map(self._shares_resolution, self.selected)))
        )

    def _shares_resolution(self, channel: str) -> bool:
        """Whether `generator.resolution_ppdot` decides the shape of a map."""
        generator = self.config.generator
        name = generator.sky_map_of(channel)
        if name is None:
            return channel.endswith(PPDOT_MAPS)
        return any(axis.bins is None for axis in generator.sky_maps[name].axes)


def ppdot_resolution(config: SbiConfig) -> int:
    """Return the bins of simulated P-Pdot maps: from the shape that the network takes, if free."""
    if ExperimentFacts(config).takes_resolution_from_shape and config.arch is not None:
        return config.arch.args.input_shape[1]
    return config.generator.resolution_ppdot
