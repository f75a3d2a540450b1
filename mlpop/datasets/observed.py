"""The observed sample: maps of real pulsars, or of a synthetic population of known truth."""

from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.generator import FLUX_KIND, GeneratorConfig, survey_channels
from mlpop.config.blocks.surveys import SURVEYS, Survey
from mlpop.config.fields import INPUT_PREFIX
from mlpop.datasets.dataset import read_generator
from mlpop.datasets.details import write_observed_details
from mlpop.datasets.image import write_image
from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.layout import GENERATOR_JSON, OBSERVED_CSV, TRUTH_JSON
from mlpop.datasets.loading import stored_maps
from mlpop.errors import DataError
from mlpop.io.files import write_array, write_csv, write_json
from mlpop.maps.catalogues import Catalogue
from mlpop.maps.density import counts_of, observed_survey_maps
from mlpop.maps.pulsars import PREFIX, pulsar_table

logger = getLogger(__name__)

OBSERVED_LABELS = (
    "B_initial_log10_mean",
    "B_initial_log10_sigma",
    "P_initial_log10_mean",
    "P_initial_log10_sigma",
    "a_late",
    "L_radio_log10_mean",
    "epsilon_L",
    "h_c",
    "sigma_k",
)
"""Label columns of `dataset_atnf.csv`, all empty."""


def write_observed(
    folder: Path,
    catalogues: Mapping[str, Catalogue],
    flux_catalogues: Mapping[str, Catalogue] | None,
    generator: GeneratorConfig,
    detected: Mapping[str, int] | None = None,
) -> Path:
    """Write the maps of observed pulsars, their index file `dataset_atnf.csv`, and their tables.

    A warning names surveys whose flux map holds another number of pulsars than simulated ones.

    Args:
        folder: where to write.
        catalogues: per survey the pulsars of the count and sky maps, columns `ra`, `dec` [deg],
            `P` [s], `P_dot` [s/s], and those of `generator.sky_maps`; for the tables also those of
            `maps.pulsars`, if known.
        flux_catalogues: per survey the pulsars with a measured flux: `P`, `P_dot` and
            `S_radio_obs_mean_1400` [Jy]; None makes no flux maps.
        generator: map type and resolution, equal to the training set's.
        detected: per survey the number of pulsars that simulations aim at; needed for
            `generator.counts`.

    Returns:
        The index file: all 15 input columns, those of the six velocity maps (and of flux maps
        that are not made) empty; then those of `generator.sky_maps` and `generator.counts`.

    Raises:
        DataError: a survey or a column is missing, or the folder cannot be written.
    """
    maps: dict[str, NDArray] = counts_of(detected, generator) if generator.counts else {}
    for survey in generator.surveys:
        for samples in (catalogues, flux_catalogues):
            if samples is not None and survey not in samples:
                names = ", ".join(samples) or "none"
                raise DataError(f"no observed pulsars of the survey {survey}; found {names}")
        fluxes = None if flux_catalogues is None else flux_catalogues[survey]
        if fluxes is not None:
            _compare_flux_number(survey, len(np.asarray(fluxes["P"])), generator)
        maps |= observed_survey_maps(catalogues[survey], fluxes, survey, generator)
    rng = np.random.default_rng(0)
    tables = {
        PREFIX + survey: pulsar_table(catalogues[survey], rng) for survey in generator.surveys
    }
    write_observed_details(folder, tables)
    own = [survey for survey in generator.surveys if survey not in SURVEYS]
    channels = (*survey_channels([*SURVEYS, *own]), *generator.further_channels)
    return _write(folder, maps, generator, OBSERVED_LABELS, channels)


def write_synthetic_observed(
    folder: Path,
    maps: Mapping[str, NDArray],
    truth: Mapping[str, float],
    generator: GeneratorConfig | None,
    *,
    labels: Sequence[str],
) -> Path:
    """Write one held-out simulation as an observed sample, and its true parameters beside it.

    Args:
        folder: where to write.
        maps: array by channel; each is a column of the index file, which is returned.
        truth: true parameters, kept in `truth.json` and never in the index file.
        generator: how the maps were made; None where the simulator makes no maps of pulsars.
        labels: names of the empty label columns.

    Raises:
        DataError: a map has values that are not finite, or the folder cannot be written.
    """
    path = _write(folder, maps, generator, labels, tuple(maps))
    write_json(folder / TRUTH_JSON, {label: float(value) for label, value in truth.items()})
    return path


