"""Simulations to compare a sky with, and what is compared of them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlpop.compute import Backend, Progress, Purpose
from mlpop.datasets.layout import THETA
from mlpop.datasets.loading import Dataset, load_dataset
from mlpop.datasets.shards import finished_shards
from mlpop.errors import DataError
from mlpop.experiment.compare.setup import CompareJob, ppdot_channels
from mlpop.experiment.diagnostics.predictive import tables_of
from mlpop.experiment.simulations.pace import Pace
from mlpop.experiment.simulations.simulated_set import (
    SuppliedSet,
    place_of_set,
    set_key,
    simulate_set,
)
from mlpop.experiment.simulations.simulator import full_plan
from mlpop.io.files import write_array
from mlpop.tracking import TrackedRun

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

PURPOSE = Purpose.SIMULATION_PREDICTIVE


@dataclass(frozen=True, eq=False)
class Predictions:
    """What is compared, survey by survey; m simulations succeeded.

    Attributes:
        made: the simulated set.
        maps: its maps of P and P_dot.
        observed_tables, tables: survey -> table (k, 6) of the sky, and tables (m, k, 6).
        observed_counts, counts: survey -> detected pulsars of the sky, and (m,).
    """

    made: SuppliedSet
    maps: Dataset
    observed_tables: Mapping[str, Array]
    tables: Mapping[str, Array]
    observed_counts: Mapping[str, int]
    counts: Mapping[str, Array]


def predict(job: CompareJob, run: TrackedRun, backend: Backend, root_seed: int) -> Predictions:
    """Simulate at every theta of a job, or find the same simulations of an earlier launch.

    Raises:
        DataError: fewer than two simulations succeed, or the sky has no survey of theirs.
        ComputeError: the simulations cannot be run.
    """
    experiment, config = job.experiment, job.config
    generator = job.generator
    plan, _ = full_plan(experiment.simulator, job.labels, generator, experiment.dyn_data_loader)
    theta = job.theta(root_seed)
    root = config.save_dir / "data" / f"{config.name}_dataset"
    folder, _ = place_of_set(None, root, 0, set_key(plan, theta, root_seed, PURPOSE, 0))
    write_array(folder / THETA, theta)

    def tell(progress: Progress, pace: Pace) -> None:
        if progress.shard is not None:
            points = {
                "sim/predictive_done": float(progress.done),
                "sim/predictive_rate": pace.rate,
            }
            run.curves.extend(points, step=progress.done)

    made = simulate_set(
        plan,
        theta,
        folder,
        backend,
        root_seed=root_seed,
        purpose=PURPOSE,
        round_=0,
        compute=config.compute,
        min_success_fraction=0.0,
        title="predictive simulations",
        on_progress=tell,
    )
    maps = load_dataset(made.csv, filter_inputs=ppdot_channels(generator))
    if len(maps) < 2:
        raise DataError(
            f"{made.csv}: {len(maps)} of {len(theta)} simulations succeeded, a comparison needs 2"
        )
    observed_tables, tables = tables_of(job.observed, maps)
    if not tables:
        raise DataError(
            f"{job.observed.source}: has no table of pulsars of the surveys "
            f"{', '.join(generator.surveys)} that has the shape of the simulated ones; make it "
            "again with `mlpop observe`"
        )
    surveys = [survey for survey in generator.surveys if survey in tables]
    observed_tables = {survey: observed_tables[survey] for survey in surveys}
    tables = {survey: tables[survey] for survey in surveys}
    observed_counts = {s: int(_rows(table[None])[0]) for s, table in observed_tables.items()}
    if job.counts is not None:
        # a survey without pulsars is not in them
        observed_counts |= {s: job.counts[s] for s in surveys if s in job.counts}
        counts = _detected(made, {s: generator.catalogue_name(s) for s in surveys})
    else:
        logger.info("counts are those of the pulsars in the tables: no observed.json says more")
        counts = {survey: _rows(table) for survey, table in tables.items()}
    return Predictions(made, maps, observed_tables, tables, observed_counts, counts)


def _rows(tables: Array) -> Array:
    """Return the number (m,) of pulsars in tables (m, k, 6)."""
    return np.asarray((tables[..., 0] > 0).sum(1), np.float64)


def _detected(made: SuppliedSet, catalogues: Mapping[str, str]) -> dict[str, Array]:
    """Return survey -> detections (m,) of usable simulations, before pulsars are thinned out.

    Args:
        made: the set.
        catalogues: survey -> its catalogue in the simulator.
    """
    infos = {
        row.index: row.info["n_detected"]
        for record in finished_shards(made.csv.parent).values()
        for row in record.rows
        if row.index in record.position
    }
    return {
        survey: np.array([infos[index][name] for index in sorted(infos)], np.float64)
        for survey, name in catalogues.items()
    }
