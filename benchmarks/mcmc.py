"""Markov chains on a trained likelihood: effective draws a second, against sbi's own sampler.

    python -P benchmarks/mcmc.py [--dimension 3] [--chains 20] [--samples 1000]

A MAF learns x = theta + a skewed noise from 2000 simulations for a few epochs; then every sampler
draws from the same potential at the same x. Effective draws are the least bulk ESS of all labels;
costs are process time with one thread, warm-up included.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sbi.inference.posteriors import MCMCPosterior
from sbi.inference.posteriors.posterior_parameters import MCMCPosteriorParameters
from sbi.inference.potentials.base_potential import BasePotential
from sbi.utils import mcmc_transform
from torch import Tensor

from mlpop.config.blocks.training import TrainingOptions
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.mcmc.convergence import bulk_ess, r_hat
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed, one_thread
from mlpop.training.fit import fit, validation_split

WARMUP = 50


class Potential(BasePotential):
    """The member's potential, as sbi's samplers call it."""

    def __init__(self, member: torch.nn.Module, prior: Prior, x: Tensor) -> None:
        super().__init__(prior.box, x)
        self.member = member
        self.embedding = member.embed(x)

    def __call__(self, theta: Tensor, track_gradients: bool = True) -> Tensor:
        """Return the potential (n,) of theta (n, d) in the unit cube."""
        with torch.set_grad_enabled(track_gradients):
            values = self.member.log_potential_embedded(theta[:, None], self.embedding)[:, 0]
        return values + self.prior.log_prob(theta)


def main() -> None:
    """Train, draw with every sampler, print one line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimension", type=int, default=3)
    parser.add_argument("--chains", type=int, default=20)
    parser.add_argument("--samples", type=int, default=1000)
    arguments = parser.parse_args()
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prior, member, x = trained(arguments.dimension)
        baseline = timed(lambda: sbi_draws(prior, member, x, arguments.samples, arguments.chains))
        report("sbi slice_np_vectorized, thin 1", *baseline, baseline)
        for sampler in ("slice_np_vectorized", "hmc"):
            options = McmcOptions(sampler, num_chains=arguments.chains, thin=1, warmup=WARMUP)
            posterior = McmcPosterior([member], prior, options=options)
            ours = timed(lambda posterior=posterior: our_draws(posterior, x, arguments.samples))
            report(f"mlpop {sampler}, thin 1", *ours, baseline)


def trained(dimension: int) -> tuple[Prior, torch.nn.Module, Tensor]:
    """Return a prior, a trained likelihood and an observation (1, e)."""
    generator = generator_from_seed(0)
    labels = tuple(f"t{k}" for k in range(dimension))
    prior = Prior(labels, (-1.0,) * dimension, (1.0,) * dimension)
    physical = prior.sample(2000, generator)
    noise = torch.randn(physical.shape, generator=generator)
    x = torch.from_numpy(physical).float() + 0.15 * noise + 0.1 * noise.square()
    theta = prior.to_unit(physical)
    spec = EstimatorSpec.parse(
        {
            "kind": "likelihood",
            "model": "maf",
            "z_score_x": "independent",
            "x_shape": [dimension],
            "dimension": dimension,
        }
    )
    member = build_estimator(spec, theta, x, generator)
    fit(
        member,
        theta,
        x,
        validation=validation_split(len(theta), 0.1, generator),
        generator=generator,
        options=TrainingOptions(batch_size=100, lr=2e-3, max_num_epochs=8),
    )
    return prior, member.eval(), torch.full((1, dimension), 0.3)


def sbi_draws(
    prior: Prior, member: torch.nn.Module, x: Tensor, samples: int, chains: int
) -> np.ndarray:
    """Draw (n, c, d) in the unit cube with sbi's vectorised slice sampler.

    From the same starts as ours: resampling.
    """
    torch.manual_seed(0)
    posterior = MCMCPosterior(
        Potential(member, prior, x),
        prior.box,
        theta_transform=mcmc_transform(prior.box),
        **vars(
            MCMCPosteriorParameters(
                method="slice_np_vectorized",
                thin=1,
                warmup_steps=WARMUP,
                num_chains=chains,
                init_strategy="resample",
            )
        ),
    )
    draws = posterior.sample((samples,), x=x, show_progress_bars=False)
    # sbi returns the chains one after another
    return draws.numpy().reshape(chains, -1, prior.dimension).transpose(1, 0, 2)


def our_draws(posterior: McmcPosterior, x: Tensor, samples: int) -> np.ndarray:
    """Draw (n, c, d) in the unit cube."""
    generator = generator_from_seed(0)
    _, chains = posterior.at(x[0].numpy(), generator).batch.draw(samples, generator)
    return chains[0].theta[0].numpy()


def timed(draw: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """Return draws and their process seconds."""
    started = time.process_time()
    draws = draw()
    return draws, time.process_time() - started


def report(
    name: str, draws: np.ndarray, seconds: float, baseline: tuple[np.ndarray, float]
) -> None:
    """Write one line: cost, convergence and the ratio of effective draws a second."""
    rate = bulk_ess(draws).min() / seconds
    other = bulk_ess(baseline[0]).min() / baseline[1]
    mean = draws.mean((0, 1))
    sys.stdout.write(
        f"{name:32s} {seconds:6.1f} s, {draws.shape[0] * draws.shape[1]} draws, "
        f"R-hat {r_hat(draws).max():.3f}, ESS {bulk_ess(draws).min():5.0f}, "
        f"{rate:6.1f} ESS/s, {rate / other:5.1f} times sbi; mean {np.round(mean, 3)}\n"
    )


if __name__ == "__main__":
    main()
