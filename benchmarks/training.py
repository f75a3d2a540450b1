"""Training of the density estimator: our loop against sbi's own trainer, at equal epochs.

    python -P benchmarks/training.py [--simulations 1000] [--epochs 3] [--batch 64] [--model maf]
    python -P benchmarks/training.py --losses [--batch 64] [--atoms 10]

Both train the same network on the same maps (6, 32, 32) in this one run, one thread each, turn
by turn; costs are process time, so that other work on the machine does not count. The ensemble
is timed by the clock: two members in two processes against sbi's trainer twice.

Ours is given theta in the unit cube, sbi's z = probit(theta), whose prior is a standard normal.
Losses are means over fresh simulations, of densities on the cube: 0 is the prior. The flows are
then the same networks. The `mdn` is mlpop's own, a mixture of cut Gaussians, and is set against
sbi's mixture with as many components and hidden features: another density, with other losses.

`--losses` times one step (loss and gradients) of the losses that compare atoms, ours against
sbi's own on the same batch and the same weights, which must give the same loss (the `mdn` has
those of the embedding in common only): SNPE-C for maps; NRE-B for maps and for vectors, which
have no embedding to save.
"""

import argparse
import io
import multiprocessing
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import torch
from sbi.inference import NPE_C, NRE_B
from sbi.neural_nets import posterior_nn
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.utils import BoxUniform
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from mlpop.config.blocks.training import TrainingOptions
from mlpop.inference.estimators.cube import probit
from mlpop.inference.estimators.estimator import Estimator, build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.networks.embedding import ModelConvSBI
from mlpop.networks.rng import generator_from_seed, lend, one_thread
from mlpop.training.fit import fit, validation_split
from mlpop.training.losses import Objective, make_objective
from mlpop.training.member_task import MemberTask, train_member

SHAPE = (6, 32, 32)
LABELS = 5
NUM_FRESH = 500
"""Simulations that the trained networks are compared on."""

Losses = Callable[[Tensor, Tensor], Tensor]
"""Of theta (b, d) in the unit cube and x (b, *SHAPE): minus their log densities there (b,)."""


class NoTracker:
    """Keeps sbi from writing TensorBoard files."""

    log_dir = None

    def log_metric(self, *_: object, **__: object) -> None:
        """Forget it."""

    log_metrics = log_params = add_figure = flush = log_metric


def population(count: int) -> tuple[Tensor, Tensor]:
    """Return theta (count, LABELS) in the unit cube and sparse maps of log1p counts."""
    rng = np.random.default_rng(0)
    theta = rng.random((count, LABELS))
    rows, columns = np.mgrid[:32, :32] / 16 - 1
    x = np.empty((count, *SHAPE), dtype=np.float32)
    for i, (a, b, c, d, e) in enumerate(2 * theta - 1):
        bump = np.exp(-((rows - a / 2) ** 2 + (columns - b / 2) ** 2) / (0.1 + 0.05 * c))
        for channel in range(SHAPE[0]):
            x[i, channel] = np.log1p(rng.poisson((0.6 + 0.2 * d + 0.05 * channel * e) * bump))
    return torch.from_numpy(theta.astype(np.float32)), torch.from_numpy(x)


def make_spec(model: str, kind: str = "posterior") -> EstimatorSpec:
    """Return the documented network for these maps."""
    return EstimatorSpec.parse(
        {
            "kind": kind,
            "model": model,
            "embedding": {
                "type": "ModelConvSBI",
                "args": {"input_shape": SHAPE, "len_output_layer": 32},
            },
            "x_shape": SHAPE,
            "dimension": LABELS,
        }
    )


def plain_network() -> nn.Module:
    """Return the same embedding as sbi users write it."""
    layers: list[nn.Module] = []
    for convolution in ModelConvSBI(SHAPE).convolutions:
        layers += [convolution, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 32), nn.ReLU())


def sbi_builder(model: str, embedding: nn.Module) -> Callable[[Tensor, Tensor], nn.Module]:
    """Return what builds sbi's density of z, of the sizes of `make_spec`, from z and x."""
    return posterior_nn(
        model,
        z_score_x="none",
        hidden_features=32,
        num_components=10,
        embedding_net=embedding,
    )


def normal(labels: int = LABELS) -> MultivariateNormal:
    """Return the prior of z."""
    return MultivariateNormal(torch.zeros(labels), torch.eye(labels))


def train_ours(theta: Tensor, x: Tensor, model: str, options: TrainingOptions) -> Losses:
    """Train once; return what gives the losses."""
    estimator = build_estimator(make_spec(model), theta, x, generator_from_seed(0))
    fit(
        estimator,
        theta,
        x,
        validation=validation_split(len(theta), 0.1, generator_from_seed(1)),
        generator=generator_from_seed(2),
        options=options,
    )
    return estimator.loss


