"""Stars that surveys detect: what was drawn at birth, what they are today, what reaches us."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpop.population.pulsars.beaming import Beamed
from mlpop.population.pulsars.initial import Births
from mlpop.population.surveys.observing import Observed

Vector = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
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
        return Detections(
            place=self.place[chosen],
            row=self.row[chosen],
            detected=self.detected[:, chosen],
            births=self.births.take(chosen),
            beamed=self.beamed.take(chosen),
            observed=Observed(*(column[..., chosen] for column in self.observed)),
            spectral_index=self.spectral_index[chosen],
        )

    @classmethod
    def join(cls, pieces: Sequence["Detections"]) -> "Detections":
        """Put chunks, at least one, together in their order."""

        def columns(tables: Sequence[Sequence[Any]]) -> list[Any]:
            return [np.concatenate(column, axis=-1) for column in zip(*tables, strict=True)]

        return cls(
            place=np.concatenate([p.place for p in pieces]),
            row=np.concatenate([p.row for p in pieces]),
            detected=np.concatenate([p.detected for p in pieces], axis=-1),
            births=Births(*columns([p.births for p in pieces])),
            beamed=Beamed(*columns([p.beamed for p in pieces])),
            observed=Observed(*columns([p.observed for p in pieces])),
            spectral_index=np.concatenate([p.spectral_index for p in pieces]),
        )
