"""Maps of one simulation against fifteen plain histograms; writing and reading a dataset.

    python benchmarks/maps.py [--repeats 200] [--simulations 2000]

Both ways make the same 15 maps in this one run and are compared; costs are process time, so that
other work on the machine does not count. The dataset is read as training reads it: three
channels, the digests of their files verified; reading one file a map is the plain way.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from mlpop.config.blocks.generator import SURVEY_CHANNELS, GeneratorConfig
from mlpop.datasets.dataset import assemble, dataset_digest
from mlpop.datasets.loading import load_dataset
from mlpop.datasets.scaling import scale_inputs
from mlpop.datasets.shards import SimulationRow, finished_shards, write_shard
from mlpop.maps.density import FLUX_COLUMN, population_maps
from mlpop.maps.histogram import Axis

DETECTIONS = {"PMPS": 1045, "SMPS": 230, "HTRU_low_mid": 1250}
CHANNELS = [f"survey_{survey}_ppdot_map" for survey in ("PMPS", "SMPS", "HTRU")]


def detections(rng: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    """Catalogues with the real numbers of detections."""
    catalogues = {}
    for name, n in DETECTIONS.items():
        catalogues[name] = {
            "ra": rng.uniform(0, 360, n),
            "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
            "pm_ra": rng.normal(0, 10, n),
            "pm_dec": rng.normal(0, 10, n),
            "P": 10 ** rng.normal(-0.2, 0.35, n),
            "P_dot": 10 ** rng.normal(-14.3, 0.7, n),
            FLUX_COLUMN: 10 ** rng.normal(-3.3, 0.4, n),
        }
    return catalogues


def plain_maps(
    catalogues: dict[str, dict[str, np.ndarray]], generator: GeneratorConfig
) -> dict[str, np.ndarray]:
    """One histogram for every count and every sum, each map filtered by itself."""
    sky = [Axis(0, 360, 32).edges, Axis(-90, 90, 16).edges]
    plane = [
        Axis(*generator.p_limits, 32, log=True).edges,
        Axis(*generator.pdot_limits, 32, log=True).edges,
    ]
    maps = {}

    def density(x: np.ndarray, y: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
        return gaussian_filter(np.histogram2d(x, y, edges)[0], 1.0)

    def average(
        x: np.ndarray, y: np.ndarray, w: np.ndarray, edges: list[np.ndarray], fill: float
    ) -> np.ndarray:
        counts = np.histogram2d(x, y, edges)[0]
        sums = np.histogram2d(x, y, edges, weights=w)[0]
        means = np.full(counts.shape, fill)
        np.divide(sums, counts, out=means, where=counts > 0)
        return gaussian_filter(means, 1.0)

    for survey, name in zip(("PMPS", "SMPS", "HTRU"), DETECTIONS, strict=True):
        c, start = catalogues[name], f"survey_{survey}_"
        maps[start + "position_map_radec"] = density(c["ra"], c["dec"], sky)
        for motion, kind in (("pm_ra", "vra"), ("pm_dec", "vdec")):
            maps[f"{start}velocity_map_{kind}"] = average(
                c["ra"], c["dec"], np.abs(c[motion]), sky, 0.0
            )
        maps[start + "ppdot_map"] = density(c["P"], c["P_dot"], plane)
        maps[start + "ppdot_map_fluxes"] = average(
            c["P"], c["P_dot"], np.log10(c[FLUX_COLUMN]), plane, -7.0
        )
    return maps


def cost(function: Callable[[], object], repeats: int) -> float:
    """Process time of one call [s], the best of three series."""
    function()
    best = np.inf
    for _ in range(3):
        started = time.process_time()
        for _ in range(repeats):
            function()
        best = min(best, (time.process_time() - started) / repeats)
    return best


def wall(function: Callable[[], object]) -> float:
    """Wall time of one call [s]."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def time_maps(repeats: int) -> list[str]:
    """Time the maps of one simulation."""
    rng = np.random.default_rng(1)
    catalogues = detections(rng)
    generator = GeneratorConfig(flux_subsample={})
    fast = cost(lambda: population_maps(catalogues, generator, rng), repeats)
    plain = cost(lambda: plain_maps(catalogues, generator), repeats)
    ours, theirs = population_maps(catalogues, generator, rng), plain_maps(catalogues, generator)
    error = max(np.abs(ours[name] - theirs[name]).max() for name in SURVEY_CHANNELS)
    sampled = cost(lambda: population_maps(catalogues, GeneratorConfig(), rng), repeats)
    return [
        f"plain maps        {plain * 1e3:8.3f} ms a simulation",
        f"mlpop             {fast * 1e3:8.3f} ms, {plain / fast:.1f} times faster",
        f"  with subsample  {sampled * 1e3:8.3f} ms (target 5 ms)",
        f"largest difference {error:.1e}",
    ]


def time_dataset(simulations: int, per_shard: int = 16) -> list[str]:
    """Time writing, assembling and reading a dataset of random maps."""
    rng = np.random.default_rng(2)
    maps = population_maps(detections(rng), GeneratorConfig(), rng)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = [
            SimulationRow(k, f"1:{k}", maps={c: m + k for c, m in maps.items()})
            for k in range(simulations)
        ]
        started = time.perf_counter()
        for start in range(0, simulations, per_shard):
            write_shard(folder, start // per_shard, rows[start : start + per_shard])
        writing = (time.perf_counter() - started) / simulations
        found = finished_shards(folder)
        checking = wall(lambda: finished_shards(folder))
        theta = rng.normal(size=(simulations, 2))
        assembling = wall(
            lambda: assemble(folder, ["u", "v"], theta, SURVEY_CHANNELS, found.values())
        )
        csv = folder / "dataset_full.csv"
        reading = wall(lambda: load_dataset(csv, filter_inputs=CHANNELS))
        data = load_dataset(csv, filter_inputs=CHANNELS)
        scaling = wall(lambda: scale_inputs(data.x, "standardize"))
        digest = wall(lambda: dataset_digest(folder))
        single = folder / "single"
        single.mkdir()
        lines = [",".join([*(f"input:{c}" for c in CHANNELS), "u", "v"])]
        for row in rows:
            names = [f"{c}_{row.index}.npy" for c in CHANNELS]
            for name, channel in zip(names, CHANNELS, strict=True):
                np.save(single / name, row.maps[channel])
            lines.append(",".join([*names, "0", "0"]))
        (single / "dataset_full.csv").write_text("\n".join(lines))
        plain = wall(lambda: load_dataset(single / "dataset_full.csv"))
    return [
        f"dataset of {simulations} simulations, shards of {per_shard}",
        f"write shard       {writing * 1e3:8.3f} ms a simulation (15 maps)",
        f"verify shards     {checking:8.3f} s",
        f"assemble          {assembling:8.3f} s",
        f"read 3 channels   {reading:8.3f} s, verified",
        f"read single files {plain:8.3f} s, {plain / reading:.1f} times slower, not verified",
        f"scale inputs      {scaling:8.3f} s",
        f"content digest    {digest:8.3f} s (15 channels)",
    ]


def main() -> None:
    """Time both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--simulations", type=int, default=2000)
    arguments = parser.parse_args()
    report = [*time_maps(arguments.repeats), *time_dataset(arguments.simulations)]
    sys.stdout.write("\n".join(report) + "\n")


if __name__ == "__main__":
    main()
