"""The stellar database of an experiment: given, found in the cache, or built."""

import hashlib
import logging
import time
from pathlib import Path

from mlpop.config.blocks.data import DynamicalDataConfig
from mlpop.config.blocks.dynamics import SCHEMA_VERSION, DynamicsConfig
from mlpop.config.blocks.population import PopulationConfig
from mlpop.datasets.remote.mirror import localized
from mlpop.errors import ConfigError, DataError
from mlpop.experiment.progress import counted
from mlpop.io.cache import cache_folder
from mlpop.io.files import sha256_of
from mlpop.io.locks import locked
from mlpop.population.stars.database import StellarDatabase, find_or_build
from mlpop.population.stars.folder import HEADER
from mlpop.population.synthesis.detected_population import star_limit

logger = logging.getLogger(__name__)

CSV_NAME = "final_pop_dyn.csv"


def stellar_database(config: DynamicalDataConfig) -> StellarDatabase:
    """Return the database that simulated populations draw from.

    Args:
        config: the `dyn_data_loader` block. Its `dataset_path` may be a database folder of
            mlpop, or hold the documented `final_pop_dyn.csv`, which is imported once into the
            cache. Without it, `database` (or its defaults) is found in the cache or built.

    Raises:
        DataError: the folder holds neither, or is broken.
    """
    if config.dataset_path is None:
        return found_or_built(config.stars)
    source = localized(config.dataset_path)
    if (stars := opened(source)) is not None:
        return stars
    csv = source / CSV_NAME
    folder = cache_folder() / "stars" / f"imported-{_import_key(csv)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            return StellarDatabase.import_csv(csv, None, folder)
    return StellarDatabase.open(folder)


def found_or_built(config: DynamicsConfig) -> StellarDatabase:
    """Find the stars of `config` in the cache, or build them there and tell the progress."""
    started = time.monotonic()
    with counted("stellar database", config.NS_number, "star") as tell:
        stars = find_or_build(config, progress=lambda done, _: tell(done))
    logger.info(
        "stellar database: %d stars up to %.3g yr in %s (%.1f s)",
        len(stars),
        stars.t_age_max,
        stars.folder,
        time.monotonic() - started,
    )
    return stars


def opened(folder: Path) -> StellarDatabase | None:
    """Open a given database; None if the folder holds a CSV, which must be imported first.

    Raises:
        DataError: the folder holds neither, or is broken.
    """
    if (folder / HEADER).is_file():
        return StellarDatabase.open(folder)
    if not (folder / CSV_NAME).is_file():
        raise DataError(
            f"{folder}: holds neither {CSV_NAME} nor a stellar database of `mlpop dynamics`"
        )
    return None


def csv_settings(folder: Path, population: PopulationConfig) -> DynamicsConfig:
    """Return the settings of a CSV that is not imported yet; refuse one with too few stars.

    Raises:
        ConfigError: it has fewer stars than are born at the highest birth rate.
        DataError: its `configuration.json` is missing or broken.
    """
    # here, because pandas doubles the start of a process
    from mlpop.population.stars.csv_file import read_configuration

    settings = read_configuration(folder / "configuration.json")
    needed = star_limit(population, settings.t_age_max)
    if population.batch_rule == "exact" and settings.NS_number < needed:
        largest = 100.0 * settings.NS_number / settings.t_age_max
        raise ConfigError(
            f"dyn_data_loader.dataset_path: {folder / CSV_NAME} has {settings.NS_number} stars, "
            f"birth_rate_max = {population.birth_rate_max:g} per century over "
            f"{settings.t_age_max:g} yr needs {needed}: give a larger database, or set "
            f"simulator.args.population.birth_rate_max to {largest:.4g} at most"
        )
    return settings


def _import_key(csv: Path) -> str:
    """Return a digest of all that decides what an import gives."""
    settings = csv.parent / "configuration.json"
    parts = [sha256_of(csv), str(SCHEMA_VERSION)]
    parts += [sha256_of(settings)] if settings.is_file() else []
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:24]
