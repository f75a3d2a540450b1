"""Density maps of detected pulsars, and of a whole population.

Counts and cell averages are smoothed and stored as they are: no logarithm, no normalisation.
An array's first axis is the period, right ascension or x; its second the period derivative,
declination, y or z.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpop.config.generator import SURVEYS, GeneratorConfig, Survey
from mlpop.errors import DataError
from mlpop.maps.histogram import Array, Axis, Grid, smooth

KINDS = ("position_map_radec", "velocity_map_vra", "velocity_map_vdec", "ppdot_map")
FLUX_KIND = "ppdot_map_fluxes"

SURVEY_CHANNELS: tuple[str, ...] = tuple(
    f"survey_{survey}_{kind}" for kind in (*KINDS, FLUX_KIND) for survey in SURVEYS
)
"""The 15 maps of a survey dataset, in the order of its columns."""

POPULATION_CHANNELS: tuple[str, ...] = (
    "position_map_xy",
    "position_map_xz",
    "position_map_radec",
    "velocity_map_xy_vr",
    "velocity_map_xy_vphi",
    "velocity_map_xy_vz",
    "velocity_map_vra",
    "velocity_map_vdec",
    "ppdot_map",
)
"""The maps of an end-to-end dataset; `ppdot_map_fluxes` follows where fluxes are known."""

FLUX_COLUMN = "S_radio_obs_mean_1400"

Catalogue = Mapping[str, ArrayLike]
Maps = dict[str, NDArray]


def survey_maps(
    catalogue: Catalogue,
    survey: Survey,
    generator: GeneratorConfig,
    rng: np.random.Generator | None,
    *,
    flux_catalogue: Catalogue | None = None,
) -> Maps:
    """The five maps of one survey.

    Args:
        catalogue: columns of the detected pulsars, each (n,): `ra`, `dec` [deg], `pm_ra`,
            `pm_dec` [mas/yr], `P` [s], `P_dot` [s/s], `S_radio_obs_mean_1400` [Jy].
        survey: the survey's name in the maps.
        generator: resolution, limits, smoothing.
        rng: draws the stars of the flux map where there are more than the census holds;
            None puts all of them in.
        flux_catalogue: pulsars of the flux map where they are another list: `P`, `P_dot`,
            `S_radio_obs_mean_1400`. The proper motions of `catalogue` may then be missing.

    Returns:
        Map by name: counts on the sky, mean |pm_ra| and |pm_dec| [mas/yr], counts in period and
        period derivative, mean log10 flux [dex of Jy]. Maps whose columns are missing are left
        out, but only with `flux_catalogue`.

    Raises:
        DataError: a column is missing, or columns differ in length.
    """
    observed = flux_catalogue is not None
    needed = ["ra", "dec", "P", "P_dot"] if observed else [*_SURVEY_COLUMNS]
    columns = _columns(catalogue, needed, f"catalogue of {survey}")
    sky, plane = _sky_grid(generator), _ppdot_grid(generator)
    sky_cells = sky.cells(columns["ra"], columns["dec"])
    stack = [sky.counts(sky_cells)]
    kinds = ["position_map_radec"]
    if not observed:
        stack += [sky.average(sky_cells, np.abs(columns[c]), 0.0) for c in ("pm_ra", "pm_dec")]
        kinds += ["velocity_map_vra", "velocity_map_vdec"]
    sky_maps = smooth(
        np.stack(stack),
        sigma=generator.smoothing_sigma,
        wrap_first=generator.boundary == "wrap_ra",
    )
    if flux_catalogue is None:
        cells = plane.cells(columns["P"], columns["P_dot"])
        log_flux = _log10_flux(columns[FLUX_COLUMN])
        limit = generator.flux_subsample.get(survey)
        usable = np.isfinite(log_flux) & np.isfinite(columns["P"]) & np.isfinite(columns["P_dot"])
        chosen = np.flatnonzero(usable)
        if rng is not None and limit is not None and len(chosen) > limit:
            chosen = rng.choice(chosen, size=limit, replace=False)
        flux_cells, log_flux = cells[chosen], log_flux[chosen]
    else:
        cells = plane.cells(columns["P"], columns["P_dot"])
        flux = _columns(flux_catalogue, ["P", "P_dot", FLUX_COLUMN], f"flux catalogue of {survey}")
        flux_cells = plane.cells(flux["P"], flux["P_dot"])
        log_flux = _log10_flux(flux[FLUX_COLUMN])
    plane_maps = _ppdot_maps(plane, cells, flux_cells, log_flux, generator)
    found = [
        *zip(kinds, sky_maps, strict=True),
        *zip(("ppdot_map", FLUX_KIND), plane_maps, strict=True),
    ]
    return {f"survey_{survey}_{kind}": values.astype(generator.dtype) for kind, values in found}


def population_maps(
    catalogues: Mapping[str, Catalogue], generator: GeneratorConfig, rng: np.random.Generator
) -> Maps:
    """The 15 maps of one simulated population.

    Args:
        catalogues: columns of the detected pulsars (see `survey_maps`) by survey, `PMPS`,
            `SMPS`, `HTRU`, or by the catalogue's own name, `HTRU_low_mid`. Others are ignored.
        generator: resolution, limits, smoothing.
        rng: draws the stars of the flux maps.

    Returns:
        Map by name, in the order of a survey dataset's columns.

    Raises:
        DataError: a survey or a column is missing.
    """
    made: Maps = {}
    for survey in generator.surveys:
        made |= survey_maps(_find(catalogues, survey, generator), survey, generator, rng)
    return {channel: made[channel] for channel in SURVEY_CHANNELS if channel in made}


def final_population_maps(table: Catalogue, generator: GeneratorConfig) -> Maps:
    """The maps of a whole, end-to-end population.

    Args:
        table: columns of all stars, each (n,): `r` [kpc], `phi` [rad], `z` [kpc], `v_r`,
            `v_phi`, `v_z` [km/s], `ra`, `dec` [deg], `pm_ra`, `pm_dec` [mas/yr], `P` [s],
            `P_dot` [s/s], and `S_radio_obs_mean_1400` [Jy] if there is one.
        generator: resolution, limits, smoothing.

    Returns:
        Map by name, nine, and `ppdot_map_fluxes` as the tenth where fluxes are given.

    Raises:
        DataError: a column is missing, or columns differ in length.
    """
    optional = [FLUX_COLUMN] if FLUX_COLUMN in table else []
    columns = _columns(table, [*_POPULATION_COLUMNS, *optional], "final population")
    limit, n = generator.xyz_limit_kpc, generator.resolution_dyn
    galaxy = Grid(Axis(-limit, limit, n), Axis(-limit, limit, n))
    x = columns["r"] * np.cos(columns["phi"])
    y = columns["r"] * np.sin(columns["phi"])
    xy, xz = galaxy.cells(x, y), galaxy.cells(x, columns["z"])
    sky = _sky_grid(generator)
    sky_cells = sky.cells(columns["ra"], columns["dec"])
    sigma = generator.smoothing_sigma
    galactic_maps = smooth(
        np.stack(
            [
                galaxy.counts(xy),
                galaxy.counts(xz),
                *(galaxy.average(xy, np.abs(columns[c]), 0.0) for c in ("v_r", "v_phi", "v_z")),
            ]
        ),
        sigma=sigma,
    )
    sky_maps = smooth(
        np.stack(
            [
                sky.counts(sky_cells),
                *(sky.average(sky_cells, np.abs(columns[c]), 0.0) for c in ("pm_ra", "pm_dec")),
            ]
        ),
        sigma=sigma,
        wrap_first=generator.boundary == "wrap_ra",
    )
    plane = _ppdot_grid(generator)
    cells = plane.cells(columns["P"], columns["P_dot"])
    log_flux = _log10_flux(columns.get(FLUX_COLUMN, np.zeros_like(columns["P"])))
    plane_maps = _ppdot_maps(plane, cells, cells, log_flux, generator)
    made = [
        *galactic_maps[:2],
        sky_maps[0],
        *galactic_maps[2:],
        *sky_maps[1:],
        *plane_maps[: 1 + len(optional)],
    ]
    names = (*POPULATION_CHANNELS, *(FLUX_KIND for _ in optional))
    return {name: m.astype(generator.dtype) for name, m in zip(names, made, strict=True)}


def dropped_stars(
    catalogues: Mapping[str, Catalogue], generator: GeneratorConfig
) -> dict[str, dict[str, int]]:
    """Detected pulsars that the maps of `population_maps` leave out.

    Returns:
        Per survey: `not_finite`, stars with a missing value in some column, and `out_of_range`,
        other stars outside the limits of the sky or the period maps.
    """
    dropped: dict[str, dict[str, int]] = {}
    for survey in generator.surveys:
        catalogue = _find(catalogues, survey, generator)
        columns = _columns(catalogue, _SURVEY_COLUMNS, f"catalogue of {survey}")
        finite = np.isfinite(_log10_flux(columns[FLUX_COLUMN]))
        for name in _SURVEY_COLUMNS:
            finite &= np.isfinite(columns[name])
        outside = _sky_grid(generator).cells(columns["ra"], columns["dec"]) < 0
        outside |= _ppdot_grid(generator).cells(columns["P"], columns["P_dot"]) < 0
        dropped[survey] = {
            "not_finite": int(np.count_nonzero(~finite)),
            "out_of_range": int(np.count_nonzero(outside & finite)),
        }
    return dropped


_SURVEY_COLUMNS = ("ra", "dec", "pm_ra", "pm_dec", "P", "P_dot", FLUX_COLUMN)
_POPULATION_COLUMNS = (
    *("r", "phi", "z", "v_r", "v_phi", "v_z"),
    *("ra", "dec", "pm_ra", "pm_dec", "P", "P_dot"),
)


def _sky_grid(generator: GeneratorConfig) -> Grid:
    n_ra, n_dec = generator.sky_shape
    return Grid(Axis(0.0, 360.0, n_ra), Axis(-90.0, 90.0, n_dec))


def _ppdot_grid(generator: GeneratorConfig) -> Grid:
    n = generator.resolution_ppdot
    return Grid(Axis(*generator.p_limits, n, log=True), Axis(*generator.pdot_limits, n, log=True))


def _ppdot_maps(
    plane: Grid,
    cells: NDArray[np.intp],
    flux_cells: NDArray[np.intp],
    log_flux: Array,
    generator: GeneratorConfig,
) -> tuple[Array, Array]:
    # Smoothing the excess over the fill keeps cells far from any star at the fill exactly.
    excess = plane.average(flux_cells, log_flux, generator.empty_flux) - generator.empty_flux
    counts, flux = smooth(np.stack([plane.counts(cells), excess]), sigma=generator.smoothing_sigma)
    return counts, flux + generator.empty_flux


def _log10_flux(flux: Array) -> Array:
    result = np.full(len(flux), np.nan)
    np.log10(flux, out=result, where=flux > 0)
    return result


def _find(
    catalogues: Mapping[str, Catalogue], survey: Survey, generator: GeneratorConfig
) -> Catalogue:
    for name in (survey, generator.catalogue_name(survey), generator.surveys[survey]):
        if name in catalogues:
            return catalogues[name]
    raise DataError(
        f"no catalogue of the survey {survey}: expected '{survey}' or "
        f"'{generator.catalogue_name(survey)}', found {', '.join(catalogues) or 'none'}"
    )


def _columns(
    table: Catalogue, names: tuple[str, ...] | list[str], source: str
) -> dict[str, Array]:
    missing = [name for name in names if name not in table]
    if missing:
        raise DataError(
            f"{source}: no column {', '.join(missing)}; found {', '.join(table) or 'none'}"
        )
    columns = {name: np.asarray(table[name], dtype=np.float64) for name in names}
    lengths = {name: column.shape for name, column in columns.items()}
    if len(set(lengths.values())) != 1 or len(next(iter(lengths.values()))) != 1:
        raise DataError(f"{source}: columns must be equally long vectors, found {lengths}")
    return columns
