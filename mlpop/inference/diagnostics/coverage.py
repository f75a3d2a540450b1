"""Expected coverage: does the truth lie in credible regions as often as they claim?

For every test simulation the posterior is drawn from once; from these draws come the
highest-density rank of the truth, its rank in every label (simulation-based calibration), the
fraction of draws nearer than the truth to a random point (TARP), and widths.

References:
    Deistler et al. 2022, https://arxiv.org/abs/2210.04815 (coverage by highest density)
    Talts et al. 2018, https://arxiv.org/abs/1804.06788 (simulation-based calibration)
    Lemos et al. 2023, https://arxiv.org/abs/2302.03026 (TARP)
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Generator, Tensor

from mlpop.errors import DataError
from mlpop.inference.diagnostics.pool import POOL, REFERENCES, Pool, make_pool
from mlpop.inference.diagnostics.reweighting import (
    CHAIN_FACTOR,
    DRAWS_AT_ONCE,
    MOST_CHAIN_DRAWS,
    MOST_DRAWS,
    LogRatio,
    reweighted,
)
from mlpop.inference.mcmc.report import MAX_R_HAT, least_ess
from mlpop.inference.posteriors.conditioned import ScoredDraws
from mlpop.inference.posteriors.posterior import Posterior

LEVELS: NDArray[np.float64] = np.linspace(0.0, 1.0, 12)
"""The documented credibility levels beta."""

MAX_STORED = 200_000_000
"""Most numbers of posterior samples that are kept; beyond, every k-th draw is."""


@dataclass(frozen=True)
class CoverageResult:
    """What the draws for n test simulations gave. Failed rows are False in `success`.

    Tests of whose draws too few lie where tests come from are left out: they have no row.

    Attributes:
        labels: d names.
        truth: (n, d) float32 true theta, in the unit cube of the prior.
        samples: (n, s // thinning, d) float32 posterior draws, likewise; 0 in failed rows. Under
            the distribution that the tests come from, see `compute_coverage`, as are all ranks.
        success: (n,) whether the posterior could be drawn from.
        rank: (n,) fraction of draws of higher density than the truth; NaN in failed rows.
        marginal_ranks: (n, d) count of draws below the truth, 0 to s; -1 in failed rows.
        tarp: (n,) fraction of draws nearer to a random point than the truth; NaN in failed rows.
        log_prob: (n,) log density of the truth, physical units, -inf outside the prior.
        width: (n, d) standard deviation of the draws over that of the prior.
        num_samples: s, draws for each test.
        thinning: which draws are kept in `samples`: every `thinning`-th.
        log_prior: (n,) log density of the prior at the truth, physical units.
        pool_log_prob: (n, p) log densities of the first p of the samples, before thinning.
        pool_samples: (n, p, d) these samples.
        pool_log_truth: (n,) log density of the truth, comparable with those.
        r_hat: (n,) worst of a test's Markov chains, NaN in failed rows; None without chains.
        ess: (n,) least effective number of draws of all labels; None without chains.
        num_left_out: tests that were left out.
    """

    labels: tuple[str, ...]
    truth: NDArray[np.float32]
    samples: NDArray[np.float32]
    success: NDArray[np.bool_]
    rank: NDArray[np.float64]
    marginal_ranks: NDArray[np.int64]
    tarp: NDArray[np.float64]
    log_prob: NDArray[np.float64]
    width: NDArray[np.float64]
    num_samples: int
    thinning: int
    log_prior: NDArray[np.float64]
    pool_log_prob: NDArray[np.float64]
    pool_samples: NDArray[np.float32]
    pool_log_truth: NDArray[np.float64]
    r_hat: NDArray[np.float64] | None = None
    ess: NDArray[np.float64] | None = None
    num_left_out: int = 0

    @property
    def num_ok(self) -> int:
        """The number of tests whose posterior could be drawn from."""
        return int(self.success.sum())

    @property
    def poor_chains(self) -> NDArray[np.bool_] | None:
        """(n,) whether the Markov chains of a test did not mix; None without chains."""
        if self.r_hat is None or self.ess is None:
            return None
        fine = (self.r_hat <= MAX_R_HAT) & (self.ess >= least_ess(self.num_samples))
        return self.success & ~fine

    def without(self, tests: NDArray[np.bool_]) -> "CoverageResult":
        """Return the result of all but some tests (n,), which are left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        rows: dict[str, Any] = {
            name: value[~tests] for name, value in values.items() if isinstance(value, np.ndarray)
        }
        return replace(self, **rows, num_left_out=self.num_left_out + int(tests.sum()))

    def pool(self, rng: np.random.Generator) -> Pool:
        """Return every truth at a random place among draws of its posterior."""
        return make_pool(
            self.labels,
            self.truth,
            self.pool_samples,
            self.pool_log_truth,
            self.pool_log_prob,
            self.success,
            rng,
        )


def compute_coverage(
    posterior: Posterior,
    theta: ArrayLike,
    x: NDArray[np.float32],
    generator: Generator,
    *,
    num_samples: int | None = None,
    log_ratio: LogRatio | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CoverageResult:
    """Draw from the posterior of every test simulation and rank its truth.

    The truth of a test is like draws of the posterior under the distribution that theta of the
    tests come from. Where the posterior is that under another one, `log_ratio` corrects the
    draws; log densities of the truth, and widths stay those of the posterior itself. A test none
    of whose draws lies where tests come from fails; one with too few of them is left out.

    Args:
        posterior: what to test.
        theta: (n, d) true theta, physical units.
        x: (n, *x_shape) data as `posterior` takes them; may be memory-mapped.
        generator: source of all draws.
        num_samples: draws for each test; by default 10 000, or 1000 by Markov chains.
        log_ratio: of the density that theta of the tests come from to that under which the
            posterior is; None where they are the same.
        on_progress: called with the number of tests done and n.

    Raises:
        DataError: shapes do not fit, or there are no tests.
    """
    prior = posterior.prior
    physical = np.asarray(theta, dtype=np.float64)
    if physical.shape != (len(x), prior.dimension) or not len(x):
        raise DataError(
            f"coverage needs theta (n, {prior.dimension}) and as many x, n at least 1, but got "
            f"{physical.shape} and {len(x)} x"
        )
    count, dimension = physical.shape
    num_samples = posterior.coverage_draws if num_samples is None else num_samples
    log_prior = prior.log_prob(physical)
    inside = log_prior > -np.inf
    truth = prior.to_unit(physical)
    thinning = max(1, -(-count * num_samples * dimension // MAX_STORED))
    pooled = min(num_samples, POOL + REFERENCES)
    result = CoverageResult(
        labels=posterior.labels,
        truth=truth.numpy(),
        samples=np.zeros((count, -(-num_samples // thinning), dimension), dtype=np.float32),
        success=np.zeros(count, dtype=np.bool_),
        rank=np.full(count, np.nan),
        marginal_ranks=np.full((count, dimension), -1, dtype=np.int64),
        tarp=np.full(count, np.nan),
        log_prob=np.full(count, np.nan),
        width=np.full((count, dimension), np.nan),
        num_samples=num_samples,
        thinning=thinning,
        log_prior=log_prior,
        pool_log_prob=np.zeros((count, pooled)),
        pool_samples=np.zeros((count, pooled, dimension), dtype=np.float32),
        pool_log_truth=np.zeros(count),
    )
    made = num_samples
    if log_ratio is not None and posterior.sampling == "mcmc":
        made *= CHAIN_FACTOR
    lot = max(1, DRAWS_AT_ONCE // made)
    left_out = np.zeros(count, dtype=np.bool_)
    chains: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for start in range(0, count, lot):
        rows = slice(start, min(start + lot, count))
        scored = posterior.score(made, x[rows], truth[rows], generator)
        scored.log_truth[torch.from_numpy(~inside[rows])] = -torch.inf
        ok = ~scored.samples.isnan().any(-1).any(0)
        reference = torch.rand(len(ok), dimension, generator=generator)
        if scored.r_hat is not None and scored.ess is not None:
            chains.append((scored.r_hat.double().numpy(), scored.ess.double().numpy()))
        compared = scored
        if log_ratio is not None:
            tests = x[rows], truth[rows]
            compared, accepted = _under_tests(
                posterior, tests, scored, ok, log_ratio, (num_samples, pooled), generator
            )
            ok = accepted >= pooled
            left_out[rows] = ((accepted > 0) & ~ok).numpy()
        result.success[rows] = ok.numpy()
        if bool(ok.any()):
            chosen = np.arange(rows.start, rows.stop)[ok.numpy()]
            spread = scored.samples[:, ok].double().std(0, correction=0) * 12**0.5
            result.width[chosen] = spread.numpy()
            log_truth = scored.log_truth[ok].double().numpy()
            result.log_prob[chosen] = log_truth + log_prior[chosen]
            draws, log_draws = compared.samples[:, ok], compared.log_prob[:, ok]
            true, log_true = truth[rows][ok], compared.log_truth[ok]
            result.samples[chosen] = draws[::thinning].transpose(0, 1).numpy()
            result.rank[chosen] = density_rank(log_draws, log_true).numpy()
            result.marginal_ranks[chosen] = (draws < true).sum(0).numpy()
            result.tarp[chosen] = _nearer(draws, true, reference[ok]).numpy()
            result.pool_samples[chosen] = draws[:pooled].transpose(0, 1).numpy()
            result.pool_log_prob[chosen] = log_draws[:pooled].double().T.numpy()
            result.pool_log_truth[chosen] = log_true.double().numpy()
        if on_progress is not None:
            on_progress(rows.stop, count)
    if chains:
        worst, least = (np.concatenate(values) for values in zip(*chains, strict=True))
        result = replace(result, r_hat=worst, ess=least)
    return result.without(left_out)


def _under_tests(
    posterior: Posterior,
    tests: tuple[NDArray[np.float32], Tensor],
    scored: ScoredDraws,
    ok: Tensor,
    log_ratio: LogRatio,
    wanted: tuple[int, int],
    generator: Generator,
) -> tuple[ScoredDraws, Tensor]:
    """Return draws that the truths are among, and how many (b,) there are of each test.

    Args:
        posterior: what to test.
        tests: x (b, *x_shape) and truths (b, d) in the unit cube.
        scored: draws of their posteriors.
        ok: (b,) which could be drawn from.
        log_ratio: see `compute_coverage`.
        wanted: draws for each test, and how many of them must not be repeated.
        generator: source of all draws.
    """
    x, truth = tests
    number, least = wanted
    drawn = ok.nonzero()[:, 0]

    def more(indices: Tensor, made: int) -> tuple[Tensor, Tensor]:
        rows = drawn[indices]
        draws = posterior.score(made, x[rows.numpy()], truth[rows], generator)
        # chains estimate the evidence anew: what the truth has of it is the same
        offset = torch.nan_to_num(scored.log_truth[rows] - draws.log_truth, 0.0, 0.0, 0.0)
        return draws.samples, draws.log_prob + offset

    samples, log_prob, found = reweighted(
        scored.samples[:, drawn],
        scored.log_prob[:, drawn],
        log_ratio,
        number,
        generator,
        least=least,
        more=more,
        most=MOST_CHAIN_DRAWS if posterior.sampling == "mcmc" else MOST_DRAWS,
    )
    ratio = log_ratio(truth).double()
    compared = ScoredDraws(
        scored.samples.new_full((number, *scored.samples.shape[1:]), torch.nan),
        log_prob.new_full((number, len(ok)), torch.nan),
        # it was drawn there, whatever rounding says
        scored.log_truth + torch.where(ratio.isfinite(), ratio, 0.0),
    )
    compared.samples[:, drawn], compared.log_prob[:, drawn] = samples, log_prob
    accepted = torch.zeros(len(ok), dtype=torch.int64)
    accepted[drawn] = found
    return compared, accepted


def density_rank(log_draws: Tensor, log_truth: Tensor) -> Tensor:
    """Return the part (b,) of log_draws (s, b) that is above log_truth (b,); ties count half."""
    equal = (log_draws == log_truth).double().mean(0)
    return (log_draws > log_truth).double().mean(0) + 0.5 * equal


def coverage_curve(rank: ArrayLike) -> NDArray[np.float64]:
    """Return the fraction (12,) of tests whose rank is below each of `LEVELS`; all at level 1.

    Args:
        rank: (n,) ranks; NaN, of a test that failed, lies outside of every region.

    Raises:
        DataError: no test succeeded.
    """
    ranks = np.asarray(rank, dtype=np.float64)
    if np.isnan(ranks).all():
        raise DataError("coverage cannot be computed: no test succeeded")
    curve = (ranks[:, None] < LEVELS).mean(0)
    # a rank of 1 lies within the region that holds everything, a failed test has no region
    curve[-1] = 1 - np.isnan(ranks).mean()
    return curve


def uniform_ks(values: ArrayLike) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov distance of `values` from uniform on [0, 1], and p-value."""
    test = stats.kstest(np.asarray(values, dtype=np.float64), "uniform")
    return float(test.statistic), float(test.pvalue)


def centred(ranks: ArrayLike, num_samples: int) -> NDArray[np.float64]:
    """Return counts 0 to `num_samples` as the centres of their bins in (0, 1)."""
    return (np.asarray(ranks, dtype=np.float64) + 0.5) / (num_samples + 1)


def _nearer(draws: Tensor, truth: Tensor, reference: Tensor) -> Tensor:
    distance = ((draws - reference) ** 2).sum(-1)
    limit = ((truth - reference) ** 2).sum(-1)
    return (distance < limit).double().mean(0)
