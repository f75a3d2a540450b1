"""How long until a network is as good as sbi's `train()` makes it?

    python -m benchmarks.equal_loss --folder equal_loss [--seeds 5] [--num_sim 1000] [--fresh 1000]

The first round of `experiments/main.json`: its maps, simulated once into the folder. sbi's way is
NPE's `train()` with its defaults, and with batch size and learning rate of the file, on the
embedding of the documents (filters 32, 64, 128) and sbi's own mixture density of as many
components, of z = probit(u) where u is theta in the unit cube. mlpop's is one network as the file
says. Losses are of u, means over simulations that neither has seen; 0 is the prior.

sbi's time is that until its best epoch, without the epochs that it waits for a better one;
mlpop's that until the first epoch whose loss is not above the final one of sbi, in which it
judges all fresh simulations after every epoch. Times are of the processor, with one thread.
"""

import argparse
import io
import statistics
import sys
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from sbi.inference import NPE_C
from torch import Tensor

from benchmarks.channels import simulate
from benchmarks.training import NoTracker, mean_loss, normal, plain_network, sbi_builder
from mlpop.config.base import read_json
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.inputs.problem import LearningProblem, learning_problem, load_training_set
from mlpop.experiment.rounds.ensemble import estimator_spec
from mlpop.inference.estimators.cube import probit
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.networks.rng import generator_from_seed, one_thread
from mlpop.training.events import EpochEnded, TrainingEvent
from mlpop.training.fit import fit

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "main.json"
Data = tuple[Tensor, Tensor]


def as_networks_see(problem: LearningProblem, config: SbiConfig, csv: Path) -> Data:
    """Return theta in the unit cube and scaled maps."""
    data = load_training_set(config, csv)
    return problem.prior.to_unit(data.theta).float(), problem.preprocessing(data.x)


def train_sbi(
    theta: Tensor, x: Tensor, fresh: Data, seed: int, options: dict[str, Any]
) -> tuple[float, float, float]:
    """Return the fresh loss of sbi's network, the time to its best epoch and of all [s]."""
    torch.manual_seed(seed)
    builder = sbi_builder("mdn", plain_network())
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        trainer = NPE_C(
            normal(theta.shape[1]),
            density_estimator=builder,
            tracker=NoTracker(),
            show_progress_bars=False,
        )
        started = time.process_time()
        density = trainer.append_simulations(probit(theta), x).train(**options)
        seconds = time.process_time() - started
    losses = trainer._summary["validation_loss"]
    best = 1 + losses.index(min(losses))
    prior = normal(theta.shape[1])

    def of_cube(theta: Tensor, x: Tensor) -> Tensor:
        return density.loss(probit(theta), x) + prior.log_prob(probit(theta))

    return mean_loss(of_cube, *fresh), seconds * best / len(losses), seconds


def train_ours(
    config: SbiConfig, problem: LearningProblem, data: Data, fresh: Data, seed: int
) -> list[tuple[float, float]]:
    """Return the time [s] and the fresh loss after every epoch."""
    theta, x = data
    spec = estimator_spec(config, problem, tuple(x.shape[1:]))
    epochs: list[tuple[float, float]] = []

    def hear(event: TrainingEvent) -> None:
        if isinstance(event, EpochEnded):
            epochs.append((time.process_time() - started, event.record.val_loss))

    # as many learn as with a validation set
    learn = round(len(theta) * (1 - config.trainer.validation_fraction))
    started = time.process_time()
    estimator = build_estimator(spec, theta[:learn], x[:learn], generator_from_seed(seed))
    fit(
        estimator,
        torch.cat([theta[:learn], fresh[0]]),
        torch.cat([x[:learn], fresh[1]]),
        validation=torch.arange(learn, learn + len(fresh[0])),
        generator=generator_from_seed(seed + 1),
        options=config.trainer,
        emit=hear,
    )
    return epochs


def main() -> None:
    """Print a line for every seed, and the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--num_sim", type=int, default=1000)
    parser.add_argument("--fresh", type=int, default=1000)
    options = parser.parse_args()
    values, folder = read_json(EXPERIMENT), options.folder.absolute()
    simulate(folder, values, {"training": options.num_sim, "test": options.fresh})
    config = SbiConfig.parse(values)
    sets = [folder / use / "dataset_full.csv" for use in ("training", "test")]
    statistics_file = sets[0].with_name("statistics_full.json")
    problem = learning_problem(config, load_training_set(config, sets[0]), statistics_file)
    data, fresh = (as_networks_see(problem, config, csv) for csv in sets)
    trainer = config.trainer
    ways: dict[str, dict[str, Any]] = {
        "defaults": {},
        "of the file": {"training_batch_size": trainer.batch_size, "learning_rate": trainer.lr},
    }
    ratios: dict[str, list[float]] = {way: [] for way in ways}
    with one_thread():
        for seed in range(options.seeds):
            epochs = train_ours(config, problem, data, fresh, seed)
            best = min(own for _, own in epochs)
            sys.stdout.write(f"seed {seed}: mlpop {best:.3f}, all {epochs[-1][0]:.1f} s\n")
            for way, arguments in ways.items():
                loss, until_best, seconds = train_sbi(*data, fresh, seed, arguments)
                reached = next((at for at, own in epochs if own <= loss), float("inf"))
                ratios[way].append(until_best / reached)
                sys.stdout.write(
                    f"  sbi, {way}: {loss:.3f} after {until_best:.1f} s of {seconds:.1f} s; mlpop "
                    f"there after {reached:.1f} s, {ratios[way][-1]:.1f} times\n"
                )
                sys.stdout.flush()
    for way, found in ratios.items():
        sys.stdout.write(
            f"sbi, {way}: {statistics.median(found):.1f} times ({min(found):.1f} to "
            f"{max(found):.1f})\n"
        )


if __name__ == "__main__":
    main()
