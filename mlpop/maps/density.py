"""Density maps of detected pulsars, and of a whole population.

Counts and cell averages are smoothed and stored as they are: no logarithm, no normalisation.
An array's first axis is the period, right ascension or x; its second the period derivative,
declination, y or z.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.generator import (
    COUNT_KIND,
    FLUX_KIND,
    POPULATION_CHANNELS,
    PPDOT_KIND,
    SKY_KINDS,
    GeneratorConfig,
)
from mlpop.config.blocks.surveys import Survey
from mlpop.errors import DataError
from mlpop.maps.catalogues import FLUX_COLUMN, Catalogue, catalogue_of, checked_columns
from mlpop.maps.histogram import Array, Axis, Grid, smooth
from mlpop.maps.sky import not_in_sky_map, sky_maps

KINDS = (*SKY_KINDS, PPDOT_KIND)

Maps = dict[str, NDArray]


def survey_maps(
    catalogue: Catalogue, survey: Survey, generator: GeneratorConfig, rng: np.random.Generator
) -> Maps:
    """The five maps of one survey of a simulated population.

    Args:
        catalogue: columns of the detected pulsars, each (n,): `ra`, `dec` [deg], `pm_ra`,
            `pm_dec` [mas/yr], `P` [s], `P_dot` [s/s], `S_radio_obs_mean_1400` [Jy]; those of
            `generator.sky_maps`, `l`, `b` [deg], `DM` [pc cm^-3].
        survey: the survey's name in the maps.
        generator: resolution, limits, smoothing.
        rng: draws the stars of the flux map where there are more than the census holds.

    Returns:
        Map by name: counts on the sky, mean |pm_ra| and |pm_dec| [mas/yr], counts in period and
        period derivative, mean flux [log10 of Jy]; and those of `generator.sky_maps`.

    Raises:
        DataError: a column is missing, or columns differ in length.
    """
    columns = checked_columns(catalogue, _SURVEY_COLUMNS, f"catalogue of {survey}")
    usable = np.isfinite(columns["P"]) & np.isfinite(columns["P_dot"])
    usable &= np.isfinite(_log10_flux(columns[FLUX_COLUMN]))
    chosen = np.flatnonzero(usable)
    limit = generator.flux_subsample.get(survey)
    if limit is not None and len(chosen) > limit:
        chosen = rng.choice(chosen, size=limit, replace=False)
    fluxes = {name: columns[name][chosen] for name in _FLUX_COLUMNS}
    made = [
        *_sky_maps(columns, generator, ("pm_ra", "pm_dec")),
        *_ppdot_maps(columns, generator, fluxes),
    ]
    maps = _named(survey, (*KINDS, FLUX_KIND), made, generator)
    return maps | sky_maps(catalogue, survey, generator)


def observed_survey_maps(
    catalogue: Catalogue,
    flux_catalogue: Catalogue | None,
    survey: Survey,
    generator: GeneratorConfig,
) -> Maps:
    """The maps of one survey of the sky: no velocities, and fluxes of other pulsars than counts.

    Args:
        catalogue: `ra`, `dec` [deg], `P` [s], `P_dot` [s/s] of the survey's pulsars, each (n,);
            and those of `generator.sky_maps`.
        flux_catalogue: `P`, `P_dot`, `S_radio_obs_mean_1400` [Jy] of those with a measured
            flux; None makes no flux map.
        survey: the survey's name in the maps.
        generator: resolution, limits, smoothing.

    Returns:
        Map by name: counts on the sky, counts in period and period derivative, mean flux; and
        those of `generator.sky_maps`.

    Raises:
        DataError: a column is missing, or columns differ in length.
    """
    columns = checked_columns(catalogue, ("ra", "dec", "P", "P_dot"), f"catalogue of {survey}")
    fluxes = None
    if flux_catalogue is not None:
        fluxes = checked_columns(flux_catalogue, _FLUX_COLUMNS, f"flux catalogue of {survey}")
    made = [*_sky_maps(columns, generator, ()), *_ppdot_maps(columns, generator, fluxes)]
    kinds = ("position_map_radec", "ppdot_map", FLUX_KIND)[: len(made)]
    maps = _named(survey, kinds, made, generator)
    return maps | sky_maps(catalogue, survey, generator)


def population_maps(
    catalogues: Mapping[str, Catalogue],
    generator: GeneratorConfig,
    rng: np.random.Generator,
    detected: Mapping[str, int] | None = None,
) -> Maps:
    """The maps of one simulated population, in the order of a survey dataset's columns.

    Args:
        catalogues: columns of the detected pulsars (see `survey_maps`) by survey, for
            instance `HTRU`, or by the catalogue's own name, `HTRU_low_mid`. Others are ignored.
        generator: resolution, limits, smoothing.
        rng: draws the stars of the flux maps.
        detected: pulsars that each catalogue had at the stop, before any were left out; needed
            for `generator.counts`.

    Raises:
        DataError: a survey or a column is missing.
    """
    made = counts_of(detected, generator) if generator.counts else {}
    for survey in generator.surveys:
        made |= survey_maps(catalogue_of(catalogues, survey, generator), survey, generator, rng)
    return {channel: made[channel] for channel in generator.survey_channels}


def counts_of(detected: Mapping[str, int] | None, generator: GeneratorConfig) -> Maps:
    """The numbers of detected pulsars, each an array () by the name of its channel.

    Args:
        detected: by catalogue or by survey.
        generator: which surveys.

    Raises:
        DataError: the number of a survey is missing.
    """
    made, known = {}, detected or {}
    for survey in generator.surveys:
        names = [n for n in (survey, generator.catalogue_name(survey)) if n in known]
        if not names:
            raise DataError(
                f"generator.counts: nobody says how many pulsars {survey} has detected; found "
                f"{', '.join(known) or 'none'}"
            )
        made[f"survey_{survey}_{COUNT_KIND}"] = np.array(known[names[0]], dtype=generator.dtype)
    return made


def final_population_maps(table: Catalogue, generator: GeneratorConfig) -> Maps:
    """The maps of a whole population.

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
    fluxes = (FLUX_COLUMN,) if FLUX_COLUMN in table else ()
    columns = checked_columns(table, (*_POPULATION_COLUMNS, *fluxes), "final population")
    limit, n = generator.xyz_limit_kpc, generator.resolution_dyn
    galaxy = Grid(Axis(-limit, limit, n), Axis(-limit, limit, n))
    with np.errstate(invalid="ignore"):
        x = columns["r"] * np.cos(columns["phi"])
        y = columns["r"] * np.sin(columns["phi"])
    xy, xz = galaxy.cells(x, y), galaxy.cells(x, columns["z"])
    speeds = [galaxy.average(xy, np.abs(columns[c]), 0.0) for c in ("v_r", "v_phi", "v_z")]
    galactic = smooth(
        np.stack([galaxy.counts(xy), galaxy.counts(xz), *speeds]), sigma=generator.smoothing_sigma
    )
    sky = _sky_maps(columns, generator, ("pm_ra", "pm_dec"))
    made = [
        *galactic[:2],
        sky[0],
        *galactic[2:],
        *sky[1:],
        *_ppdot_maps(columns, generator, columns if fluxes else None),
    ]
    names = (*POPULATION_CHANNELS, FLUX_KIND)[: len(made)]
    return {name: m.astype(generator.dtype) for name, m in zip(names, made, strict=True)}