def train_sbi(theta: Tensor, x: Tensor, model: str, options: TrainingOptions) -> Losses:
    """Train once with sbi's trainer; return what gives the losses."""
    torch.manual_seed(0)
    builder = sbi_builder(model, plain_network())
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        trainer = NPE_C(
            normal(), density_estimator=builder, tracker=NoTracker(), show_progress_bars=False
        )
        assert options.max_num_epochs is not None
        density = trainer.append_simulations(probit(theta), x).train(
            training_batch_size=options.batch_size,
            max_num_epochs=options.max_num_epochs - 1,  # sbi trains one more than told
            stop_after_epochs=10_000,
        )
    return lambda theta, x: density.loss(probit(theta), x) + normal().log_prob(probit(theta))


@torch.no_grad()
def mean_loss(losses: Losses, theta: Tensor, x: Tensor) -> float:
    """Return the mean loss of simulations."""
    return float(losses(theta, x).mean())


def time_ensemble(theta: Tensor, x: Tensor, model: str, options: TrainingOptions) -> float:
    """Return the wall time [s] of two members in two processes that have already started."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "theta.npy", theta.numpy())
        np.save(folder / "x.npy", x.numpy())
        validation = validation_split(len(theta), 0.1, generator_from_seed(1))
        tasks = [
            MemberTask(
                folder=str(folder / f"member_{j}"),
                theta_path=str(folder / "theta.npy"),
                x_path=str(folder / "x.npy"),
                validation=tuple(validation.tolist()),
                spec=make_spec(model),
                options=options,
                init_seed=1 + 2 * j,
                training_seed=2 + 2 * j,
            )
            for j in range(2)
        ]
        context = multiprocessing.get_context("spawn")
        ready = context.Barrier(3)
        # unpickling `wait_for` imports this module, and with it all that training needs
        with context.Pool(2, wait_for, [ready]) as pool:
            ready.wait()
            # the first training of a process pays for what torch sets up once
            warm = options.model_copy(update={"max_num_epochs": 1})
            pool.map(train_member, [replace(task, options=warm) for task in tasks], chunksize=1)
            tasks = [replace(task, data_digest="timed") for task in tasks]
            started = time.perf_counter()
            pool.map(train_member, tasks, chunksize=1)
            return time.perf_counter() - started


def wait_for(ready: Barrier) -> None:
    """Start a worker: wait until the others have started too."""
    ready.wait()


def like_sbi_users(estimator: nn.Module) -> nn.Module:
    """Return `plain_network` with the weights of our embedding of the same layers."""
    network = plain_network()
    ours = [value for name, value in estimator.named_parameters() if "embedding" in name]
    with torch.no_grad():
        for value, own in zip(network.parameters(), ours, strict=True):
            value.copy_(own)
    return network


def atomic_ways(
    theta: Tensor, x: Tensor, model: str, num_atoms: int
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return our atomic loss and sbi's, on the same weights where both are the same network."""
    estimator = build_estimator(make_spec(model), theta, x, generator_from_seed(0))
    objective = make_objective("posterior", "atomic", num_atoms)
    trainer = NPE_C(normal(), tracker=NoTracker(), show_progress_bars=False)
    z = probit(theta)
    inside = sbi_builder(model, like_sbi_users(estimator))(z, x)
    if model != "mdn":
        known = estimator.net.net.state_dict()
        inside.load_state_dict(
            {name: known.get(name, value) for name, value in inside.state_dict().items()}
        )
    trainer._neural_net = inside
    trainer._num_atoms, trainer._use_combined_loss = num_atoms, False

    def theirs() -> Tensor:
        return -trainer._log_prob_proposal_posterior_atomic(z, x, torch.ones(len(x), 1)).mean()

    return lambda: our_loss(objective, estimator, theta, x), theirs


