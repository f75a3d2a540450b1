"""Columns of simulated pulsars: what a catalogue and a whole population consist of."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpop.population.pulsars.beaming import Beamed
from mlpop.population.pulsars.initial import Births
from mlpop.population.surveys.detections import Detections, Rows
from mlpop.population.synthesis.stream import Stars

Table = Mapping[str, NDArray[Any]]

UNITS: Mapping[str, str] = {
    "idx": "",
    "age": "yr",
    "ra": "deg",
    "dec": "deg",
    "l": "deg",
    "b": "deg",
    "DM": "pc cm^-3",
    "dist": "kpc",
    "pm_ra": "mas/yr",
    "pm_dec": "mas/yr",
    "v_ls": "km/s",
    "B": "G",
    "chi": "rad",
    "P": "s",
    "P_dot": "s/s",
    "L_radio_bol": "erg/s",
    "S_radio_obs_mean": "Jy",
    "S_radio_obs_mean_1400": "Jy",
    "w_int": "s",
    "w_eff": "s",
    "tau_sc": "s",
    "spectral_index": "",
    "B_initial": "G",
    "P_initial": "s",
    "chi_initial": "rad",
    "SNR": "",
}
"""Columns of a survey's catalogue; `pm_ra` includes cos(dec), `tau_sc` is at 327 MHz.

`S_radio_obs_mean_1400`, a documented name, is at 1429 MHz: channel 6 of the MeerKAT census.
"""

SKY = ("age", "ra", "dec", "l", "b", "DM", "pm_ra", "pm_dec", "v_ls")
"""Columns that a catalogue takes over from the stellar database."""


def catalogue(
    stars: Detections, database: Stars, members: Mapping[str, int]
) -> dict[str, NDArray[Any]]:
    """Return the columns of one catalogue.

    Args:
        stars: the (n,) pulsars that some member of the catalogue detects.
        database: the stellar database that they come from.
        members: the surveys that make the catalogue, and their places in the surveys' arrays.

    Returns:
        (n,) column by name, see `UNITS`; a catalogue of several surveys adds a boolean column for
        each. Flux, width and signal-to-noise are those of the first member that detects.
    """
    places = np.array([*members.values()])
    detected = stars.detected[places]
    first = places[np.argmax(detected, axis=0)]
    every = np.arange(len(stars))
    observed, beamed, births = stars.observed, stars.beamed, stars.births
    columns: dict[str, NDArray[Any]] = {"idx": stars.row}
    columns |= {name: database.columns[name][stars.row].astype(np.float64) for name in SKY}
    columns |= {
        "dist": database.columns["d"][stars.row].astype(np.float64),
        "B": beamed.B,
        "chi": beamed.chi,
        "P": beamed.P,
        "P_dot": beamed.P_dot,
        "L_radio_bol": observed.luminosity,
        "S_radio_obs_mean": observed.mean[first, every],
        "S_radio_obs_mean_1400": observed.mean_1429,
        "w_int": observed.width,
        "w_eff": observed.w_eff[first, every],
        "tau_sc": observed.tau_sc,
        "spectral_index": stars.spectral_index,
        "B_initial": np.exp(births.ln_b0),
        "P_initial": np.exp(births.ln_p0),
        "chi_initial": np.arccos(births.cos_chi0),
        "SNR": observed.snr[first, every],
    }
    columns = {name: columns[name] for name in UNITS}
    if len(members) > 1:
        columns |= dict(zip(members, detected, strict=True))
    return columns


FINAL_UNITS: Mapping[str, str] = {
    **{"idx": "", "age": "yr", "r": "kpc", "phi": "rad", "z": "kpc"},
    **{"ra": "deg", "dec": "deg", "l": "deg", "b": "deg", "dist": "kpc"},
    **{"v_r": "km/s", "v_phi": "km/s", "v_z": "km/s"},
    **{"pm_ra": "mas/yr", "pm_dec": "mas/yr", "v_ls": "km/s"},
    **{"B": "G", "B_initial": "G", "chi": "rad", "chi_initial": "rad"},
    **{"P": "s", "P_initial": "s", "P_dot": "s/s", "DM": "pc cm^-3"},
    **{"intercepted_radio": "", "L_radio_bol": "erg/s", "S_radio_bol": "erg/s/cm^2"},
    **{"S_radio_obs_mean_1400": "Jy", "w_int": "s", "tau_sc": "s", "spectral_index": ""},
}
"""Columns of a whole population; what only pulsars beamed at us have is NaN for the rest."""

PLACES = ("r", "phi", "z", "v_r", "v_phi", "v_z", *SKY)


def final_population(
    database: Stars,
    rows: Rows,
    births: Births,
    today: Beamed,
    chosen: Rows,
    seen: Detections,
) -> dict[str, NDArray[Any]]:
    """Return the columns (n,) of a whole population, see `FINAL_UNITS`.

    Births and today's properties are those of the n stars at `rows`, whether their beam meets us
    or not; `chosen` (m,) tells which of them have one that does, and `seen` their signals.
    """
    columns: dict[str, NDArray[Any]] = {"idx": rows}
    columns |= {name: database.columns[name][rows].astype(np.float64) for name in PLACES}
    columns |= {
        "dist": database.columns["d"][rows].astype(np.float64),
        "B": today.B,
        "B_initial": np.exp(births.ln_b0),
        "chi": today.chi,
        "chi_initial": np.arccos(births.cos_chi0),
        "P": today.P,
        "P_initial": np.exp(births.ln_p0),
        "P_dot": today.P_dot,
    }
    towards_us = np.zeros(len(rows), dtype=np.bool_)
    towards_us[chosen] = True
    columns["intercepted_radio"] = towards_us
    radio = {
        "L_radio_bol": seen.observed.luminosity,
        "S_radio_bol": seen.observed.flux,
        "S_radio_obs_mean_1400": seen.observed.mean_1429,
        "w_int": seen.observed.width,
        "tau_sc": seen.observed.tau_sc,
        "spectral_index": seen.spectral_index,
    }
    for name, values in radio.items():
        columns[name] = np.full(len(rows), np.nan)
        columns[name][chosen] = values
    return {name: columns[name] for name in FINAL_UNITS}