def dropped_stars(
    catalogues: Mapping[str, Catalogue], generator: GeneratorConfig
) -> dict[str, dict[str, int]]:
    """Detected pulsars that the maps of `population_maps` leave out.

    Returns:
        Per survey: `not_finite`, stars with a missing value in some column, and `out_of_range`,
        other stars outside the limits of the sky or the period maps; for every map of
        `generator.sky_maps`, `not_in_<name>`, stars that it leaves out.
    """
    dropped: dict[str, dict[str, int]] = {}
    for survey in generator.surveys:
        catalogue = catalogue_of(catalogues, survey, generator)
        columns = checked_columns(catalogue, _SURVEY_COLUMNS, f"catalogue of {survey}")
        finite = np.isfinite(_log10_flux(columns[FLUX_COLUMN]))
        for name in _SURVEY_COLUMNS:
            finite &= np.isfinite(columns[name])
        outside = _sky_grid(generator).cells(columns["ra"], columns["dec"]) < 0
        outside |= _ppdot_grid(generator).cells(columns["P"], columns["P_dot"]) < 0
        dropped[survey] = {
            "not_finite": int(np.count_nonzero(~finite)),
            "out_of_range": int(np.count_nonzero(outside & finite)),
        }
        for name in generator.sky_maps:
            outside = not_in_sky_map(catalogue, survey, generator, name)
            dropped[survey][f"not_in_{name}"] = int(np.count_nonzero(outside))
    return dropped


_FLUX_COLUMNS = ("P", "P_dot", FLUX_COLUMN)
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


def _sky_maps(
    columns: Mapping[str, Array], generator: GeneratorConfig, motions: tuple[str, ...]
) -> list[Array]:
    sky = _sky_grid(generator)
    cells = sky.cells(columns["ra"], columns["dec"])
    maps = [sky.counts(cells), *(sky.average(cells, np.abs(columns[c]), 0.0) for c in motions)]
    closed = generator.boundary == "wrap_ra"
    return [*smooth(np.stack(maps), sigma=generator.smoothing_sigma, wrap_first=closed)]


def _ppdot_maps(
    columns: Mapping[str, Array], generator: GeneratorConfig, fluxes: Mapping[str, Array] | None
) -> list[Array]:
    plane = _ppdot_grid(generator)
    maps = [plane.counts(plane.cells(columns["P"], columns["P_dot"]))]
    if fluxes is not None:
        cells = plane.cells(fluxes["P"], fluxes["P_dot"])
        log_flux = _log10_flux(fluxes[FLUX_COLUMN])
        # Smoothing the excess over the fill keeps cells far from any star at the fill exactly.
        maps.append(plane.average(cells, log_flux, generator.empty_flux) - generator.empty_flux)
    made = [*smooth(np.stack(maps), sigma=generator.smoothing_sigma)]
    return [*made[:1], *(excess + generator.empty_flux for excess in made[1:])]


def _named(
    survey: Survey, kinds: Sequence[str], maps: Sequence[Array], generator: GeneratorConfig
) -> Maps:
    return {
        f"survey_{survey}_{kind}": values.astype(generator.dtype)
        for kind, values in zip(kinds, maps, strict=True)
    }


def _log10_flux(flux: Array) -> Array:
    result = np.full(len(flux), np.nan)
    np.log10(flux, out=result, where=flux > 0)
    return result
