"""What does each thing that networks may see add? One simulated set, mapped again for each.

    python -P benchmarks/channels.py --folder channels [--config experiments/main.json]
        [--num_sim 1000] [--tests 300] [--variants maps log_counts counts sky all]

Training and test set are simulated once (`mlpop simulate`, draws of the uniform prior) with their
detected pulsars; every variant maps both again (`--remap`) and trains one round of the experiment
on them, from the same seed. Variants: `maps`, what the file chooses; `log_counts`; `counts`, of
every survey at the stop; `sky`, maps of |b| and DM and of longitude and |b|; `all` of them.

The table has for each the verdict, the mean gain over the prior [nat], and for every label the
width of the posteriors of the tests: mean standard deviation of their draws over that of the
truths. What is done already is not done again.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlpop.config.base import read_json

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SURVEYS = ("PMPS", "SMPS", "HTRU")
SKY_MAPS = {
    "b_dm": {
        "first": {"column": "b_abs", "limits": [0.1, 30.0], "log": True},
        "second": {"column": "DM"},
    },
    "l_b": {
        "first": {"column": "l"},
        "second": {"column": "b_abs", "limits": [0.1, 30.0], "log": True},
    },
}
VARIANTS = ("maps", "log_counts", "counts", "sky", "all")
SEEDS = {"training": 1, "test": 2}

Values = dict[str, Any]


def generator(values: Values, variant: str) -> Values:
    """Return the generator block of a variant."""
    _, height, _ = values["arch"]["args"]["input_shape"]
    block = {"resolution_ppdot": height} | copy.deepcopy(values.get("generator", {}))
    if variant in ("counts", "all"):
        block["counts"] = True
    if variant in ("sky", "all"):
        block["sky_maps"] = block.get("sky_maps", {}) | SKY_MAPS
    return block


def sweep(values: Values, use: str, number: int, save_dir: Path) -> Values:
    """Return the file of `mlpop simulate` for the training or the test set."""
    prior = values["prior_ranges"]
    ranges = zip(prior["labels"], prior["low"], prior["high"], strict=True)
    return {
        "name": f"channels_{use}",
        "simulator": values.get("simulator", {}),
        "dyn_data_loader": values["dyn_data_loader"],
        "sampling_size": number,
        "parameters": {label: [low, high] for label, low, high in ranges},
        "seed": SEEDS[use],
        "save_dir": str(save_dir),
        "compute": {"keep_detections": True},
    }


def experiment(values: Values, variant: str, folder: Path) -> Values:
    """Return the experiment of a variant, one round on its sets in `folder`."""
    made = copy.deepcopy(values)
    loader = made["training_data_loader"]
    if variant in ("sky", "all"):
        channels = [f"survey_{survey}_{name}" for name in SKY_MAPS for survey in SURVEYS]
        loader["filter_inputs"] = [*loader["filter_inputs"], *channels]
    if variant in ("counts", "all"):
        loader["filter_counts"] = [f"survey_{survey}_count" for survey in SURVEYS]
    loader |= {
        "log_counts": variant in ("log_counts", "all"),
        "simulate": False,
        "dataset_path_round_0": str(folder / "training"),
        "statistic_path": str(folder / "training" / "statistics_full.json"),
    }
    shape = made["arch"]["args"]["input_shape"]
    made["arch"]["args"]["input_shape"] = [len(loader["filter_inputs"]), *shape[1:]]
    made["test_data_loader"] = {
        "testing": True,
        "dataset_path_round_0": str(folder / "test"),
        "num_predictive": 0,
    }
    made["trainer"] |= {
        "num_rounds": 1,
        "plot_proposal": False,
        "lr_decay": None,  # too much for the default of 1000 simulations
        "save_dir": str(folder / "output"),
    }
    made["generator"] = generator(values, variant)
    return made | {"name": variant}


def command(folder: Path, name: str, values: Values, *arguments: str) -> None:
    """Run a command of mlpop with a file of its own, and its log beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(values))
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').absolute()}"}
    line = [sys.executable, "-m", "mlpop", *arguments, "-c", f"{name}.json"]
    with (folder / f"{name}.txt").open("w") as log:
        subprocess.run(line, cwd=folder, check=True, stderr=log, env=os.environ | store)


def simulate(folder: Path, values: Values, numbers: dict[str, int]) -> None:
    """Simulate the sets that all variants share, those that are not there."""
    for use, number in numbers.items():
        if not (folder / use / "dataset_full.csv").is_file():
            command(folder, use, sweep(values, use, number, folder / use), "simulate")


def run(folder: Path, values: Values, variant: str) -> Path:
    """Map both sets for a variant and run its experiment; return the folder of its round."""
    place = folder / variant
    for use in SEEDS:
        if not (place / use / "dataset_full.csv").is_file():
            file = sweep(values, use, 1, place / use) | {"generator": generator(values, variant)}
            command(place, f"remap_{use}", file, "simulate", "--remap", str(folder / use))
    models = place / "output" / "models" / variant
    if not list(models.glob("*/round_0/COMPLETE.json")):
        command(place, "sbi", experiment(values, variant, place), "sbi")
    return max(models.glob("*/round_0"))


def told(folder: Path) -> Values:
    """Return verdict, gain, number of tests and width by label of a round."""
    calibration = read_json(folder / "calibration.json")
    with np.load(folder / "posterior_samples_test_data.npz") as file:
        good = file["success"]
        draws, truths = file["posterior_samples"][good], file["true_values"][good]
        labels = [str(label) for label in file["labels"]]
    widths = draws.std(1).mean(0) / truths.std(0)
    return {
        "verdict": calibration["verdict"],
        "gain": calibration["gain"],
        "tests": int(good.sum()),
        "widths": dict(zip(labels, widths.tolist(), strict=True)),
    }


def table(found: dict[str, Values]) -> list[str]:
    """Return the lines of the table."""
    labels: Sequence[str] = list(next(iter(found.values()))["widths"])
    head = f"{'variant':<12}{'verdict':<24}{'gain [nat]':>11}"
    lines = [head + "".join(f"{label:>24}" for label in labels)]
    for variant, row in found.items():
        widths = "".join(f"{row['widths'][label]:>24.3f}" for label in labels)
        lines.append(
            f"{variant:<12}{row['verdict'] or 'not tested':<24}{row['gain']:>11.2f}{widths}"
        )
    return lines


def main() -> None:
    """Run what is not done yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=EXPERIMENTS / "main.json")
    parser.add_argument("--num_sim", type=int, default=1000)
    parser.add_argument("--tests", type=int, default=300)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    options = parser.parse_args()
    values, folder = read_json(options.config), options.folder.absolute()
    simulate(folder, values, {"training": options.num_sim, "test": options.tests})
    found = {variant: told(run(folder, values, variant)) for variant in options.variants}
    sys.stdout.write("\n".join(table(found)) + "\n")


if __name__ == "__main__":
    main()
