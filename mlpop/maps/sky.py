"""Sky maps: counts in a plane of Galactic place, dispersion measure or spin."""

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.sky_maps import PulsarColumn, SkyAxis
from mlpop.config.blocks.surveys import Survey
from mlpop.maps.catalogues import Catalogue, checked_columns
from mlpop.maps.histogram import Array, Axis, Grid, smooth


def sky_maps(
    catalogue: Catalogue, survey: Survey, generator: GeneratorConfig
) -> dict[str, NDArray]:
    """Return map by name of the `generator.sky_maps` of a survey, simulated or observed.

    A pulsar of which a value is not known is left out.

    Args:
        catalogue: (n,) columns: what the maps need of `l`, `b` [deg], `DM` [pc cm^-3], `P` [s] and
            `P_dot` [s/s].
        survey: its name in the maps.
        generator: the planes, and the smoothing.

    Raises:
        DataError: a column is missing, or columns differ in length.
    """
    made = {}
    for name in generator.sky_maps:
        grid, cells = _cells(catalogue, survey, generator, name)
        counts = smooth(grid.counts(cells)[None], sigma=generator.smoothing_sigma)[0]
        made[f"survey_{survey}_{name}"] = counts.astype(generator.dtype)
    return made


def not_in_sky_map(
    catalogue: Catalogue, survey: Survey, generator: GeneratorConfig, name: str
) -> NDArray[np.bool_]:
    """Return (n,) which pulsars a sky map leaves out: outside of its limits, or not known."""
    return np.asarray(_cells(catalogue, survey, generator, name)[1] < 0)


def _cells(
    catalogue: Catalogue, survey: Survey, generator: GeneratorConfig, name: str
) -> tuple[Grid, NDArray[np.intp]]:
    plane = generator.sky_maps[name]
    needed = [_source(axis.column) for axis in plane.axes]
    # with the periods, which every catalogue has, columns of another length are found
    columns = checked_columns(
        catalogue, tuple(dict.fromkeys(["P", *needed])), f"catalogue of {survey}"
    )
    first, second = map(_axis, plane.axes, generator.sky_map_shape(name))
    values = [
        _values(axis.column, columns[source])
        for axis, source in zip(plane.axes, needed, strict=True)
    ]
    grid = Grid(first, second)
    return grid, grid.cells(*values)


def _axis(axis: SkyAxis, bins: int) -> Axis:
    return Axis(*axis.range, bins, log=axis.is_log)


def _source(column: PulsarColumn) -> str:
    """Return the column of a catalogue that another is made of."""
    return "b" if column == "b_abs" else column


def _values(column: PulsarColumn, source: Array) -> Array:
    if column == "b_abs":
        return np.abs(source)
    if column == "l":
        return 180.0 - np.mod(180.0 - source, 360.0)
    return source
