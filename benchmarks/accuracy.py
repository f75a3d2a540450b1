"""How far posteriors are from exact ones: C2ST of every method on tasks with known posteriors.

    python -P benchmarks/accuracy.py [--tasks gaussian_linear two_moons] [--methods npe tsnpe ...]
        [--observations 10] [--samples 10000] [--simulations 10000] [--rounds 10]
        [--output accuracy.json]

Every posterior is that of `mlpop sbi -c experiments/<task>.json`, with the number of simulations,
the rounds and the method changed and nothing else: networks and training are those that users
get. `npe` trains once on `--simulations` draws of the prior; the sequential methods split them
into `--rounds` rounds, and run anew for every observation. Results go to the output file one by
one; started again, the script goes on where it was.

A classifier tells posterior samples from exact ones; 0.5 is perfect, 1 useless. It is that of
sbibm: a scikit-learn MLP of two layers of 10 d units, five folds, z-scored by the exact samples.

Tasks: `two_moons` is sbibm's. `gaussian_linear` has sbibm's simulator in ten dimensions, but the
uniform prior on [-1, 1] that sbibm calls `gaussian_linear_uniform`; sbibm's `gaussian_linear` has
a Gaussian prior, whose posterior has no edges. Observations are drawn from the prior predictive
as sbibm's are, but are not the same ten.

References:
    Lueckmann et al. 2021, https://arxiv.org/abs/2101.04653; Deistler et al. 2022,
    https://arxiv.org/abs/2210.04815
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sbi.utils.metrics import c2st

import mlpop
from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.config.base import read_json
from mlpop.inference.prior import Prior
from mlpop.io.files import write_json
from mlpop.networks.rng import generator_from_seed
from mlpop.simulators import load

ROOT_SEED = 42
EXPERIMENTS = Path(__file__).parents[1] / "experiments"
PUBLISHED: Mapping[tuple[str, str], float] = {
    ("gaussian_linear", "npe"): 0.534,
    ("gaussian_linear", "tsnpe"): 0.565,
    ("gaussian_linear", "snpe_c"): 0.545,
    ("two_moons", "npe"): 0.608,
    ("two_moons", "tsnpe"): 0.518,
    ("two_moons", "snpe_c"): 0.552,
    ("two_moons", "snle"): 0.562,
}
"""Medians at 10 000 simulations: sbibm's table, and for tsnpe those of Deistler et al."""

_POSTERIOR = {"truncated_prior": False, "plot_proposal": False}
_TRUNCATED = {
    "truncated_prior": True,
    "append_simulations": True,
    "retrain_from_scratch": True,
}
_JOINED = _POSTERIOR | {"append_simulations": True}
_CORRECTED = _POSTERIOR | {"append_simulations": False, "retrain_from_scratch": False}
_MAF = {"type": "maf", "args": {"hidden_features": 50, "num_transforms": 5}}
METHODS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "npe": ({"type": "snpe"}, {}),
    "tsnpe": ({"type": "snpe"} | _TRUNCATED, {}),
    "snpe_c": ({"type": "snpe"} | _CORRECTED, {}),
    "snle": ({"type": "snle"} | _JOINED, {"density_estimator": _MAF}),
    "snre": ({"type": "snre"} | _JOINED, {}),
}
"""Method -> what it changes in `trainer`, and in the rest of the file."""

Record = dict[str, Any]


def configuration(task: str, method: str, options: argparse.Namespace, x_o: Path) -> Record:
    """Return what `mlpop sbi` runs: the shipped file with another method and size."""
    values = read_json(EXPERIMENTS / f"{task}.json")
    trainer, rest = METHODS[method]
    rounds = 1 if method == "npe" else options.rounds
    values |= {"name": f"{task}_{method}", "observed_sample": {"path": str(x_o)}, **rest}
    values["trainer"] |= {"num_rounds": rounds, "num_posterior_samples": 100, **trainer}
    values["training_data_loader"]["num_sim"] = options.simulations // rounds
    values["test_data_loader"] = {"num_predictive": 0}
    return values


def observe(task: str, observation: int) -> tuple[NDArray[np.float32], NDArray[np.float64], Prior]:
    """Return x_o (e,) of a theta of the prior, what draws its exact posterior needs, the prior."""
    simulator = load(task)
    size = len(simulator.labels)
    prior = Prior(simulator.labels, (-1.0,) * size, (1.0,) * size)
    seed = torch_seed(seed_sequence(ROOT_SEED, Purpose.OBSERVED, observation))
    theta = prior.sample(1, generator_from_seed(seed))[0]
    x_o = simulator(theta, seed_sequence(ROOT_SEED, Purpose.OBSERVED, observation, 1)).x
    return np.asarray(x_o, np.float32), theta, prior


