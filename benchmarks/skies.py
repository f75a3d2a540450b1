"""Is a default experiment calibrated, whatever the sky? Whole runs at truths of the prior.

    python -P benchmarks/skies.py --folder skies [--skies 10] [--config experiments/main.json]
        [--num_sim 1000] [--tests 150]

Every run is `mlpop sbi` with another `manual_seed` and a synthetic sky whose truth is a draw of
the prior; nothing else is changed, but for fewer simulations if asked. Runs lie in the folder;
started again, the script goes on with those that are not complete. The table has a line for each:
the verdict of the last round, its gain, how many truths its 95 % intervals hold, and the fraction
of the last proposal apart from its largest region. At the end: how many are calibrated, and the
rate at which truths are held with its 95 % interval (Clopper & Pearson), over all labels.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy import stats

from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.config.base import read_json
from mlpop.config.files.sbi import SbiConfig
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed

ROOT_SEED = 20_000
EXPERIMENTS = Path(__file__).parents[1] / "experiments"

Values = dict[str, Any]


def configuration(options: argparse.Namespace, sky: int) -> Values:
    """Return the experiment of a sky: its own seed, and a truth from the prior."""
    values = read_json(options.config)
    prior = Prior.configured(SbiConfig.parse(values).prior_ranges)
    generator = generator_from_seed(torch_seed(seed_sequence(ROOT_SEED, Purpose.OBSERVED, sky)))
    truth = dict(zip(prior.labels, prior.sample(1, generator)[0].tolist(), strict=True))
    values |= {"name": "sky", "manual_seed": ROOT_SEED + sky}
    values["observed_sample"] = {"synthetic": {"theta": truth}}
    for block, count in (
        ("training_data_loader", options.num_sim),
        ("test_data_loader", options.tests),
    ):
        if count:
            values[block]["num_sim"] = count
    return values


def run(folder: Path, values: Values) -> Path:
    """Run `mlpop sbi` unless it is done; return the folder of its last round."""
    last = f"round_{values['trainer']['num_rounds'] - 1}"
    models = folder / values["trainer"]["save_dir"] / "models" / values["name"]
    if not list(models.glob(f"*/{last}/COMPLETE.json")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(values))
        store = {"MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').absolute()}"}
        command = [sys.executable, "-m", "mlpop", "sbi", "-c", "config.json"]
        with (folder / "log.txt").open("w") as log:
            subprocess.run(command, cwd=folder, check=True, stderr=log, env=os.environ | store)
    return max(models.glob(f"*/{last}"))


def told(folder: Path) -> Values:
    """Return what a round tells of its posterior."""
    calibration = read_json(folder / "calibration.json")
    posterior: Mapping[str, Mapping[str, float]] = read_json(folder / "summary.json")["posterior"]
    held = [e["low_95"] <= e["truth"] <= e["high_95"] for e in posterior.values()]
    proposal = folder / "proposal.json"
    return {
        "verdict": calibration["verdict"],
        "gain": calibration["gain"],
        "held": held,
        "apart": read_json(proposal).get("apart_fraction") if proposal.is_file() else None,
    }


def main() -> None:
    """Run what is not done yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--skies", type=int, default=10)
    parser.add_argument("--config", type=Path, default=EXPERIMENTS / "main.json")
    parser.add_argument("--num_sim", type=int, help="training simulations of a round")
    parser.add_argument("--tests", type=int, help="test simulations of a round")
    options = parser.parse_args()
    found = []
    for sky in range(options.skies):
        found.append(told(run(options.folder / f"{sky:02d}", configuration(options, sky))))
        row = found[-1]
        apart = "" if row["apart"] is None else f"{row['apart']:.3f} apart"
        sys.stdout.write(
            f"sky {sky:>2}: {row['verdict']:<24} {row['gain']:>6.2f} nat   "
            f"{sum(row['held'])} of {len(row['held'])} truths held   {apart}\n"
        )
        sys.stdout.flush()
    held = [one for row in found for one in row["held"]]
    low, high = stats.binomtest(sum(held), len(held)).proportion_ci()
    calibrated = sum(row["verdict"] == "calibrated" for row in found)
    sys.stdout.write(
        f"calibrated {calibrated} of {len(found)}; gain "
        f"{sum(row['gain'] for row in found) / len(found):.2f} nat; truths in their 95 % "
        f"intervals {sum(held)} of {len(held)}, {low:.3f} to {high:.3f}\n"
    )


if __name__ == "__main__":
    main()
