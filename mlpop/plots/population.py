"""Populations as the networks see them: P-Pdot diagrams, flux maps and sky maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mlpop.config.blocks.sky_maps import PulsarColumn, SkyAxis, SkyMap
from mlpop.errors import DataError
from mlpop.plots.style import COUNTS, FLUXES, panels, styled

Maps = Mapping[str, NDArray]

Planes = Mapping[str, SkyMap]
"""The planes of maps that are none of the usual kinds, by channel."""

AXIS_LABELS: Mapping[PulsarColumn, str] = {
    "l": "$l$ [deg]",
    "b": "$b$ [deg]",
    "b_abs": "$|b|$ [deg]",
    "DM": r"DM [pc cm$^{-3}$]",
    "P": "$P$ [s]",
    "P_dot": r"$\dot{P}$ [s/s]",
}

P_LIMITS = (1e-3, 1e2)
PDOT_LIMITS = (1e-21, 1e-9)

FIELD_CONSTANT = 3.2e19
"""B = FIELD_CONSTANT (P Pdot)^(1/2) [G], the usual dipole estimate (equator)."""

YEAR = 3.15576e7
"""Julian year [s]."""


@dataclass(frozen=True)
class Kind:
    """What a map shows: names of its axes, of its values, and its colours."""

    x: str
    y: str
    value: str
    colours: str
    is_ppdot: bool


def kind_of(name: str, planes: Planes | None = None) -> Kind:
    """Return what the map called `name` (a channel of the generator) shows.

    Raises:
        DataError: no such kind of map, and none of `planes`.
    """
    if planes is not None and name in planes:
        x, y = (AXIS_LABELS[axis.column] for axis in planes[name].axes)
        return Kind(x, y, "pulsars", COUNTS, False)
    if name.endswith("ppdot_map"):
        return Kind("$P$ [s]", r"$\dot{P}$ [s/s]", "pulsars", COUNTS, True)
    if name.endswith("ppdot_map_fluxes"):
        return Kind("$P$ [s]", r"$\dot{P}$ [s/s]", r"mean $\log_{10} S_{1400}$/Jy", FLUXES, True)
    for stem, value in (
        ("position_map_radec", "pulsars"),
        ("velocity_map_vra", r"mean $|\mu_\alpha|$ [mas/yr]"),
        ("velocity_map_vdec", r"mean $|\mu_\delta|$ [mas/yr]"),
    ):
        if name.endswith(stem):
            return Kind("RA [deg]", "Dec [deg]", value, COUNTS, False)
    raise DataError(f"no survey map is called '{name}'")


def is_survey_map(name: str, planes: Planes | None = None) -> bool:
    """Whether there is a way to draw the map called `name`."""
    try:
        kind_of(name, planes)
    except DataError:
        return False
    return True


def map_title(name: str) -> str:
    """Return a short title: the survey, with `fluxes` or the name of a sky map."""
    survey, _, kind = name.removeprefix("survey_").partition("_")
    if name.endswith("fluxes"):
        return f"{survey}, fluxes"
    known = any(kind.endswith(stem) for stem in ("ppdot_map", "radec", "vra", "vdec"))
    return survey if known or not kind else f"{survey}, {kind.replace('_', ' ')}"


def population(
    maps: Maps,
    p_limits: tuple[float, float] = P_LIMITS,
    pdot_limits: tuple[float, float] = PDOT_LIMITS,
    title: str = "",
    planes: Planes | None = None,
) -> Figure:
    """Draw the maps of one population with their axes, three in a row.

    Args:
        maps: by name of the channel, each (n_x, n_y), first axis period or right ascension.
        p_limits: of the maps' period axis [s].
        pdot_limits: of the maps' period-derivative axis [s/s].
        title: above the figure.
        planes: those of sky maps among them.

    Raises:
        DataError: there is no map, or a name or a shape is none of a map.
    """
    names = _checked(maps, planes)
    with styled():
        figure, grid = panels(len(names), min(3, len(names)), (3.9, 3.2), (0.4, 0.3))
        for axes, name in zip(grid, names, strict=True):
            norm = map_norm(name, maps[name])
            image = draw_map(axes, name, maps[name], norm, p_limits, pdot_limits, planes=planes)
            axes.set_title(map_title(name))
            figure.colorbar(image, ax=axes, label=kind_of(name, planes).value, pad=0.02)
        if title:
            figure.suptitle(title, fontsize=13)
    return figure


def field_line(period: ArrayLike, log10_field: float) -> NDArray[np.float64]:
    """Return the period derivative [s/s] of constant dipole field at `period` [s]."""
    return (10.0**log10_field / FIELD_CONSTANT) ** 2 / np.asarray(period, dtype=np.float64)


def age_line(period: ArrayLike, age: float) -> NDArray[np.float64]:
    """Return the period derivative [s/s] of constant characteristic age [yr] at `period` [s]."""
    return np.asarray(period, dtype=np.float64) / (2 * age * YEAR)


def draw_map(
    axes: Axes,
    name: str,
    values: NDArray,
    norm: Normalize,
    p_limits: tuple[float, float],
    pdot_limits: tuple[float, float],
    colours: str | None = None,
    planes: Planes | None = None,
) -> QuadMesh:
    """Draw one map, for arguments see `population`; `colours` replaces those of its kind."""
    kind = kind_of(name, planes)
    x_bins, y_bins = np.shape(values)
    plane = (planes or {}).get(name)
    if plane is not None:
        x, y = _edges(plane.first, x_bins), _edges(plane.second, y_bins)
        scales = ("log" if axis.is_log else "linear" for axis in plane.axes)
        axes.set(xscale=next(scales), yscale=next(scales))
    elif kind.is_ppdot:
        x, y = np.geomspace(*p_limits, x_bins + 1), np.geomspace(*pdot_limits, y_bins + 1)
        axes.set(xscale="log", yscale="log")
    else:
        x, y = np.linspace(0, 360, x_bins + 1), np.linspace(-90, 90, y_bins + 1)
    image = axes.pcolormesh(
        x, y, np.asarray(values).T, norm=norm, cmap=colours or kind.colours, rasterized=True
    )
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), xlabel=kind.x, ylabel=kind.y)
    if kind.is_ppdot:
        _guide_lines(axes, p_limits, pdot_limits)
    elif plane is None:
        axes.set_xticks(range(0, 361, 90))
        axes.set_yticks(range(-90, 91, 45))
    return image


def _edges(axis: SkyAxis, bins: int) -> NDArray[np.float64]:
    make = np.geomspace if axis.is_log else np.linspace
    return np.asarray(make(*axis.range, bins + 1))


def _guide_lines(
    axes: Axes, p_limits: tuple[float, float], pdot_limits: tuple[float, float]
) -> None:
    """Draw lines of constant dipole field (dashed) and characteristic age (dotted)."""
    period = np.geomspace(*p_limits, 2)
    line: dict[str, Any] = {"color": "white", "lw": 0.7, "alpha": 0.5}
    text: dict[str, Any] = {"color": "white", "fontsize": 6.5, "alpha": 0.8, "clip_on": True}
    for exponent in (10, 12, 14):
        axes.plot(period, field_line(period, exponent), ls="--", **line)
        at = 1.6 * p_limits[0]
        axes.text(at, float(1.8 * field_line(at, exponent)), rf"$10^{{{exponent}}}$ G", **text)
    for exponent in (3, 6, 9):
        axes.plot(period, age_line(period, 10.0**exponent), ls=":", **line)
        at = 0.7 * p_limits[1]
        height = float(0.55 * age_line(at, 10.0**exponent))
        axes.text(at, height, rf"$10^{exponent}$ yr", ha="right", va="top", **text)
    axes.set(xlim=p_limits, ylim=pdot_limits)


def map_norm(name: str, values: NDArray) -> Normalize:
    """Return what turns the values of a map into colours."""
    low, high = float(np.min(values)), float(np.max(values))
    high = high if high > low else low + 1
    if name.endswith("fluxes"):
        return Normalize(low, high)
    return PowerNorm(0.5, min(low, 0.0), high)


def _checked(maps: Maps, planes: Planes | None) -> list[str]:
    if not maps:
        raise DataError("there is no map to draw")
    for name, values in maps.items():
        kind_of(name, planes)
        if np.ndim(values) != 2 or not np.isfinite(values).all():
            raise DataError(
                f"{name}: expected a finite map (n_x, n_y), found shape {np.shape(values)}"
                + ("" if np.isfinite(values).all() else " with NaN or infinity")
            )
    return list(maps)
