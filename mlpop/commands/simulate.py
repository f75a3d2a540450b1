"""`mlpop simulate`: a sweep of the parameters into a dataset for round 0."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mlpop.compute import Purpose, draw_root_seed, make_backend, seed_sequence
from mlpop.config.files.simulate import SimulateConfig
from mlpop.datasets.layout import MANIFEST_CSV, PARAMETER_SETS_CSV
from mlpop.datasets.parameter_sets import ParameterSets, sample_parameters, write_parameter_sets
from mlpop.datasets.splits import split_dataset, split_rows
from mlpop.errors import DataError
from mlpop.experiment.output_tree import check_writable
from mlpop.experiment.simulations.simulated_set import SuppliedSet, simulate_set
from mlpop.experiment.simulations.simulator import check_plan, full_plan
from mlpop.io.files import read_csv
from mlpop.tracking import graceful_signals, open_run, where_to_look

logger = logging.getLogger(__name__)

TRAINING_SET, SPLIT = 0, 1


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
    check_plan(config.simulator, sets.labels, config.generator, config.dyn_data_loader)
    if config.split is not None:
        split_rows(len(sets), test=config.split.test, valid=config.split.valid, rng=split_rng)
    _require_same_sweep(table, sets, seed)
    params = {
        "sampling_type": config.sampling_type,
        "num_sim": len(sets),
        "parameters": " ".join(sets.labels),
        "seed": seed,
        "simulator": config.simulator.type,
    }
    with graceful_signals():
        with open_run("simulate", config.name, params=params) as run:
            plan, _ = full_plan(
                config.simulator, sets.labels, config.generator, config.dyn_data_loader
            )
            _write_sets(table, sets, seed)
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
                    compute=config.compute,
                    min_success_fraction=config.min_success_fraction,
                    title="simulations",
                )
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
