"""How often the predictive check rejects the sky of the simulator itself, and skies of others.

    python -P benchmarks/predictive.py [--skies 12] [--simulations 1000] [--predictive 400]
        [--lots 100 200 400] [--training FOLDER]

One round of `experiments/main.json` is trained on so many simulations, or on those of a
folder. Then skies are simulated
at the truth of that file: by the same simulator, by one whose pulsars have half the luminosity,
and by one with the table of field decay `BSk24_multi_heavy`. At each sky draws of the trained
posterior, which knows nothing of that, are simulated by the right simulator, and compared with
the sky. `truth` does the same with the true theta in place of the posterior: what a check could
see at most, if no theta could absorb what is wrong. A sky is compared with every lot of so many
of its predictions. Beside it the check of distances to the training simulations.

Everything is kept in `--folder` and found again; the table is printed at the end.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpop.commands.sbi import run_experiment
from mlpop.compute import Purpose, seed_sequence
from mlpop.config.base import read_json
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.layout import FULL_STATISTICS
from mlpop.experiment.diagnostics.table import load_learned
from mlpop.experiment.simulations.simulator import experiment_plan
from mlpop.inference.diagnostics.predictive import ALPHA, PredictiveCheck, predictive_check
from mlpop.inference.diagnostics.pulsars import pulsar_views
from mlpop.inference.diagnostics.typicality import is_unlike
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.posteriors.store import load_posterior
from mlpop.maps.pulsars import PREFIX
from mlpop.networks.rng import generator_from_seed
from mlpop.simulators import Simulator, in_detail, load
from mlpop.simulators.outputs import by_channel

SKIES: Mapping[str, Mapping[str, Any]] = {
    "same": {},
    "luminosity halved": {"L_radio_log10_mean": 26.17 - np.log10(2)},
    "BSk24_multi_heavy": {"magneto_thermal_model": "BSk24_multi_heavy"},
}
"""What the population of a sky has unlike the simulator."""

ROOT_SEED = 42
MAIN = Path(__file__).parents[1] / "experiments" / "main.json"


def configuration(
    folder: Path, simulations: int, training: Path | None, **population: Any
) -> SbiConfig:
    """Return main.json with one round, one process, and another population."""
    values = read_json(MAIN)
    values["simulator"]["args"]["population"] |= population
    values["training_data_loader"]["num_sim"] = simulations
    if training is not None:
        statistics = str(training / FULL_STATISTICS)
        values["training_data_loader"] |= {
            "simulate": False,
            "dataset_path_round_0": str(training),
            "statistic_path": statistics,
        }
    values["test_data_loader"] = {"testing": False, "num_predictive": 0}
    values["trainer"] |= {
        "num_rounds": 1,
        "plot_proposal": False,
        "lr_decay": None,  # too much for the default of 1000 simulations
        "save_dir": str(folder),
    }
    return SbiConfig.parse(values | {"n_processes": 1, "show_profiling": False})


def trained(config: SbiConfig) -> tuple[Posterior, Any]:
    """Return the posterior of an experiment, trained once, and what the distance check learned."""
    launches = config.trainer.save_dir / "models" / config.name
    if not list(launches.glob("*/round_0/COMPLETE.json")):
        run_experiment(config)
    folder = next(launches.glob("*/round_0/COMPLETE.json")).parent
    return load_posterior(folder / "posterior.json"), load_learned(folder)["typicality"]


def simulator_of(config: SbiConfig) -> Simulator:
    """Return what simulates for an experiment."""
    block = experiment_plan(config)[0].block
    return load(str(block["type"]), block["args"])


@dataclass(frozen=True)
class Sky:
    """What is compared: the chosen maps (C, H, W), and survey -> table of its pulsars (n, 6).

    Of several skies both have a further axis in front.
    """

    x: NDArray[np.float32]
    pulsars: Mapping[str, NDArray[np.float32]]


def observation(
    simulator: Simulator, theta: NDArray[np.float64], channels: tuple[str, ...], *place: int
) -> Sky:
    """Simulate the sky of theta (D,)."""
    seed = seed_sequence(ROOT_SEED, Purpose.DIAGNOSTICS, *place)
    made = in_detail(simulator)(theta, seed)
    maps = by_channel(made.x, simulator.channels)
    x = np.stack([np.asarray(maps[name], np.float32) for name in channels])
    return Sky(x, {name.removeprefix(PREFIX): table for name, table in made.details.items()})


def checks(
    observed: Sky, predicted: Sky, channels: tuple[str, ...], lot: int
) -> list[PredictiveCheck]:
    """Compare a sky with every `lot` of predictions, by its maps and by its pulsars."""
    found = []
    for start in range(0, len(predicted.x) - lot + 1, lot):
        chosen = slice(start, start + lot)
        pooled = {
            s: np.concatenate([observed.pulsars[s][None], predicted.pulsars[s][chosen]])
            for s in observed.pulsars
        }
        x = predicted.x[chosen]
        found.append(predictive_check(observed.x, x, channels, pulsar_views(pooled)))
    return found


def predictions(
    path: Path,
    simulator: Simulator,
    theta: NDArray[np.float64],
    channels: tuple[str, ...],
    *at: int,
) -> Sky:
    """Simulate the skies of theta (n, D), or read them where they are kept."""
    if not path.is_file():
        skies = [observation(simulator, row, channels, *at, i) for i, row in enumerate(theta)]
        tables = {s: np.array([sky.pulsars[s] for sky in skies]) for s in skies[0].pulsars}
        np.savez_compressed(path, x=np.array([sky.x for sky in skies]), theta=theta, **tables)
    with np.load(path) as kept:
        tables = {
            name: np.asarray(kept[name]) for name in kept.files if name not in ("x", "theta")
        }
        return Sky(np.asarray(kept["x"]), tables)


def main() -> None:
    """Print a table: sky, posterior, and how many lots of predictions the check rejects."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--skies", type=int, default=12)
    arguments.add_argument("--simulations", type=int, default=1000)
    arguments.add_argument("--predictive", type=int, default=400)
    arguments.add_argument("--lots", type=int, nargs="+", default=[100, 200, 400])
    arguments.add_argument("--folder", type=Path, default=Path("output/predictive"))
    arguments.add_argument("--training", type=Path)
    given = arguments.parse_args()
    lots = [lot for lot in given.lots if lot <= given.predictive]
    folder: Path = given.folder / f"{given.simulations}"
    folder.mkdir(parents=True, exist_ok=True)
    config = configuration(folder, given.simulations, given.training)
    posterior, typicality = trained(config)
    channels = tuple(map(str, config.training_data_loader.filter_inputs or ()))
    assert config.observed_sample.synthetic is not None
    theta_of = config.observed_sample.synthetic.theta
    truth = np.array([theta_of[label] for label in config.prior_ranges.labels])
    right = simulator_of(config)
    at_truth = np.tile(truth, (given.predictive, 1))
    from_truth = predictions(folder / "truth.npz", right, at_truth, channels, 9)
    write("sky", "posterior", f"rejected at {ALPHA:g}, median p, rejected by view alone")
    for number, (name, population) in enumerate(SKIES.items()):
        wrong = simulator_of(
            configuration(folder, given.simulations, given.training, **population)
        )
        skies, made = [], []
        distant, started = 0, time.perf_counter()
        for k in range(given.skies):
            x_o = observation(wrong, truth, channels, number, k)
            generator = generator_from_seed(1000 * number + k)
            theta = posterior.sample(given.predictive, x_o.x, generator)
            path = folder / f"{number}_{k}.npz"
            made.append(predictions(path, right, theta, channels, number, k))
            skies.append(x_o)
            distant += is_unlike(typicality.p_values(posterior, x_o.x))
        for kind, predicted in (("trained", made), ("truth", [from_truth] * given.skies)):
            for lot in lots:
                results = [
                    result
                    for x_o, theirs in zip(skies, predicted, strict=True)
                    for result in checks(x_o, theirs, channels, lot)
                ]
                write(name, kind, told(lot, results))
        seconds = time.perf_counter() - started
        write(name, "distances", f"{distant} of {given.skies}; {seconds:.0f} s")


def told(lot: int, results: Sequence[PredictiveCheck]) -> str:
    """Return how many comparisons reject, and in which view by itself."""
    p = np.array([result.p_value for result in results])
    views = {
        view: number
        for view in results[0].p_values
        if (number := sum(result.p_values[view] <= ALPHA for result in results))
    }
    rejected = f"{int((p <= ALPHA).sum())} of {len(p)}"
    return f"lots of {lot}: {rejected}, median p {np.median(p):.3f}, by view {views}"


def write(*cells: str) -> None:
    """Write a row of the table."""
    sys.stdout.write("{:20s} {:10s} {}\n".format(*cells))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
