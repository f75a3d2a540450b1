"""Do truncated proposals open regions far from the posterior, and do they keep the truth?

    python -P benchmarks/skies.py --folder skies
    python -P benchmarks/islands.py --folder skies [--tests 5]

Every run of `skies.py` has trained the networks of its round 0. Here they propose round 1 at the
first test simulations of that round, which are draws of the prior that chose nothing, as they did
at the sky of the run. A line for each sky, then how many proposals hold their truth, and the
fraction of their draws that lies apart from the largest region: mean and largest.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.config.base import read_json
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.loading import load_dataset
from mlpop.inference.posteriors.store import load_posterior
from mlpop.inference.proposals.proposal import make_proposal
from mlpop.networks.rng import generator_from_seed

ROOT_SEED = 30_000
DRAWS = 1000


@dataclass(frozen=True)
class Found:
    """What a proposal is like.

    Attributes:
        apart: fraction of its draws outside of its largest region.
        volume: fraction of the prior that it covers.
        holds: whether the truth lies in it.
    """

    apart: float
    volume: float
    holds: bool


def proposals(folder: Path, tests: int, sky: int) -> list[Found]:
    """Return what the round 0 of a run in `folder` proposes at its first tests."""
    config = SbiConfig.parse(read_json(folder / "config.json"))
    output = folder / config.trainer.save_dir
    posterior = load_posterior(max(output.glob("models/*/*/round_0/posterior.json")))
    data = load_dataset(
        next(output.glob("data/test_dataset/*/round_0/dataset_full.csv")),
        filter_inputs=config.training_data_loader.filter_inputs,
        filter_labels=config.prior_ranges.labels,
    )
    truths = posterior.prior.to_unit(data.theta[:tests])
    found = []
    for test in range(tests):
        seed = torch_seed(seed_sequence(ROOT_SEED, Purpose.PROPOSAL, sky, test))
        generator = generator_from_seed(seed)
        x = np.array(data.x[test])
        proposal = make_proposal(
            posterior.at(x, generator),
            generator,
            kind="truncated",
            sampler=config.trainer.sampler,
            region=config.trainer.truncation_region,
            sir_candidates=config.trainer.sir_candidates,
        )
        draw = proposal.draw(DRAWS, generator)
        assert proposal.support is not None
        holds = bool(proposal.support.contains(truths[test][None]))
        found.append(Found(draw.apart_fraction or 0.0, draw.volume_fraction or 0.0, holds))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tests", type=int, default=5)
    options = parser.parse_args()
    every: list[Found] = []
    for sky, folder in enumerate(sorted(path.parent for path in options.folder.glob("*/output"))):
        rows = proposals(folder, options.tests, sky)
        every += rows
        cells = "  ".join(
            f"{row.apart:.3f}{'' if row.holds else ' (truth outside)'}" for row in rows
        )
        sys.stdout.write(f"sky {folder.name}: {cells}\n")
        sys.stdout.flush()
    apart = [row.apart for row in every]
    sys.stdout.write(
        f"{sum(row.holds for row in every)} of {len(every)} truths inside; apart "
        f"{np.mean(apart):.4f} on average, {max(apart):.3f} at most, "
        f"{sum(part > 0.01 for part in apart)} above 0.01; covers "
        f"{np.median([row.volume for row in every]):.1e} of the prior (median)\n"
    )


if __name__ == "__main__":
    main()
