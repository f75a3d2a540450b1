"""`mlpop simulate`: a sweep of the parameters into a dataset for round 0."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mlpop.compute import Progress, Purpose, draw_root_seed, make_backend, seed_sequence
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.files.simulate import SimulateConfig
from mlpop.datasets.detections import detected
from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.layout import FULL_CSV, FULL_STATISTICS, MANIFEST_CSV, PARAMETER_SETS_CSV
from mlpop.datasets.parameter_sets import ParameterSets, sample_parameters, write_parameter_sets
from mlpop.datasets.scaling import label_statistics
from mlpop.datasets.splits import split_dataset, split_rows
from mlpop.errors import ConfigError, DataError
from mlpop.experiment.output_tree import check_writable
from mlpop.experiment.simulations.catalogue_csv import write_catalogue_csv
from mlpop.experiment.simulations.pace import Pace
from mlpop.experiment.simulations.simulated_set import SuppliedSet, simulate_set
from mlpop.experiment.simulations.simulator import check_plan, full_plan
from mlpop.io.files import read_csv, write_json
from mlpop.tracking import graceful_signals, open_run, parameters, where_to_look

logger = logging.getLogger(__name__)

TRAINING_SET, SPLIT = 0, 1

SIMULATIONS, CATALOGUE_CSV = "simulations", "catalogue.csv"


def simulate_sets(config: SimulateConfig) -> SuppliedSet:
    """Simulate a sweep into `config.save_dir`; log it as a run of kind `simulate`.

    A folder that holds part of the same sweep is completed: finished shards are kept. Without a
    configured seed, that of the folder is taken, and only a new folder gets a new one.

    Raises:
        ConfigError: the parameters are not those of the simulator.
        DataError: too few simulations succeed, or the folder holds another sweep.
    """
    folder = config.save_dir
    check_writable(folder, "save_dir")
    table = folder / PARAMETER_SETS_CSV
    seed = config.seed
    if seed is None:
        seed = _seed_of(table) if table.is_file() else draw_root_seed()
    sets = sample_parameters(
        config.sampling_type,
        config.parameters,
        np.random.default_rng(seed_sequence(seed, Purpose.SWEEP, TRAINING_SET)),
        sampling_size=config.sampling_size,
    )
    split_rng = np.random.default_rng(seed_sequence(seed, Purpose.SWEEP, SPLIT))
    check_plan(
        config.simulator, sets.labels, config.generator, config.dyn_data_loader, "parameters"
    )
    if config.split is not None:
        split_rows(len(sets), test=config.split.test, valid=config.split.valid, rng=split_rng)
    _require_same_sweep(table, sets, seed)
    params = parameters(config.model_dump(mode="json")) | {"num_sim": len(sets), "seed": seed}
    with graceful_signals():
        with open_run("simulate", config.name, params=params) as run:
            plan, _ = full_plan(
                config.simulator, sets.labels, config.generator, config.dyn_data_loader
            )
            _write_sets(table, sets, seed)

            def tell(progress: Progress, pace: Pace) -> None:
                if progress.shard is not None:
                    points = {"sim/done": float(progress.done), "sim/rate": pace.rate}
                    run.curves.extend(points, step=round(pace.seconds))

            with make_backend(
                n_processes=config.compute.n_processes,
                enable_dask=config.compute.enable_dask,
                workers_dask=config.compute.workers_dask,
                compute=config.compute,
                logs=folder,
            ) as backend:
                made = simulate_set(
                    plan,
                    sets.theta,
                    folder,
                    backend,
                    root_seed=seed,
                    purpose=Purpose.SIMULATION_TRAINING,
                    round_=0,
                    compute=_compute(config),
                    min_success_fraction=config.min_success_fraction,
                    title="simulations",
                    on_progress=tell,
                )
            if config.catalogues:
                _write_catalogues(folder, plan.generator)
            if config.split is not None:
                split_dataset(
                    folder,
                    test=config.split.test,
                    valid=config.split.valid,
                    rng=np.random.default_rng(seed_sequence(seed, Purpose.SWEEP, SPLIT)),
                )
            run.log_dataset(config.name, made.digest, str(made.csv), "simulated")
            run.log_metrics(
                {"sim/seconds": made.seconds, "sim/failed_fraction": made.failed_fraction}
                | {f"sim/{status}": number for status, number in made.counts.items()}
            )
            run.commit(_files(folder))
        logger.info("wrote %s", made.csv)
        logger.info("%s", where_to_look(run.store, run.experiment_id, run.run_id))
    return made


def split_existing(folder: Path, config: SimulateConfig) -> None:
    """Split a dataset that exists, whoever made it, and compute its statistics.

    Writes `dataset_train.csv` and the others of `config.split`, `statistics_train.json` over the
    training rows, and `statistics_full.json` over all; the draw comes from `config.seed`.

    Raises:
        ConfigError: there is no `split`, or no seed.
        DataError: the dataset is missing or broken, or a subset would be empty.
    """
    if config.split is None:
        raise ConfigError("split: must give a fraction for test, for valid, or for both")
    if config.seed is None:
        raise ConfigError("seed: must be given to split a dataset that exists, found null")
    index = DatasetIndex.read(folder / FULL_CSV)
    theta = index.label_values(index.labels)
    split_dataset(
        folder,
        test=config.split.test,
        valid=config.split.valid,
        rng=np.random.default_rng(seed_sequence(config.seed, Purpose.SWEEP, SPLIT)),
    )
    write_json(folder / FULL_STATISTICS, label_statistics(theta, index.labels))
    logger.info("split %s: %s", folder, ", ".join(sorted(p.name for p in folder.glob("*_*.csv"))))


def _compute(config: SimulateConfig) -> ComputeConfig:
    """Keep the pulsars that catalogues are written of, however large the set is."""
    if not config.catalogues:
        return config.compute
    return config.compute.model_copy(update={"keep_detections": True})


def _write_catalogues(folder: Path, maps: GeneratorConfig | None) -> None:
    assert maps is not None
    for one in detected(folder):
        path = folder / SIMULATIONS / f"{one.row.index:06d}" / CATALOGUE_CSV
        write_catalogue_csv(path, one.catalogues, maps)


def _write_sets(table: Path, sets: ParameterSets, seed: int) -> None:
    purpose = int(Purpose.SIMULATION_TRAINING)
    write_parameter_sets(table, sets, [f"{seed}:{purpose}:0:{k}" for k in range(len(sets))])


def _seed_of(table: Path) -> int:
    """Return the root seed of the sweep that a folder was begun with."""
    header, rows = read_csv(table)
    text = rows[0][-1].partition(":")[0] if rows and header[-1] == "seed" else ""
    if not text.isdecimal():
        raise DataError(f"{table}: its last column must be 'seed', as `mlpop simulate` writes it")
    return int(text)


def _require_same_sweep(table: Path, sets: ParameterSets, seed: int) -> None:
    if not table.is_file():
        return
    with TemporaryDirectory() as scratch:
        wanted = Path(scratch, table.name)
        _write_sets(wanted, sets, seed)
        if wanted.read_bytes() != table.read_bytes():
            raise DataError(
                f"{table}: the folder holds another sweep (other parameters, ranges, size or "
                "seed); use another save_dir, or remove this one"
            )


def _files(folder: Path) -> dict[str, Path]:
    names = [PARAMETER_SETS_CSV, MANIFEST_CSV]
    names += [p.name for p in (*folder.glob("dataset_*.csv"), *folder.glob("statistics_*.json"))]
    return {name: folder / name for name in names}
