"""`mlpop dynamics`: the stellar database, as an MLflow run with its statistics and its sky."""

import logging
from pathlib import Path

from mlpop.config.blocks.data import DynamicalDataConfig
from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.errors import DataError
from mlpop.experiment.output_tree import check_writable
from mlpop.experiment.simulations.stellar_database import (
    CSV_NAME,
    found_or_built,
    opened,
    stellar_database,
)
from mlpop.population.stars.database import StellarDatabase
from mlpop.population.stars.folder import HEADER
from mlpop.tracking import flatten, graceful_signals, open_run, parameters, where_to_look

logger = logging.getLogger(__name__)

EXPERIMENT = "dynamics"


def build_database(
    config: DynamicsConfig, *, export_csv: Path | None = None, import_csv: Path | None = None
) -> StellarDatabase:
    """Build, find or import a stellar database; log it as a run of kind `dynamics`.

    Args:
        config: which stars; not used for an import.
        export_csv: folder for the documented `final_pop_dyn.csv` and `configuration.json`.
        import_csv: folder with a `final_pop_dyn.csv` to import instead of computing orbits.

    Raises:
        DataError: a file exists, is missing or is broken.
        ConfigError: the package of NE2025 is needed and not installed.
    """
    if export_csv is not None and (export_csv / CSV_NAME).exists():
        raise DataError(f"--export-csv: {export_csv / CSV_NAME} exists; choose another folder")
    if export_csv is not None:
        check_writable(export_csv, "--export-csv")
    if import_csv is None:
        config.electrons()
    else:
        opened(import_csv)
    with graceful_signals():
        with open_run("dynamics", EXPERIMENT) as run:
            if import_csv is None:
                stars = found_or_built(config)
            else:
                stars = stellar_database(DynamicalDataConfig(dataset_path=import_csv))
            assert stars.folder is not None
            header = stars.header
            settings = dict(header.get("config", {}))
            if "ne2025" in header:
                settings["ne2025"] = header["ne2025"]
            run.log_params({"n_stars": len(stars)} | parameters(settings))
            run.log_metrics(
                {
                    f"orbits/{name}": value
                    for name, value in flatten(header.get("orbits", {})).items()
                    if isinstance(value, int | float)
                }
            )
            run.set_tags({"mlpop.digest": stars.digest, "mlpop.folder": stars.folder})
            if export_csv is not None:
                export_csv.mkdir(parents=True, exist_ok=True)
                stars.export_csv(export_csv / CSV_NAME)
                logger.info("exported %s", export_csv / CSV_NAME)
            run.commit(
                {HEADER: stars.folder / HEADER}
                | {p.name: p for p in sorted(stars.folder.glob("*.npy"))}
            )
        logger.info("%s", where_to_look(run.store, run.experiment_id, run.run_id))
    return stars
