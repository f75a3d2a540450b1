"""Do the densities that ship hold what lies at the prior's edges?

    python -m benchmarks.edges --folder edges [--config experiments/main.json]
        [--densities mdn,maf] [--num_sim 1000] [--tests 1000] [--seed 42] [--lr_decay 0.2]

The first round of an experiment, by `mlpop sbi`, with every density on the same training and test
simulations, which the first one makes. The table has the statistic of the distance to the prior's
faces, of all labels and the largest of one (standard deviations; below 0 too few draws lie there),
that of the joint width (below 0 draws lie too far apart), the verdict, the gain over the prior and
the minutes of the run. Started again, the script goes on with what is missing.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.skies import EXPERIMENTS, Values, run
from mlpop.config.base import read_json
from mlpop.config.methods import DENSITIES

BLOCKS = {"training": "training_data_loader", "test": "test_data_loader"}


def configuration(options: argparse.Namespace, density: str, made: Path | None) -> Values:
    """Return the experiment of a density, on the simulations in the folder `made` if given."""
    values = read_json(options.config)
    values |= {"name": "edges", "manual_seed": options.seed}
    if values["density_estimator"]["type"] != density:
        values["density_estimator"] = {"type": density}
    values["trainer"] |= {"num_rounds": 1, "plot_proposal": False, "lr_decay": options.lr_decay}
    values["test_data_loader"]["num_predictive"] = 0
    counts = {"training": options.num_sim, "test": options.tests}
    for use, block in BLOCKS.items():
        values[block]["num_sim"] = counts[use]
        if made is not None:
            folder = made / f"{use}_dataset" / "generated_dataset" / "round_0"
            values[block] |= {"simulate": False, "dataset_path_round_0": str(folder)}
            if use == "training":
                values[block]["statistic_path"] = str(folder / "statistics_full.json")
    return values


def told(calibration: Values) -> str:
    """Return a line of the table."""
    edges = {
        name.removeprefix("edge/"): value
        for name, value in calibration["statistics"].items()
        if name.startswith("edge/")
    }
    together = edges.pop("all")
    label = max(edges, key=lambda name: abs(edges[name]))
    width = calibration["statistics"]["width/all"]
    return (
        f"{together:>6.1f} {edges[label]:>6.1f} ({label}) {width:>6.1f}   "
        f"{calibration['verdict']}   "
        f"{calibration['gain']:.2f} nat"
    )


def main() -> None:
    """Run what is not done yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=EXPERIMENTS / "main.json")
    parser.add_argument("--densities", default=",".join(DENSITIES))
    parser.add_argument("--num_sim", type=int, default=1000)
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=42, help="root seed; a folder each")
    parser.add_argument("--lr_decay", type=float, help="by default the learning rate is constant")
    options = parser.parse_args()
    made = None
    for density in options.densities.split(","):
        started = time.monotonic()
        folder = options.folder.absolute() / density
        last = run(folder, configuration(options, density, made))
        minutes = (time.monotonic() - started) / 60
        line = told(read_json(last / "calibration.json"))
        sys.stdout.write(f"{density:<10}{line}   {minutes:.1f} min\n")
        sys.stdout.flush()
        made = made or folder / "output" / "data"


if __name__ == "__main__":
    main()
