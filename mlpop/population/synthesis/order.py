"""The order in which stars are drawn from the database: at random, none twice.

Stars of the database stand in random order. So whole lines of neighbours are drawn, which are
read from memory together, and the order of the lines is random.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpop.population.single_precision import Single
from mlpop.population.surveys.reach import NEVER

LINE_POWER = 4
"""Lines have 2^4 stars: those of a cache line of the processor, in single precision."""
FEW_STARS = 1 << 16
"""Databases with fewer stars lie in the cache anyway: each star is a line of its own."""

Places = NDArray[np.uint32]


class Order(NamedTuple):
    """An order of drawing.

    Attributes:
        lines: (n_lines,) lines of the database; stars that fill no line come last.
        power: 2^power stars are a line.
    """

    lines: NDArray[np.uint32]
    power: int


class Unchanging(NamedTuple):
    """What bounds need of the stars (n_stars,) of a database, the same for every theta.

    Attributes:
        ln_age: ln of the age [yr].
        ln_reach: see `surveys.reach.ln_reach`.
    """

    ln_age: Single
    ln_reach: Single


def draw_order(n_stars: int, rng: np.random.Generator) -> Order:
    """Draw the order of `n_stars` stars."""
    power = LINE_POWER if n_stars >= FEW_STARS else 0
    lines = np.arange(n_stars >> power, dtype=np.uint32)
    rng.shuffle(lines)
    return Order(lines, power)


@njit(cache=True)
def row_of(order: Order, place: int) -> int:
    """Return the row of the database that is drawn at a place."""
    line = place >> order.power
    if line >= order.lines.size:
        return place
    return (int(order.lines[line]) << order.power) + (place & ((1 << order.power) - 1))


@njit(cache=True)
def rows_of(order: Order, places: Places) -> NDArray[np.int64]:
    """Return the rows (n,) of the database that are drawn at `places` (n,)."""
    rows = np.empty(places.size, np.int64)
    for i in range(places.size):
        rows[i] = row_of(order, int(places[i]))
    return rows


@njit(cache=True)
def covered_stars(first: int, n: int, order: Order, unchanging: Unchanging) -> Places:
    """Return the places, among the `n` from `first` on, of stars that some survey covers."""
    places = np.empty(n, np.uint32)
    count = 0
    for place in range(first, first + n):
        places[count] = place
        count += unchanging.ln_reach[row_of(order, place)] > NEVER
    return places[:count].copy()
