"""One population of radio pulsars: theta to the catalogues of the surveys.

Stars are created in the order of a random permutation of the stellar database, none twice, until
every target count is reached or the birth rate is too high to be true.

References:
    Graber et al. 2024, ApJ 968, 16; Pardo-Araujo et al. 2025, A&A 696, A114.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlpop.config.blocks.population import PopulationConfig
from mlpop.errors import ConfigError
from mlpop.population.constants import CENTURY_YR
from mlpop.population.surveys.detections import Detections
from mlpop.population.synthesis.columns import Table, catalogue
from mlpop.population.synthesis.stages import Stage, generator
from mlpop.population.synthesis.stop_rule import BatchRule, smallest_fraction
from mlpop.population.synthesis.stream import Stars, StarStream

CHUNK = 1 << 18
"""Most stars handled at once; no result depends on it."""
FIRST_CHUNK, SMALLEST_CHUNK = 1 << 15, 1 << 12
"""Stars handled before the number that is needed can be told, and at the end."""

Status = Literal["matched", "limit", "exhausted"]


@dataclass(frozen=True)
class Population:
    """Detected pulsars of one simulation.

    Attributes:
        catalogues: columns of the detected pulsars by group, see `columns.catalogue`.
        n_created: neutron stars created, whether covered by a survey or not.
        status: `matched`, every target reached; `limit`, the highest birth rate reached first;
            `exhausted`, the database used up first (only with the reference's batches).
        n_detected: detections by group.
        n_created_at_match: stars created when each group reached its target, None if it did not.
        n_detected_at_match: detections at that moment.
        birth_rate_at_match: birth rate at that moment [neutron stars per century].
        t_age_max: time over which the stars were born [yr].
        seconds: processor time spent by stage; not part of the result.
    """

    catalogues: Mapping[str, Table]
    n_created: int
    status: Status
    n_detected: Mapping[str, int]
    n_created_at_match: Mapping[str, int | None]
    n_detected_at_match: Mapping[str, int | None]
    birth_rate_at_match: Mapping[str, float | None]
    t_age_max: float
    seconds: Mapping[str, float]

    @property
    def birth_rate(self) -> float:
        """Neutron stars created per century."""
        return self.n_created * CENTURY_YR / self.t_age_max


def synthesize(
    config: PopulationConfig,
    stars: Stars,
    seed: np.random.SeedSequence,
    *,
    chunk: int = CHUNK,
    bounded: bool = True,
) -> Population:
    """Create neutron stars until the catalogues hold as many pulsars as the observed ones.

    Equal seeds give equal bits. The most stars handled at once, `chunk`, and `bounded`, whether
    those that cannot be detected are left out early, change nothing but time and memory.

    Raises:
        ConfigError: the database is too small for the highest birth rate, or a catalogue is
            unknown.
    """
    require_stars(config, stars)
    stream = StarStream(config, stars, seed, bounded=bounded)
    if config.batch_rule == "reference":
        progress = _by_batches(stream, chunk)
    else:
        progress = _star_by_star(stream, chunk)
    with stream.clock("catalogues"):
        catalogues = _catalogues(stream, progress, seed)
    targets = config.surveys_radio
    per_century = CENTURY_YR / stars.t_age_max
    return Population(
        catalogues=catalogues,
        n_created=progress.n_created,
        status=progress.status,
        n_detected=progress.counts,
        n_created_at_match={group: progress.created.get(group) for group in targets},
        n_detected_at_match={group: progress.detected.get(group) for group in targets},
        birth_rate_at_match={
            group: progress.created[group] * per_century if group in progress.created else None
            for group in targets
        },
        t_age_max=stars.t_age_max,
        seconds=dict(stream.clock.seconds),
    )


def require_stars(config: PopulationConfig, stars: Stars) -> None:
    """Check that the database lasts until the highest birth rate.

    Raises:
        ConfigError: it does not.
    """
    needed = star_limit(config, stars.t_age_max)
    if config.batch_rule == "exact" and len(stars) < needed:
        largest = math.floor(len(stars) * CENTURY_YR / stars.t_age_max * 1e4) / 1e4
        raise ConfigError(
            f"birth_rate_max = {config.birth_rate_max:g} per century over {stars.t_age_max:g} yr "
            f"needs {needed} stars, but the stellar database has {len(stars)}: build a larger one "
            f"or set birth_rate_max to {largest:g} at most"
        )


def star_limit(config: PopulationConfig, t_age_max: float) -> int:
    """Return the largest number of stars within the highest birth rate."""
    return max(1, math.floor(config.birth_rate_max * t_age_max / CENTURY_YR * (1 + 1e-12)))


class _Progress:
    """Detections so far, and when each target was reached.

    Attributes:
        counts: detections of each group.
        created: stars created when a group reached its target.
        detected: its detections then.
    """

    def __init__(self, stream: StarStream) -> None:
        surveys = stream.config.surveys_radio
        self.members = stream.members
        self.pieces: list[Detections] = []
        self.n_created = 0
        self.status: Status = "limit"
        self.created: dict[str, int] = {}
        self.detected: dict[str, int] = {}
        self.counts = dict.fromkeys(surveys, 0)
        self.targets = {
            group: target.detected_real
            for group, target in surveys.items()
            if target.detected_real is not None
        }
        self.stopping = {g: n for g, n in self.targets.items() if surveys[g].in_stop_rule}

    def all_matched(self) -> bool:
        """Whether every target of the stop rule is reached; without any, never."""
        return bool(self.stopping) and all(group in self.created for group in self.stopping)

    def expected(self, n_drawn: int) -> int:
        """Guess how many more stars complete the targets, from what `n_drawn` stars gave."""
        if n_drawn == 0:
            return FIRST_CHUNK
        missing = [
            n_drawn * (target - self.counts[group]) / max(self.counts[group], 1)
            for group, target in self.stopping.items()
            if group not in self.created
        ]
        return max(SMALLEST_CHUNK, math.ceil(max(missing, default=CHUNK)))

    def add(self, stars: Detections) -> None:
        """Count detections of stars drawn after all that were added before."""
        self.pieces.append(stars)
        for group, members in self.members.items():
            self.counts[group] += int(np.count_nonzero(stars.by_any(members)))

    def match_star_by_star(self, stars: Detections) -> None:
        """Find, before adding them, the stars that complete targets."""
        for group, target in self.targets.items():
            if group in self.created:
                continue
            hits = np.flatnonzero(stars.by_any(self.members[group]))
            missing = target - self.counts[group]
            if len(hits) >= missing:
                self.created[group] = int(stars.place[hits[missing - 1]]) + 1
                self.detected[group] = target

    def match_batch(self) -> None:
        """Note the targets that were reached by the end of a batch."""
        for group, target in self.targets.items():
            if group not in self.created and self.counts[group] >= target:
                self.created[group] = self.n_created
                self.detected[group] = self.counts[group]


def _star_by_star(stream: StarStream, chunk: int) -> _Progress:
    """Stop exactly at the star that completes the last target."""
    progress = _Progress(stream)
    limit = star_limit(stream.config, stream.stars.t_age_max)
    while stream.n_drawn < limit:
        needed = progress.expected(stream.n_drawn)
        seen = stream.next(min(chunk, needed, limit - stream.n_drawn))
        progress.match_star_by_star(seen)
        if not progress.all_matched():
            progress.add(seen)
            continue
        last = max(progress.created[group] for group in progress.stopping)
        progress.add(seen.take(seen.place < last))
        for group in [g for g, created in progress.created.items() if created > last]:
            del progress.created[group], progress.detected[group]
        progress.n_created, progress.status = last, "matched"
        return progress
    progress.n_created = stream.n_drawn
    return progress


def _by_batches(stream: StarStream, chunk: int) -> _Progress:
    """Stop at the end of a batch, as the reference implementation does."""
    config, stars = stream.config, stream.stars
    progress = _Progress(stream)
    rule = BatchRule(persist=config.batch_persist)
    while True:
        size = rule.size(smallest_fraction(progress.counts, progress.stopping))
        end = stream.n_drawn + size
        if end > len(stars):
            progress.n_created, progress.status = stream.n_drawn, "exhausted"
            return progress
        while stream.n_drawn < end:
            progress.add(stream.next(min(chunk, end - stream.n_drawn)))
        progress.n_created = end
        progress.match_batch()
        if progress.all_matched():
            progress.status = "matched"
            return progress
        if end * CENTURY_YR / stars.t_age_max > config.birth_rate_max:
            return progress


def _catalogues(
    stream: StarStream, progress: _Progress, seed: np.random.SeedSequence
) -> dict[str, Table]:
    config = stream.config
    stars = Detections.join(progress.pieces or [stream.next(0)])
    catalogues: dict[str, Table] = {}
    for group, members in stream.members.items():
        chosen = stars.by_any(members)
        if config.truncate_at_match and group in progress.created:
            chosen &= stars.place < progress.created[group]
        index = np.flatnonzero(chosen)
        largest = config.thin_to.get(group)
        if largest is not None and len(index) > largest:
            rng = generator(seed, Stage.THIN, group)
            index = np.sort(rng.choice(index, size=largest, replace=False))
        catalogues[group] = catalogue(stars.take(index), stream.stars, members)
    return catalogues
