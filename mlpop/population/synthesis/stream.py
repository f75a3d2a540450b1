"""Stars of one simulation in draw order: chunk after chunk, from the database to the surveys."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.population import PopulationConfig
from mlpop.errors import ConfigError, DataError
from mlpop.population.constants import DEG, LN10
from mlpop.population.galaxy.scattering import tau_327
from mlpop.population.galaxy.sky import t_sky_408
from mlpop.population.pulsars.beaming import Beamed, beamed_stars
from mlpop.population.pulsars.decay_grid import DecayGrid, decay_grid
from mlpop.population.pulsars.decay_table import decay_table
from mlpop.population.pulsars.evolution import evolution
from mlpop.population.pulsars.initial import Births, birth_laws
from mlpop.population.pulsars.radio import beam_law, luminosity_law
from mlpop.population.surveys.detection import receivers
from mlpop.population.surveys.detections import Detections, Rows, take
from mlpop.population.surveys.observing import Deviates, Sight, observe
from mlpop.population.surveys.reach import ln_reach
from mlpop.population.surveys.survey import Survey, available, groups
from mlpop.population.synthesis.order import Places, Unchanging, covered_stars, draw_order, rows_of
from mlpop.population.synthesis.possible import Limits, limits, possible_stars
from mlpop.population.synthesis.stages import Stage, generator
from mlpop.population.synthesis.star_numbers import (
    beam_choices,
    beam_offsets,
    death_deviates,
    star_births,
    star_deviates,
    star_key,
    survey_purpose,
)

T = TypeVar("T")

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

    def derived(self, key: Hashable, derive: Callable[[], T]) -> T: ...

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

    Every number of a star belongs to its place in the order of drawing, see `star_numbers`. So
    the stars are the same in chunks of any size, and with bounds or without.

    Args:
        config: the population.
        stars: the stellar database.
        seed: of this simulation.
        bounded: leave out early, by `possible`, what cannot be detected; otherwise every star
            that a survey covers is evolved, which gives the same bits in five times the time.

    Attributes:
        keys: surveys in use, in the order of every (n_surveys, ...) array.
        n_drawn: stars created so far.
        members: by catalogue, its surveys and their places in such arrays.

    Raises:
        ConfigError: the configuration asks for a catalogue that does not exist, or brings a
            survey whose name is taken.
    """

    def __init__(
        self,
        config: PopulationConfig,
        stars: Stars,
        seed: np.random.SeedSequence,
        *,
        bounded: bool = True,
    ) -> None:
        self.config = config
        self.stars = stars
        self.clock = Stopwatch()
        self.n_drawn = 0
        self.keys = survey_keys(config)
        every = available(config)
        made = groups(every.values())
        self.members = {
            name: {key: self.keys.index(key) for key in made[name]}
            for name in config.surveys_radio
        }
        self._surveys = tuple(every[key] for key in self.keys)
        self.receivers = receivers(self._surveys)
        self.now = evolution(config)
        with self.clock("table"):
            self.table = decay_table(self.now.law, stars.t_age_max)
        self.beam = beam_law(config)
        self.luminosity = luminosity_law(config)
        self._laws = birth_laws(config)
        self._coverage = stars.coverage(self._surveys)
        self._ages = frozen(stars.columns["age"])
        self._key = star_key(seed)
        with self.clock("order"):
            self._order = draw_order(len(stars), generator(seed, Stage.DB_DRAW))
        self._unchanging = stars.derived(
            (
                "ln_age",
                "ln_reach",
                self._surveys,
                config.tsky_model,
                config.tsky_map,
                config.d_max,
            ),
            self._derive_unchanging,
        )
        self._bounds: tuple[Limits, DecayGrid] | None = None
        if bounded:
            with self.clock("table"):
                self._bounds = self._find_bounds()

    def next(self, n: int) -> Detections:
        """Create the next `n` stars and return those that are detected.

        Raises:
            DataError: fewer than `n` stars are left.
        """
        rows, places = self.draw(n)
        with self.clock("births"):
            births = self.births(places)
        with self.clock("evolve"):
            beamed = beamed_stars(self.now, self.table, self.beam, self._ages, rows, births)
        chosen = beamed.place
        seen = self.observe(rows[chosen], places[chosen], take(births, chosen), beamed)
        return seen.take(np.flatnonzero(seen.detected.any(axis=0)))

    def draw(self, n: int, *, everyone: bool = False) -> tuple[Rows, Places]:
        """Draw `n` stars; return rows and places of those that may be detected, or of all.

        Raises:
            DataError: fewer than `n` stars are left.
        """
        left = len(self.stars) - self.n_drawn
        if n > left:
            raise DataError(f"{n} more stars asked for, but only {left} of the database are left")
        first, self.n_drawn = self.n_drawn, self.n_drawn + n
        with self.clock("draw"):
            if everyone:
                places = np.arange(first, first + n, dtype=np.uint32)
            elif self._bounds is None:
                places = covered_stars(first, n, self._order, self._unchanging)
            else:
                limits_, grid = self._bounds
                places = possible_stars(
                    first, n, self._order, self._unchanging, self._key, self._laws, limits_, grid
                )
            return rows_of(self._order, places), places

    def births(self, places: Places) -> Births:
        """Return the properties at birth of the stars at `places` (n,)."""
        return star_births(places, self._key, self._laws)

    def observe(self, rows: Rows, places: Places, births: Births, beamed: Beamed) -> Detections:
        """Let beamed stars emit, and every survey look at them."""
        with self.clock("gather"):
            sight = self._sight(rows)
            deviates = self._deviates(places)
        with self.clock("observe"):
            observed = observe(beamed, sight, deviates, self.luminosity, self.receivers)
            detected = observed.snr > self.receivers.threshold[:, None]
            if self.config.observed_cuts:
                detected &= (beamed.P > OBSERVED_P_MIN) & (beamed.P_dot > OBSERVED_P_DOT_MIN)
        drawn = places.astype(np.int64)
        return Detections(drawn, rows, detected, births, beamed, observed, deviates.spectral_index)

    def _find_bounds(self) -> tuple[Limits, DecayGrid] | None:
        """Return what bounds need; None where the decay of the field has none."""
        grid = decay_grid(self.now.law, self.table, self.stars.t_age_max)
        if grid is None:
            return None
        laws = self.now, self.beam, self.luminosity
        return limits(self.config, *laws, self.receivers, grid), grid

    def _derive_unchanging(self) -> Unchanging:
        columns = self.stars.columns
        dist, dec = (np.asarray(columns[name], np.float64) for name in ("d", "dec"))
        everyone = slice(None)
        reach = ln_reach(
            self.receivers, self._seen_by(everyone), dist, dec * DEG, self._sky(everyone)
        )
        return Unchanging(np.log(columns["age"]).astype(np.float32), reach)

    def _seen_by(self, rows: Rows | slice) -> NDArray[np.unsignedinteger[Any]]:
        """Return the coverage bits of stars, without any from `d_max` on."""
        coverage = self._coverage[rows].copy()
        coverage[self.stars.columns["d"][rows].astype(np.float64) >= self.config.d_max] = 0
        return coverage

    def _sky(self, rows: Rows | slice) -> NDArray[np.float64]:
        """Return the sky temperature at 408 MHz in the directions of stars [K]."""
        columns = self.stars.columns
        if self.config.tsky_model == "database":
            sky = columns["T_sky408"][rows]
        else:
            place = columns["l"][rows], columns["b"][rows]
            sky = t_sky_408(*place, self.config.tsky_model, self.config.tsky_map)
        return np.asarray(sky, np.float64)

    def _sight(self, rows: Rows) -> Sight:
        columns = self.stars.columns
        dist, dec, dm = (columns[name][rows].astype(np.float64) for name in ("d", "dec", "DM"))
        return Sight(self._seen_by(rows), dist, dec * DEG, dm, self._sky(rows), tau_327(dm))

    def _deviates(self, places: Places) -> Deviates:
        config = self.config
        luminosity, index, tau = star_deviates(places, self._key)
        varies = self.luminosity.ln_death_sigma > 0.0
        return Deviates(
            luminosity,
            death_deviates(places, self._key) if varies else np.zeros(len(places)),
            config.mean_spectral_index + config.std_spectral_index * index,
            np.exp(LN10 * config.tau_sc_log10_sigma * tau),
            np.stack([beam_offsets(places, survey_purpose(key), self._key) for key in self.keys]),
            np.stack([self._beam_gains(survey, places) for survey in self._surveys]),
        )

    def _beam_gains(self, survey: Survey, places: Places) -> NDArray[np.float64]:
        """Return the gains (n,) of the beams into which stars fall, over the largest."""
        gains, shares = np.array(survey.beams).T
        if len(gains) == 1:
            return np.ones(len(places))
        chosen = beam_choices(places, survey_purpose(survey.key), self._key)
        kinds = np.searchsorted(np.cumsum(shares)[:-1], chosen, side="right")
        return np.asarray(gains[kinds])


def survey_keys(config: PopulationConfig) -> tuple[str, ...]:
    """Return the surveys behind the catalogues that `config` asks for, sorted.

    Raises:
        ConfigError: a catalogue does not exist.
    """
    catalogues = groups(available(config).values())
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
