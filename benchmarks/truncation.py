"""Draws of a truncated prior at acceptance 1e-5: ours, prior rejection, and sbi's resampling.

    python -P benchmarks/truncation.py [--size 5] [--acceptance 1e-5] [--samples 1000]

The posterior is a Gaussian in a box, known in closed form: 1000 draws of the uniform distribution
on its highest-density region, a ball of `acceptance` times the prior. A draw's (r / R)^d must be
uniform, so of mean 0.5. Prior rejection is timed for a few seconds and extrapolated. Costs are
wall time with one thread.
"""

import argparse
import math
import sys
import time
import warnings

import numpy as np
import torch
from sbi.utils import RestrictedPrior, get_density_thresholder
from scipy import stats
from torch import Generator, Tensor

from mlpop.inference.posteriors.conditioned import ConditionedPosterior
from mlpop.inference.prior import Prior
from mlpop.inference.proposals.proposal import make_proposal
from mlpop.inference.proposals.truncation import Support, prior_source
from mlpop.networks.rng import generator_from_seed, lend, one_thread

EPSILON = 1e-4


class Gaussian(ConditionedPosterior):
    """A round Gaussian in the unit cube: our `ConditionedPosterior`, and sbi's distribution."""

    cheap = True

    def __init__(self, size: int, acceptance: float) -> None:
        ball = math.exp(size / 2 * math.log(math.pi) - math.lgamma(size / 2 + 1))
        radius = (acceptance / ball) ** (1 / size)
        self.spread = radius / math.sqrt(stats.chi2.ppf(1 - EPSILON, size))
        self._prior = Prior(tuple(f"t{k}" for k in range(size)), (-1.0,) * size, (1.0,) * size)
        self.normal = torch.distributions.Normal(torch.full((size,), 0.5), self.spread)

    @property
    def prior(self) -> Prior:
        return self._prior

    def sample(
        self, num_samples: int | torch.Size, generator: Generator | None = None, **_: object
    ) -> Tensor:
        """Draw (n, d); of a torch.Size, as sbi asks, from the global generator."""
        count = num_samples if isinstance(num_samples, int) else int(math.prod(num_samples))
        shape = count, self.prior.dimension
        return 0.5 + self.spread * torch.randn(shape, generator=generator)

    def density(self, theta: Tensor) -> Tensor:
        """Log densities (n,) of theta (n, d)."""
        return self.normal.log_prob(theta).sum(-1)

    def log_prob(self, theta: Tensor, **_: object) -> Tensor:
        """The same, as sbi asks for it."""
        return self.density(theta)


def radii(posterior: Gaussian, theta: Tensor, threshold: float) -> np.ndarray:
    """Return (r / R)^d of draws, R from the threshold of the density."""
    peak = float(posterior.log_prob(torch.full((1, posterior.prior.dimension), 0.5)))
    edge = posterior.spread * math.sqrt(2 * (peak - threshold))
    return ((theta.double() - 0.5).norm(dim=1).numpy() / edge) ** posterior.prior.dimension


def describe(name: str, seconds: float, places: np.ndarray) -> str:
    """One row of the table."""
    size = f"{name:<42}{seconds:>10.2f} s"
    outside = float((places > 1).mean())
    p = stats.kstest(places, "uniform").pvalue
    return f"{size}   mean (r/R)^d {places.mean():.3f}   outside {outside:.2%}   KS p {p:.2g}\n"


def main() -> None:
    """Draw by every way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=5)
    parser.add_argument("--acceptance", type=float, default=1e-5)
    parser.add_argument("--samples", type=int, default=1000)
    arguments = parser.parse_args()
    posterior = Gaussian(arguments.size, arguments.acceptance)
    write = sys.stdout.write
    write(
        f"{arguments.samples} draws, {arguments.size} parameters, truncated prior "
        f"{arguments.acceptance:g} of the prior; exact: mean 0.500, outside 0\n"
    )
    with one_thread():
        for sampler in ("auto", "box"):
            generator = generator_from_seed(1)
            proposal = make_proposal(posterior, generator, kind="truncated", sampler=sampler)
            draw = proposal.draw(arguments.samples, generator)
            places = radii(posterior, draw.theta, draw.threshold)
            write(describe(f"mlpop {sampler}: {draw.method}", draw.seconds, places))
            write(
                f"{'':<4}acceptance {draw.acceptance:.2f}, volume over the prior's "
                f"{draw.volume_fraction:.3g} +- {draw.volume_error:.1g}\n"
            )
        source = prior_source(Support(posterior, draw.threshold))
        generator = generator_from_seed(2)
        started, attempts, accepted = time.perf_counter(), 0, 0
        while time.perf_counter() - started < 5:
            accepted += len(source.attempt(100_000, generator))
            attempts += 100_000
        rate = attempts / (time.perf_counter() - started)
        write(
            f"{'prior rejection':<42}{arguments.samples / draw.volume_fraction / rate:>10.0f} s   "
            f"extrapolated: {rate:.3g} attempts a second, {accepted} of {attempts} accepted\n"
        )
        started = time.perf_counter()
        with lend(generator_from_seed(3)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            accept = get_density_thresholder(
                posterior, quantile=EPSILON, num_samples_to_estimate_support=100_000
            )
            restricted = RestrictedPrior(
                posterior.prior.box, accept, posterior, sample_with="sir", device="cpu"
            )
            theta = restricted.sample(
                (arguments.samples,), oversampling_factor=1024, show_progress_bars=False
            )
        seconds = time.perf_counter() - started
        write(
            describe(
                "sbi RestrictedPrior(sample_with='sir')",
                seconds,
                radii(posterior, theta, draw.threshold),
            )
        )


if __name__ == "__main__":
    main()
