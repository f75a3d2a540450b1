"""Stars of one simulation in draw order: chunk after chunk, from the database to the surveys."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.population import PopulationConfig
from mlpop.errors import ConfigError, DataError
from mlpop.population.constants import DEG, LN10
from mlpop.population.galaxy.scattering import tau_327
from mlpop.population.galaxy.sky import t_sky_408
from mlpop.population.pulsars.beaming import Beamed, beamed_stars, draw_rows
from mlpop.population.pulsars.decay_table import decay_table
from mlpop.population.pulsars.evolution import evolution
from mlpop.population.pulsars.initial import (
    Births,
    draw_ln_field,
    draw_ln_period,
    draw_log_normal,
)
from mlpop.population.pulsars.radio import beam_law, luminosity_law
from mlpop.population.surveys.detection import receivers
from mlpop.population.surveys.detections import Detections, Rows, take
from mlpop.population.surveys.observing import Deviates, Sight, observe
from mlpop.population.surveys.survey import Survey, groups, surveys
from mlpop.population.synthesis.stages import Stage, generator

OBSERVED_P_MIN = 0.01
"""Pulsars of the observed sample are slower [s]."""
OBSERVED_P_DOT_MIN = 1e-19
"""Pulsars of the observed sample have a larger period derivative."""


class Stars(Protocol):
    """What is needed of a stellar database; see `stars.database.StellarDatabase`."""

    @property
    def columns(self) -> Mapping[str, NDArray[Any]]: ...

    @property
    def t_age_max(self) -> float: ...

    def coverage(self, chosen: tuple[Survey, ...]) -> NDArray[np.unsignedinteger[Any]]: ...

    def __len__(self) -> int: ...


class Stopwatch:
    """Processor seconds of this thread, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of the block under `stage`."""
        start = time.thread_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.thread_time() - start


class StarStream:
    """Draws stars without re-use and takes them through life, emission and detection.

    Each stage has its own generator, which gives one number to each covered star (or to each
    beamed star, for what only these need). So the stars are the same in chunks of any size.

    Args:
        config: the population.
        stars: the stellar database.
        seed: of this simulation.

    Attributes:
        keys: surveys in use, in the order of every (n_surveys, ...) array.
        n_drawn: stars created so far.
        members: by catalogue, its surveys and their places in such arrays.

    Raises:
        ConfigError: the configuration asks for a catalogue that does not exist.
    """

    def __init__(
        self, config: PopulationConfig, stars: Stars, seed: np.random.SeedSequence
    ) -> None:
        self.config = config
        self.stars = stars
        self.clock = Stopwatch()
        self.n_drawn = 0
        self.keys = survey_keys(config)
        self.members = {
            name: {key: self.keys.index(key) for key in groups()[name]}
            for name in config.surveys_radio
        }
        available = surveys(config.survey_version)
        chosen = tuple(available[key] for key in self.keys)
        self.receivers = receivers(chosen)
        self.now = evolution(config)
        with self.clock("table"):
            self.table = decay_table(self.now.law, stars.t_age_max)
        self.beam = beam_law(config)
        self.luminosity = luminosity_law(config)
        self._ages = frozen(stars.columns["age"])
        self._coverage = stars.coverage(chosen)
        self._order = np.arange(len(stars), dtype=np.uint32)
        self._rng = {stage: generator(seed, stage) for stage in Stage}
        self._offset_rng = [generator(seed, Stage.OFFSET, key) for key in self.keys]

    def next(self, n: int) -> Detections:
        """Create the next `n` stars and return those that are detected.

        Raises:
            DataError: fewer than `n` stars are left.
        """
        rows, places = self.draw(n)
        with self.clock("births"):
            births = self.births(len(rows))
        with self.clock("evolve"):
            beamed = beamed_stars(self.now, self.table, self.beam, self._ages, rows, births)
        chosen = beamed.place
        seen = self.observe(rows[chosen], places[chosen], take(births, chosen), beamed)
        return seen.take(np.flatnonzero(seen.detected.any(axis=0)))

    def draw(self, n: int, *, covered_only: bool = True) -> tuple[Rows, Rows]:
        """Draw `n` stars; return rows and places of those that a survey covers, or of all."""
        left = len(self.stars) - self.n_drawn
        if n > left:
            raise DataError(f"{n} more stars asked for, but only {left} of the database are left")
        with self.clock("draw"):
            uniforms = self._rng[Stage.DB_DRAW].random(n)
            rows, places = draw_rows(
                self._order, self.n_drawn, uniforms, self._coverage, covered_only
            )
        places += self.n_drawn
        self.n_drawn += n
        return rows, places

    def births(self, n: int) -> Births:
        """Draw the properties at birth of the next `n` stars."""
        config, rng = self.config, self._rng
        floor = (config.B_millisec_mean, config.B_millisec_sigma)
        return Births(
            draw_ln_field(config, n, rng[Stage.B0]),
            draw_log_normal(*floor, n, rng[Stage.FLOOR]),
            draw_ln_period(config, n, rng[Stage.P0]),
            rng[Stage.CHI0].random(n),
            rng[Stage.ZETA].random(n),
        )

    def observe(self, rows: Rows, places: Rows, births: Births, beamed: Beamed) -> Detections:
        """Let the next beamed stars emit, and every survey look at them."""
        with self.clock("gather"):
            sight = self._sight(rows)
            deviates = self._deviates(len(rows))
        with self.clock("observe"):
            observed = observe(beamed, sight, deviates, self.luminosity, self.receivers)
            detected = observed.snr > self.receivers.threshold[:, None]
            if self.config.observed_cuts:
                detected &= (beamed.P > OBSERVED_P_MIN) & (beamed.P_dot > OBSERVED_P_DOT_MIN)
        return Detections(
            places, rows, detected, births, beamed, observed, deviates.spectral_index
        )

    def _sight(self, rows: Rows) -> Sight:
        columns = self.stars.columns
        dist, dec, dm = (columns[name][rows].astype(np.float64) for name in ("d", "dec", "DM"))
        coverage = self._coverage[rows]
        coverage[dist >= self.config.d_max] = 0
        if self.config.tsky_model == "database":
            sky = columns["T_sky408"][rows]
        else:
            place = columns["l"][rows], columns["b"][rows]
            sky = t_sky_408(*place, self.config.tsky_model, self.config.tsky_map)
        sky = sky.astype(np.float64)
        return Sight(coverage, dist, dec * DEG, dm, sky, tau_327(dm))

    def _deviates(self, n: int) -> Deviates:
        config, rng = self.config, self._rng
        if config.std_spectral_index > 0.0:
            deviate = rng[Stage.ALPHA].standard_normal(n)
            index = config.mean_spectral_index + config.std_spectral_index * deviate
        else:
            index = np.full(n, config.mean_spectral_index)
        tau = np.exp(LN10 * config.tau_sc_log10_sigma * rng[Stage.TAU].standard_normal(n))
        offset2 = np.empty((len(self.keys), n))
        for k, offset_rng in enumerate(self._offset_rng):
            offset_rng.random(out=offset2[k])
        offset2 *= 0.25
        return Deviates(rng[Stage.L0].standard_normal(n), index, tau, offset2)


def survey_keys(config: PopulationConfig) -> tuple[str, ...]:
    """Return the surveys behind the catalogues that `config` asks for, sorted.

    Raises:
        ConfigError: a catalogue does not exist.
    """
    catalogues = groups()
    unknown = ", ".join(sorted(set(config.surveys_radio) - set(catalogues)))
    if unknown:
        allowed = ", ".join(catalogues)
        raise ConfigError(f"surveys_radio: no catalogue named {unknown}; allowed: {allowed}")
    return tuple(sorted({key for group in config.surveys_radio for key in catalogues[group]}))


def frozen(column: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view without the memory map's class: one compiled kernel serves all."""
    view = np.asarray(column).view(np.ndarray)
    view.flags.writeable = False
    return view