def exact(
    task: str, observation: int, x_o: NDArray[np.float32], prior: Prior, count: int
) -> NDArray[np.float64]:
    """Draw (count, d) from the exact posterior."""
    rng = np.random.default_rng(seed_sequence(ROOT_SEED, Purpose.DIAGNOSTICS, 0, observation))
    draws = load(task).sample_posterior(count, x_o, prior.low, prior.high, rng)  # type: ignore[attr-defined]
    return np.asarray(draws)


def trained(folder: Path, values: Record) -> tuple[Path, float]:
    """Run `mlpop sbi` in a folder unless it has; return the launch's models and the seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "seconds.json"
    if not done.is_file():
        write_json(folder / "config.json", values)
        started = time.monotonic()
        command = [sys.executable, "-m", "mlpop", "sbi", "-c", "config.json"]
        store = f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"MLFLOW_TRACKING_URI": store},
        )
        write_json(done, {"seconds": time.monotonic() - started})
    models = folder / values["trainer"]["save_dir"] / "models" / values["name"]
    return models, float(read_json(done)["seconds"])


def judged(
    task: str, method: str, observations: Sequence[int], options: argparse.Namespace
) -> Iterable[Record]:
    """Train for some observations, and yield a record for each."""
    place = "all" if method == "npe" else f"{observations[0]:02d}"
    size = f"{options.simulations}_{options.rounds}"
    folder = options.output.with_suffix(".work") / task / f"{method}_{size}" / place
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "x_o.npy", observe(task, observations[0])[0])
    models, seconds = trained(folder, configuration(task, method, options, Path("x_o.npy")))
    posterior = mlpop.load_posterior(models)
    for observation in observations:
        x_o, _, prior = observe(task, observation)
        seed = seed_sequence(ROOT_SEED, Purpose.POSTERIOR_SAMPLES, 0, observation)
        draws = posterior.sample(options.samples, x_o, generator_from_seed(torch_seed(seed)))
        reference = exact(task, observation, x_o, prior, options.samples)
        yield identity(task, method, observation, options) | {
            "c2st": classifier_two_sample_test(reference, draws),
            "seconds": round(seconds, 1),
        }


def identity(task: str, method: str, observation: int, options: argparse.Namespace) -> Record:
    """Return what says which result a record is."""
    return {
        "task": task,
        "method": method,
        "observation": observation,
        "simulations": options.simulations,
        "rounds": 1 if method == "npe" else options.rounds,
        "samples": options.samples,
    }


def classifier_two_sample_test(exact: NDArray[np.float64], samples: NDArray[np.float64]) -> float:
    """Return sbibm's C2ST of two sets of samples (n, d): accuracy, 0.5 for equal distributions."""
    width = 10 * exact.shape[1]
    return float(
        c2st(
            torch.from_numpy(exact).float(),
            torch.from_numpy(samples).float(),
            seed=1,
            n_folds=5,
            z_score=True,
            classifier="mlp",
            # sbi's own defaults stop early; these are sbibm's
            classifier_kwargs={
                "activation": "relu",
                "hidden_layer_sizes": (width, width),
                "max_iter": 10_000,
                "solver": "adam",
            },
        )
    )


def table(records: Sequence[Record]) -> str:
    """Return medians over observations, one line for every task and method."""
    lines = [
        f"{'task':<16} {'method':<7} {'sims':>11} {'obs':>4}  {'median':>6} {'min':>6} {'max':>6}"
        f"  {'published':>9}  {'sbi':>6}"
    ]
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        key = tuple(
            record[name] for name in ("task", "method", "rounds", "simulations", "samples")
        )
        groups.setdefault(key, []).append(record)
    for (task, method, rounds, simulations, _), found in groups.items():
        values = [record["c2st"] for record in found]
        published = PUBLISHED.get((task, method))
        lines.append(
            f"{task:<16} {method:<7} {f'{rounds} x {simulations // rounds}':>11} {len(values):>4}"
            f"  {statistics.median(values):>6.3f} {min(values):>6.3f} {max(values):>6.3f}"
            f"  {published or '':>9}  {statistics.mean(r['seconds'] for r in found):>5.0f}s"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is not in the output file yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["gaussian_linear", "two_moons"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--observations", type=int, default=10)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("accuracy.json"))
    options = parser.parse_args()
    records = read_json(options.output)["records"] if options.output.exists() else []
    for task in options.tasks:
        for method in options.methods:
            left = [
                k
                for k in range(options.observations)
                if not any(
                    identity(task, method, k, options).items() <= r.items() for r in records
                )
            ]
            groups = [left] if method == "npe" else [[k] for k in left]
            for group in filter(None, groups):
                for record in judged(task, method, group, options):
                    records.append(record)
                    write_json(options.output, {"records": records})
                    sys.stdout.write(json.dumps(record) + "\n")
                    sys.stdout.flush()
    sys.stdout.write(table(records))


if __name__ == "__main__":
    main()
