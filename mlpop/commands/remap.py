"""`mlpop simulate --remap`: maps again of finished simulations, without simulating."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mlpop.compute.campaign.shard_task import CAMPAIGN_FILE
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.files.simulate import SimulateConfig
from mlpop.datasets.dataset import (
    THETA_PREFIX,
    Assembled,
    assemble,
    dataset_digest,
    read_generator,
)
from mlpop.datasets.detections import Detected, detected_of_shard
from mlpop.datasets.layout import MANIFEST_CSV
from mlpop.datasets.shards import ShardRecord, SimulationRow, finished_shards, write_shard
from mlpop.datasets.splits import split_dataset
from mlpop.errors import ConfigError, DataError
from mlpop.experiment.output_tree import check_writable
from mlpop.experiment.simulations.simulated_set import SuppliedSet
from mlpop.io.files import read_csv, read_json_object, write_json
from mlpop.io.locks import alone_in
from mlpop.maps.density import dropped_stars, population_maps
from mlpop.population.synthesis.stages import Stage, generator
from mlpop.tracking import graceful_signals, open_run, where_to_look

logger = logging.getLogger(__name__)


def remap(source: Path, config: SimulateConfig) -> SuppliedSet:
    """Make the dataset `config.save_dir` of the detected pulsars that `source` keeps.

    Same seeds draw the stars of flux maps, so the maps have the bits of a fresh simulation with
    these settings. Only `generator`, `split`, `seed`, `save_dir`, `name` and
    `min_success_fraction` are used.

    Args:
        source: folder of a finished dataset.
        config: how maps are made, and where to.

    Raises:
        ConfigError: the maps need a survey whose pulsars are not kept.
        DataError: `source` is no finished dataset, keeps no detected pulsars, or `save_dir` holds
            another dataset.
    """
    folder = config.save_dir
    if folder.resolve() == source.resolve():
        raise ConfigError(f"save_dir: must be another folder than the remapped one, '{source}'")
    check_writable(folder, "save_dir")
    theta, labels = _theta_of(source)
    records = finished_shards(source)
    if not records:
        raise DataError(f"{source}: holds no finished shards")
    maps = _with_census_of(source, config.generator)
    claim = {"remap_of": dataset_digest(source), "generator": maps.settings()}
    params = {"remap": str(source), "num_sim": len(theta), "parameters": " ".join(labels)}
    with graceful_signals():
        with open_run("simulate", config.name, params=params) as run, alone_in(folder):
            _claim(folder, claim)
            made = [
                write_shard(folder, number, list(_rows(source, records[number], maps)))
                for number in tqdm(sorted(records), desc="maps", unit="shard", disable=None)
            ]
            done: Assembled = assemble(
                folder,
                labels,
                theta,
                maps.survey_channels,
                made,
                min_success_fraction=config.min_success_fraction,
                generator=maps,
            )
            if config.split is not None:
                split_dataset(
                    folder,
                    test=config.split.test,
                    valid=config.split.valid,
                    rng=np.random.default_rng(config.seed or 0),
                )
            digest = dataset_digest(folder)
            run.log_dataset(config.name, digest, str(done.csv), "simulated")
            run.commit({MANIFEST_CSV: folder / MANIFEST_CSV, done.csv.name: done.csv})
        logger.info("wrote %s", done.csv)
        logger.info("%s", where_to_look(run.store, run.experiment_id, run.run_id))
    return SuppliedSet(done.csv, digest, len(theta), dict(done.counts), simulated=True)


def _rows(source: Path, record: ShardRecord, maps: GeneratorConfig) -> Iterator[SimulationRow]:
    kept = {one.row.index: one for one in detected_of_shard(source, record)}
    for row in record.rows:
        yield _mapped(kept[row.index], maps) if row.index in kept else row


def _mapped(simulation: Detected, maps: GeneratorConfig) -> SimulationRow:
    catalogues = simulation.catalogues
    if maps.sky_maps and not all("DM" in columns for columns in catalogues.values()):
        raise ConfigError(
            "generator.sky_maps: must be left out, since the set was simulated by an older mlpop, "
            "which kept no places and dispersion measures of detected pulsars; simulate it again"
        )
    try:
        rng = generator(simulation.seed, Stage.TPA)
        made = population_maps(catalogues, maps, rng, simulation.row.info.get("n_detected"))
    except DataError as error:
        raise ConfigError(f"generator.surveys: {error}") from None
    info = dict(simulation.row.info) | {"dropped": dropped_stars(catalogues, maps)}
    return replace(simulation.row, info=info, maps=made)


def _theta_of(source: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return theta (N, D) of all simulations, failed ones too, and the labels."""
    path = source / MANIFEST_CSV
    if not path.is_file():
        raise DataError(f"{source}: holds no {MANIFEST_CSV}: it is no finished dataset of mlpop")
    header, rows = read_csv(path)
    places = [k for k, name in enumerate(header) if name.startswith(THETA_PREFIX)]
    labels = tuple(header[k].removeprefix(THETA_PREFIX) for k in places)
    return np.array([[float(row[k]) for k in places] for row in rows]), labels


def _with_census_of(source: Path, maps: GeneratorConfig) -> GeneratorConfig:
    """Take the flux subsamples of the first maps unless others are asked for."""
    first = read_generator(source)
    if first is None or "flux_subsample" in maps.model_fields_set:
        return maps
    return maps.model_copy(update={"flux_subsample": first.flux_subsample})


def _claim(folder: Path, claim: Mapping[str, Any]) -> None:
    path = folder / CAMPAIGN_FILE
    if path.is_file():
        if read_json_object(path) != claim:
            raise DataError(f"{path}: the folder holds another dataset; use another save_dir")
        return
    write_json(path, dict(claim))
