"""A whole population: every star of a database, whether a survey detects it or not."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from mlpop.config.blocks.population import PopulationConfig
from mlpop.population.constants import CENTURY_YR
from mlpop.population.pulsars.beaming import Beamed
from mlpop.population.pulsars.evolution import evolve_births
from mlpop.population.pulsars.radio import intercepted, opening_angles
from mlpop.population.surveys.detections import take
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
    """Create all neutron stars of a database, without a stop rule; equal seeds give equal bits.

    The targets of `config` and its highest birth rate do not count.
    """
    number = len(stars)
    stream = StarStream(config, stars, seed, bounded=False)
    rows, places = stream.draw(number, everyone=True)
    births = stream.births(places)
    spins = evolve_births(stream.now, stream.table, births, stars.columns["age"][rows])
    zeta = np.arccos(births.cos_zeta)
    rho = opening_angles(stream.beam, spins.P)
    towards_us = intercepted(spins.chi, rho, zeta)
    everyone = Beamed(places.astype(np.int64), spins.P, spins.P_dot, spins.chi, spins.B, zeta, rho)
    chosen = np.flatnonzero(towards_us)
    seen = stream.observe(
        rows[chosen], places[chosen], take(births, chosen), take(everyone, chosen)
    )
    catalogues = {
        name: catalogue(seen.take(seen.by_any(members)), stars, members)
        for name, members in stream.members.items()
    }
    return WholePopulation(
        final=final_population(stars, rows, births, everyone, chosen, seen),
        catalogues=catalogues,
        n_detected={group: len(table["idx"]) for group, table in catalogues.items()},
        n_created=number,
        birth_rate=number * CENTURY_YR / stars.t_age_max,
    )
