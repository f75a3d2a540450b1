"""Stars that surveys detect: what was drawn at birth, what they are today, what reaches us."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlpop.population.pulsars.beaming import Beamed
from mlpop.population.pulsars.initial import Births
from mlpop.population.surveys.observing import Observed

Vector = NDArray[np.float64]
Rows = NDArray[np.int64]
Columns = TypeVar("Columns", bound=Any)


@dataclass(frozen=True)
class Detections:
    """Stars in draw order with their signal in each survey.

    Attributes:
        place: (m,) position among all stars drawn, from 0.
        row: (m,) row of the database.
        detected: (n_surveys, m) by which surveys.
        births: their properties at birth.
        beamed: their properties today.
        observed: what reaches us.
        spectral_index: (m,)
    """

    place: Rows
    row: Rows
    detected: NDArray[np.bool_]
    births: Births
    beamed: Beamed
    observed: Observed
    spectral_index: Vector

    def __len__(self) -> int:
        return len(self.place)

    def take(self, chosen: NDArray[Any]) -> "Detections":
        """Return the stars that an index or mask chooses."""
        columns = (getattr(self, field.name) for field in fields(self))
        return Detections(*(take(column, chosen) for column in columns))

    def by_any(self, members: Mapping[str, int]) -> NDArray[np.bool_]:
        """Tell (m,) which stars any of these surveys detects, given with their places."""
        return np.asarray(self.detected[[*members.values()]].any(axis=0))

    @classmethod
    def join(cls, pieces: Sequence["Detections"]) -> "Detections":
        """Put chunks, at least one, together in their order."""
        return cls(*(_join([getattr(p, field.name) for p in pieces]) for field in fields(cls)))


def take(columns: Columns, chosen: NDArray[Any]) -> Columns:
    """Return what an index or mask of stars chooses of a column, or of a tuple of columns."""
    if isinstance(columns, tuple):
        return type(columns)(*(column[..., chosen] for column in columns))
    return columns[..., chosen]


def _join(pieces: Sequence[Columns]) -> Columns:
    if isinstance(pieces[0], tuple):
        return type(pieces[0])(*map(_join, zip(*pieces, strict=True)))
    joined: Any = np.concatenate(pieces, axis=-1)
    return joined