def check_same_maps(
    observed_csv: Path, training_csv: Path, used: Sequence[str] | None = None
) -> None:
    """Refuse an observed sample whose maps are not made like those of the training set.

    `used` are the channels that a network sees; None: all. Settings of maps that it does not see
    may differ. Where both folders hold a `generator.json`, every other setting that shapes a map
    must be equal; otherwise the shapes of the maps of each common channel.

    Raises:
        DataError: names what differs.
    """
    training = read_generator(training_csv.parent)
    if training is not None:
        check_made_alike(observed_csv, training, f"the training set {training_csv}", used)
    indices = DatasetIndex.read(observed_csv), DatasetIndex.read(training_csv)
    empty = indices[0].empty_columns
    for channel in indices[0].channels:
        if INPUT_PREFIX + channel in empty or (used is not None and channel not in used):
            continue
        if channel not in indices[1].channels or not (len(indices[0]) and len(indices[1])):
            continue
        shapes = [next(stored_maps(index, channel)).shape for index in indices]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"{observed_csv}: map {channel} has shape {shapes[0]}, the training set "
                f"{training_csv} has {shapes[1]}"
            )


def check_made_alike(
    observed_csv: Path,
    generator: GeneratorConfig,
    owner: str,
    used: Sequence[str] | None = None,
) -> None:
    """Refuse a set made with other settings that shape a map than those of `owner`.

    `used` are the channels that a network sees; None: all that the set has. A set that does not
    say how it was made passes.

    Raises:
        DataError: names the setting that differs.
    """
    observed = read_generator(observed_csv.parent)
    if observed is None:
        return
    if used is None:
        used = DatasetIndex.read(observed_csv).channels
    fluxes = [survey for survey in generator.surveys if f"survey_{survey}_{FLUX_KIND}" in used]
    if FLUX_KIND in used:
        fluxes = list(generator.surveys)
    for name in _SHAPING if fluxes else _SHAPING_COUNTS:
        setting, expected = getattr(observed, name), getattr(generator, name)
        if setting != expected:
            raise DataError(
                f"{observed_csv}: generator.{name} is {setting}, {owner} has {expected}; make one "
                "of them again with the setting of the other"
            )
    _check_sky_maps(observed_csv, observed, generator, owner, used)


def _check_sky_maps(
    csv: Path, own: GeneratorConfig, other: GeneratorConfig, owner: str, used: Sequence[str]
) -> None:
    for name in dict.fromkeys(map(other.sky_map_of, used)):
        plane, expected = own.sky_maps.get(name or ""), other.sky_maps.get(name or "")
        if plane is not None and str(plane) != str(expected):
            raise DataError(
                f"{csv}: generator.sky_maps.{name} is {plane}, {owner} has {expected}; make one "
                "of them again with the setting of the other"
            )


_SHAPING_COUNTS = (
    *("data_type", "resolution_dyn", "resolution_ppdot", "p_limits", "pdot_limits"),
    *("smoothing_sigma", "boundary"),
)
_SHAPING = (*_SHAPING_COUNTS, "empty_flux", "flux_subsample")


def _compare_flux_number(survey: Survey, number: int, generator: GeneratorConfig) -> None:
    limit = generator.flux_subsample.get(survey)
    if limit is not None and number != limit:
        logger.warning(
            "the observed flux map of %s holds %d pulsars, simulated ones hold at most %d: set "
            "generator.flux_subsample.%s to %d, here and for the training set, to compare like "
            "with like",
            *(survey, number, limit, survey, number),
        )


def _write(
    folder: Path,
    maps: Mapping[str, NDArray],
    generator: GeneratorConfig | None,
    labels: Sequence[str],
    channels: Sequence[str],
) -> Path:
    pictures = generator is not None and generator.data_type == "image"
    cells = []
    for channel in channels:
        name = f"{channel}_0.{'png' if pictures else 'npy'}" if channel in maps else ""
        cells.append(name)
        if name:
            values = np.asarray(maps[channel])
            if not np.isfinite(values).all():
                raise DataError(f"{folder}: map {channel} has values that are not finite")
            (write_image if pictures else write_array)(folder / name, values)
    if generator is not None:
        write_json(folder / GENERATOR_JSON, generator.model_dump(mode="json"))
    header = [*(INPUT_PREFIX + channel for channel in channels), *labels]
    write_csv(folder / OBSERVED_CSV, header, [[*cells, *("" for _ in labels)]])
    return folder / OBSERVED_CSV