def ratio_ways(
    theta: Tensor, x: Tensor, model: str, num_atoms: int
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return our contrastive loss and sbi's, on the same weights."""
    spec = make_spec(model, "ratio")
    if x.ndim == 2:
        spec = spec.model_copy(update={"embedding": None, "x_shape": tuple(x.shape[1:])})
    estimator = build_estimator(spec, theta, x, generator_from_seed(0))
    objective = make_objective("ratio", "maximum_likelihood", num_atoms)
    cube = BoxUniform(torch.zeros(LABELS), torch.ones(LABELS))
    trainer = NRE_B(cube, tracker=NoTracker(), show_progress_bars=False)
    trainer._neural_net = RatioEstimator(
        estimator.net,
        theta.shape[1:],
        x.shape[1:],
        estimator.embedding_net_theta,
        nn.Identity() if x.ndim == 2 else like_sbi_users(estimator),
    )
    return (
        lambda: our_loss(objective, estimator, theta, x),
        lambda: trainer._loss(theta, x, num_atoms),
    )


def our_loss(objective: Objective, estimator: Estimator, theta: Tensor, x: Tensor) -> Tensor:
    """Return the mean loss of one batch."""
    return objective.losses(estimator, theta[objective.candidates(len(x))], x).mean()


def compare_losses(batch: int, num_atoms: int, repeats: int) -> str:
    """Return the table of steps with atoms."""
    theta, x = population(batch)
    vectors = torch.randn(batch, 20, generator=generator_from_seed(3))
    cases = {
        "atomic SNPE-C, mdn (sbi's is another), maps": atomic_ways(theta, x, "mdn", num_atoms),
        "atomic SNPE-C, maf, maps": atomic_ways(theta, x, "maf", num_atoms),
        "atomic SNPE-C, nsf, maps": atomic_ways(theta, x, "nsf", num_atoms),
        "NRE-B, resnet, maps": ratio_ways(theta, x, "resnet", num_atoms),
        "NRE-B, resnet, vectors": ratio_ways(theta, vectors, "resnet", num_atoms),
    }
    lines = [f"one step, batch {batch}, {num_atoms} atoms"]
    for name, ways in cases.items():
        costs: list[list[float]] = [[], []]
        values = []
        for repeat in range(repeats + 1):
            for cost, way in zip(costs, ways, strict=True):
                started = time.process_time()
                with lend(generator_from_seed(5)):
                    loss = way()
                loss.backward()
                values.append(float(loss.detach()))
                # the first step pays for what torch sets up once
                if repeat:
                    cost.append(time.process_time() - started)
        ours, theirs = (statistics.median(cost) for cost in costs)
        lines.append(
            f"{name}: {theirs / ours:.1f} times sbi ({1e3 * ours:.1f} ms against "
            f"{1e3 * theirs:.1f} ms; loss {values[0]:.6f}, sbi's {values[1]:.6f})"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Time both ways and compare what they reach."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3, help="at least 2")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--model", choices=("mdn", "maf", "nsf"), default="maf")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--losses", action="store_true", help="time steps of losses with atoms")
    parser.add_argument("--atoms", type=int, default=10)
    arguments = parser.parse_args()
    if arguments.losses:
        with one_thread():
            sys.stdout.write(compare_losses(arguments.batch, arguments.atoms, arguments.repeats))
        return
    theta, x = population(arguments.simulations + NUM_FRESH)
    fresh, theta, x = (theta[-NUM_FRESH:], x[-NUM_FRESH:]), theta[:-NUM_FRESH], x[:-NUM_FRESH]
    options = TrainingOptions(
        batch_size=arguments.batch, max_num_epochs=arguments.epochs, stop_after_epochs=10_000
    )
    warm = options.model_copy(update={"max_num_epochs": 2})
    ratios, ours, theirs = [], [], []
    with one_thread():
        for way in (train_ours, train_sbi):
            way(theta[:200], x[:200], arguments.model, warm)
        for _ in range(arguments.repeats):
            costs = []
            for way, losses in ((train_ours, ours), (train_sbi, theirs)):
                started = time.process_time()
                trained = way(theta, x, arguments.model, options)
                costs.append(time.process_time() - started)
                losses.append(mean_loss(trained, *fresh))
            ratios.append(costs[1] / costs[0])
        started = time.perf_counter()
        for _ in range(2):
            train_sbi(theta, x, arguments.model, options)
        twice = time.perf_counter() - started
    together = time_ensemble(theta, x, arguments.model, options)
    sys.stdout.write(
        f"{arguments.model}, {arguments.simulations} maps {SHAPE}, batch {arguments.batch}, "
        f"{arguments.epochs} epochs\n"
        f"one network: {statistics.median(ratios):.2f} times sbi's trainer "
        f"({min(ratios):.2f} to {max(ratios):.2f}); loss on {NUM_FRESH} fresh simulations "
        f"{ours[-1]:.3f}, sbi's {'own mdn ' if arguments.model == 'mdn' else ''}"
        f"{theirs[-1]:.3f}\n"
        f"two members in two processes: {twice / together:.2f} times sbi's trainer twice "
        f"({together:.1f} s against {twice:.1f} s by the clock)\n"
    )


if __name__ == "__main__":
    main()
