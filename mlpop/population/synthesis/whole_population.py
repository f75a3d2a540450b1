"""A whole population: every star of a database, whether a survey detects it or not."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from mlpop.config.blocks.population import PopulationConfig
from mlpop.population.constants import CENTURY_YR
from mlpop.population.pulsars.beaming import Beamed
from mlpop.population.pulsars.evolution import evolve_births
from mlpop.population.pulsars.radio import intercepted, opening_angles
from mlpop.population.surveys.detections import Detections
from mlpop.population.surveys.survey import groups
from mlpop.population.synthesis.columns import Table, catalogue, final_population
from mlpop.population.synthesis.stream import Stars, StarStream


@dataclasses.dataclass(frozen=True)
class WholePopulation:
    """All stars of one simulation.

    Attributes:
        final: columns of every star, see `columns.FINAL_UNITS`.
        catalogues: columns of the detected pulsars by group.
        n_detected: detections by group.
        n_created: number of stars.
        birth_rate: neutron stars per century.
    """

    final: Table
    catalogues: Mapping[str, Table]
    n_detected: Mapping[str, int]
    n_created: int
    birth_rate: float


def synthesize_all(
    config: PopulationConfig, stars: Stars, seed: np.random.SeedSequence
) -> WholePopulation:
    """Create all neutron stars of a database, without a stop rule.

    Args:
        config: the population; its targets and its highest birth rate do not count.
        stars: the stellar database.
        seed: of this simulation; equal seeds give equal bits.
    """
    number = len(stars)
    stream = StarStream(config, stars, seed)
    rows, places = stream.draw(number, covered_only=False)
    births = stream.births(number)
    spins = evolve_births(stream.now, stream.table, births, stars.columns["age"][rows])
    zeta = np.arccos(births.cos_zeta)
    rho = opening_angles(stream.beam, spins.P)
    towards_us = intercepted(spins.chi, rho, zeta)
    everyone = Beamed(places, spins.P, spins.P_dot, spins.chi, spins.B, zeta, rho)
    chosen = np.flatnonzero(towards_us)
    seen = stream.observe(rows[chosen], places[chosen], births.take(chosen), everyone.take(chosen))
    catalogues = _catalogues(stream, seen)
    return WholePopulation(
        final=final_population(stars, rows, births, everyone, chosen, seen),
        catalogues=catalogues,
        n_detected={group: len(table["idx"]) for group, table in catalogues.items()},
        n_created=number,
        birth_rate=number * CENTURY_YR / stars.t_age_max,
    )


def _catalogues(stream: StarStream, seen: Detections) -> dict[str, Table]:
    made: dict[str, Table] = {}
    for name in stream.config.surveys_radio:
        group = groups()[name]
        members = [stream.keys.index(key) for key in group.members]
        index = np.flatnonzero(np.any(seen.detected[members], axis=0))
        made[name] = catalogue(seen.take(index), stream.stars, group, members)
    return made
