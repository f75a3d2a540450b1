"""Error rate and power of the verdict, on posteriors that are known exactly.

    python -P benchmarks/verdict.py [--null 400] [--power 100] [--problems ...] [--faults ...]

With an exact posterior every fault that is named is a false alarm; a known fault must be found
and called by its name. Errors are binomial standard errors. Nothing is trained; every test has
100 draws, 200 in mlpop.

The problems have four labels, the two moons two:

- gaussian: normal prior, x = theta + normal noise with correlations of 0.7; far from any edge;
- cut: uniform prior on the unit cube, x = theta + N(0, 0.15); the posterior is a normal
  distribution cut at the faces;
- two moons: the task of sbibm, whose posterior is two crescents;
- joined: `cut`, half of the tests from a box of a tenth of the prior's volume, as
  `append_simulations` joins them; the posterior is that under this mixture;
- truncated: all tests from that box, the posterior under the box;
- proposal: `cut`, tests from a normal distribution of width 0.15 about the centre, as the theta of
  a later round; the posterior is that under the prior, as a likelihood or a ratio gives it, and
  its draws are corrected as mlpop does it (`reweighting`);
- proposal box: likewise, tests from the box of a tenth of the prior's volume.

The faults are of `gaussian`, some of `cut`, where a wrong width shifts posteriors that are next to
a face. A leaky edge is of `cut`, too: a normal distribution of the right mean and variance in
every label leaks out of the cube, is cut at the faces and renormalised.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special, stats

from mlpop.inference.diagnostics.exchange import exchange_test
from mlpop.inference.diagnostics.near import near_weights
from mlpop.inference.diagnostics.pool import REFERENCES, make_pool
from mlpop.inference.diagnostics.reweighting import reweighted
from mlpop.inference.diagnostics.verdict import fault

Array = NDArray[np.float64]
DRAWS = 100 + REFERENCES
MADE = 4000
DIMENSION = 4
NOISE = 0.15
CORRELATION = 0.7
BOX = (0.3, 0.3 + 0.1 ** (1 / DIMENSION))
TESTS = (50, 150, 300, 1000)
POWER_TESTS = 300
SEEDS = 10**9


@dataclass(frozen=True)
class Tests:
    """Truths (n, d) and draws (n, s, d) in the unit cube, and their log densities.

    `success` (n,) is whether a test could be drawn for; None if all could.
    """

    truth: Array
    draws: Array
    log_truth: Array
    log_draws: Array
    success: NDArray[np.bool_] | None = None


Problem = Callable[[int, np.random.Generator], Tests]


def gaussian(
    count: int,
    rng: np.random.Generator,
    *,
    scale: float = 1.0,
    bias: float = 0.0,
    local_bias: float = 0.0,
    driver: int = 1,
    correlated: bool = True,
) -> Tests:
    """Normal posteriors; `scale` is of the covariance, biases are in posterior sigmas."""
    noise = np.full((DIMENSION, DIMENSION), CORRELATION) + (1 - CORRELATION) * np.eye(DIMENSION)
    prior = 100.0 * np.eye(DIMENSION)
    covariance = np.linalg.inv(np.linalg.inv(noise) + np.linalg.inv(prior))
    theta = 10.0 * rng.standard_normal((count, DIMENSION))
    x = theta + rng.standard_normal((count, DIMENSION)) @ np.linalg.cholesky(noise).T
    mean = x @ (covariance @ np.linalg.inv(noise)).T
    sigma = np.sqrt(covariance[0, 0])
    mean[:, 0] += sigma * (bias + local_bias * np.sign(mean[:, driver]))
    claimed = scale * (covariance if correlated else np.diag(np.diag(covariance)))
    root = np.linalg.cholesky(claimed)
    draws = mean[:, None] + rng.standard_normal((count, DRAWS, DIMENSION)) @ root.T

    def log_density(values: Array, centre: Array) -> Array:
        return -0.5 * (np.linalg.solve(root, (values - centre)[..., None])[..., 0] ** 2).sum(-1)

    # +-100 is the box: nothing comes near its faces
    return Tests(
        (theta + 100) / 200,
        (draws + 100) / 200,
        log_density(theta, mean),
        log_density(draws, mean[:, None]),
    )


def _cut_normal(mean: Array, sigma: Array, low: float, high: float) -> tuple[Array, Array]:
    """Return the distribution function of normal distributions at both faces."""
    return special.ndtr((low - mean) / sigma), special.ndtr((high - mean) / sigma)


def _draw(
    mean: Array, sigma: Array, low: float, high: float, number: int, rng: np.random.Generator
) -> Array:
    """Draw (n, number, d) from normal distributions (n, d) cut to [low, high]."""
    below, above = (part[:, None] for part in _cut_normal(mean, sigma, low, high))
    unit = rng.random((len(mean), number, mean.shape[1]))
    inner = special.ndtri(below + unit * (above - below))
    return np.clip(mean[:, None] + sigma[:, None] * inner, low, high)


def cut(
    count: int,
    rng: np.random.Generator,
    *,
    leaky: bool = False,
    scale: float = 1.0,
    noise: float = NOISE,
) -> Tests:
    """Normal posteriors cut at the faces of the cube; `scale` is of the covariance."""
    theta = rng.random((count, DIMENSION))
    mean = theta + noise * rng.standard_normal(theta.shape)
    sigma = np.full_like(mean, noise * np.sqrt(scale))
    if leaky:
        exact = stats.truncnorm(-mean / noise, (1 - mean) / noise, loc=mean, scale=noise)
        mean, sigma = exact.mean(), exact.std()
    draws = _draw(mean, sigma, 0, 1, DRAWS, rng)

    def log_density(values: Array, centre: Array, width: Array) -> Array:
        return -0.5 * (((values - centre) / width) ** 2).sum(-1)

    return Tests(
        theta,
        draws,
        log_density(theta, mean, sigma),
        log_density(draws, mean[:, None], sigma[:, None]),
    )


def joined(count: int, rng: np.random.Generator, *, share: float = 0.5) -> Tests:
    """Tests of which a share comes from the cube, the others from the box inside it."""
    low, high = BOX
    volume = (high - low) ** DIMENSION
    theta = rng.random((count, DIMENSION))
    inner = rng.random(count) >= share
    theta[inner] = low + (high - low) * theta[inner]
    x = theta + NOISE * rng.standard_normal(theta.shape)
    sigma = np.full_like(x, NOISE)

    def mass(low: float, high: float) -> Array:
        below, above = _cut_normal(x, sigma, low, high)
        return (above - below).prod(1)

    from_cube, from_box = share * mass(0, 1), (1 - share) / volume * mass(low, high)
    chosen = rng.random((count, DRAWS)) < (from_cube / (from_cube + from_box))[:, None]
    draws = np.where(
        chosen[..., None],
        _draw(x, sigma, 0, 1, DRAWS, rng),
        _draw(x, sigma, low, high, DRAWS, rng),
    )

    def log_density(values: Array, centre: Array) -> Array:
        inside = ((values >= low) & (values <= high)).all(-1)
        prior = np.log(np.maximum(share + (1 - share) / volume * inside, 1e-300))
        return prior - 0.5 * (((values - centre) / NOISE) ** 2).sum(-1)

    return Tests(theta, draws, log_density(theta, x), log_density(draws, x[:, None]))


def two_moons(count: int, rng: np.random.Generator) -> Tests:
    """Posteriors of two crescents."""

    def crescent(*shape: int) -> Array:
        angle = rng.uniform(-np.pi / 2, np.pi / 2, shape)
        radius = 0.1 + 0.01 * rng.standard_normal(shape)
        return np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], -1)

    def turned(theta: Array) -> Array:
        first, second = theta[..., 0] + theta[..., 1], theta[..., 1] - theta[..., 0]
        return np.stack([-np.abs(first), second], -1) / np.sqrt(2)

    def log_density(theta: Array, x: Array) -> Array:
        offset = x - turned(theta) - [0.25, 0]
        radius = np.sqrt((offset**2).sum(-1))
        return np.where(offset[..., 0] < 0, -np.inf, -0.5 * ((radius - 0.1) / 0.01) ** 2) - np.log(
            radius
        )

    theta = rng.uniform(-1, 1, (count, 2))
    x = crescent(count) + turned(theta)
    draws = np.full((count, DRAWS, 2), np.nan)
    filled = np.zeros(count, dtype=np.int64)
    while (filled < DRAWS).any():
        rows = np.flatnonzero(filled < DRAWS)
        offset = crescent(len(rows), DRAWS) - x[rows, None]
        first = offset[..., 0] * np.where(rng.random(offset.shape[:2]) < 0.5, -1, 1)
        found = np.stack([first + offset[..., 1], first - offset[..., 1]], -1) / np.sqrt(2)
        # the second component is x_1 - p_1 = (theta_2 - theta_1) / sqrt(2)
        inside = (offset[..., 0] >= 0) & (np.abs(found) <= 1).all(-1)
        for row, values, kept in zip(rows, found, inside, strict=True):
            new = values[kept][: DRAWS - filled[row]]
            draws[row, filled[row] : filled[row] + len(new)] = new
            filled[row] += len(new)
    log_draws = log_density(draws, x[:, None])
    return Tests((theta + 1) / 2, (draws + 1) / 2, log_density(theta, x), log_draws)


def proposal(count: int, rng: np.random.Generator, *, box: bool = False) -> Tests:
    """Tests from a proposal, draws of the posterior under the prior made draws under it."""
    middle, width = np.full((count, DIMENSION), 0.5), np.full((count, DIMENSION), NOISE)
    low, high = BOX
    if box:
        theta = low + (high - low) * rng.random((count, DIMENSION))
    else:
        theta = _draw(middle, width, 0, 1, 1, rng)[:, 0]
    x = theta + NOISE * rng.standard_normal(theta.shape)
    generator = torch.Generator().manual_seed(int(rng.integers(2**60)))

    def log_ratio(values: torch.Tensor) -> torch.Tensor:
        if box:
            return torch.where(((values >= low) & (values <= high)).all(-1), 0.0, -torch.inf)
        return -0.5 * (((values - 0.5) / NOISE) ** 2).sum(-1)

    def draw(x: Array, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        made = _draw(x, np.full_like(x, NOISE), 0, 1, number, rng)
        density = -0.5 * (((made - x[:, None]) / NOISE) ** 2).sum(-1)
        return torch.from_numpy(made).transpose(0, 1), torch.from_numpy(density.T)

    parts = []
    for rows in np.array_split(x, max(1, count // 50)):

        def more(
            indices: torch.Tensor, number: int, rows: Array = rows
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return draw(rows[indices.numpy()], number)

        parts.append(reweighted(*draw(rows, MADE), log_ratio, DRAWS, generator, more=more))
    draws, log_draws, accepted = zip(*parts, strict=True)
    log_truth = -0.5 * (((theta - x) / NOISE) ** 2).sum(-1)
    log_truth += log_ratio(torch.from_numpy(theta)).numpy()
    return Tests(
        theta,
        torch.cat(draws, 1).transpose(0, 1).numpy(),
        log_truth,
        torch.cat(log_draws, 1).transpose(0, 1).numpy(),
        torch.cat(accepted).numpy() >= DRAWS,
    )


NULL: Mapping[str, Problem] = {
    "gaussian": gaussian,
    "cut": cut,
    "two moons": two_moons,
    "joined": joined,
    "truncated": partial(joined, share=0.0),
    "proposal": proposal,
    "proposal box": partial(proposal, box=True),
}

FAULTS: Mapping[str, tuple[Problem, str]] = {
    "covariance x 0.7": (partial(gaussian, scale=0.7), "overconfident"),
    "covariance x 1.4": (partial(gaussian, scale=1.4), "underconfident"),
    "covariance x 0.7, cut": (partial(cut, scale=0.7), "overconfident"),
    "covariance x 1.4, cut": (partial(cut, scale=1.4), "underconfident"),
    "covariance x 0.4, cut, noise 0.3": (partial(cut, scale=0.4, noise=0.3), "overconfident"),
    "covariance x 2.9, cut, noise 0.3": (partial(cut, scale=2.9, noise=0.3), "underconfident"),
    "one label biased by 0.3 sigma": (partial(gaussian, bias=0.3), "biased"),
    "correlations dropped": (partial(gaussian, correlated=False), "correlation"),
    "leaky edges": (partial(cut, leaky=True), "edge"),
    "bias of +-0.5 sigma by the sign of another label": (
        partial(gaussian, local_bias=0.5),
        "locally biased",
    ),
    "bias of +-0.5 sigma by the sign of the label": (
        partial(gaussian, local_bias=0.5, driver=0),
        "locally biased",
    ),
}


def verdict(problem: Problem, count: int, seed: int, exchanges: int) -> str:
    """Return the name of one synthetic experiment."""
    rng = np.random.default_rng(seed)
    tests, observed = problem(count, rng), problem(1, rng)
    labels = "abcd"[: tests.truth.shape[1]]
    pool = make_pool(
        labels,
        tests.truth.astype(np.float32),
        tests.draws.astype(np.float32),
        tests.log_truth,
        tests.log_draws,
        np.ones(count, dtype=np.bool_) if tests.success is None else tests.success,
        rng,
    )
    weights = near_weights(pool, observed.draws[0])
    return fault(exchange_test(pool, rng, weights=weights, exchanges=exchanges)) or "calibrated"


def rate(hits: int, trials: int) -> str:
    """Return a fraction of trials with its binomial standard error, in per cent."""
    p = hits / trials
    return f"{100 * p:.1f} ± {100 * np.sqrt(p * (1 - p) / trials):.1f}"


def names_of(problem: Problem, count: int, seeds: range, exchanges: int) -> Counter[str]:
    """Return how often each name is given to synthetic experiments of so many tests."""
    return Counter(verdict(problem, count, seed, exchanges) for seed in seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--null", type=int, default=400, help="experiments an error rate")
    parser.add_argument("--power", type=int, default=100, help="experiments a fault")
    parser.add_argument("--exchanges", type=int, default=499)
    parser.add_argument("--tests", type=int, nargs="+", default=TESTS)
    parser.add_argument("--problems", nargs="*", default=list(NULL), choices=NULL)
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), choices=FAULTS)
    args = parser.parse_args()

    def tell(*cells: str) -> None:
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()

    if args.problems:
        tell("exact posterior, false alarms [%]", *(f"{count} tests" for count in args.tests))
        tell(*(1 + len(args.tests)) * ("---",))
    for name in args.problems:
        alarms = []
        for count in args.tests:
            # no two rates rest on the same random numbers
            first = SEEDS * (1 + list(NULL).index(name)) + args.null * count
            seeds = range(first, first + args.null)
            found = names_of(NULL[name], count, seeds, args.exchanges)
            alarms.append(rate(args.null - found["calibrated"], args.null))
        tell(name, *alarms)
    if args.faults:
        tell(f"fault, {POWER_TESTS} tests", "found [%]", "name", "given that name [%]")
        tell(*4 * ("---",))
    seeds = range(10_000, 10_000 + args.power)
    for name in args.faults:
        problem, right = FAULTS[name]
        found = names_of(problem, POWER_TESTS, seeds, args.exchanges)
        caught = args.power - found["calibrated"]
        tell(name, rate(caught, args.power), f"`{right}`", rate(found[right], args.power))


if __name__ == "__main__":
    main()
