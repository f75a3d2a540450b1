"""A verdict on a posterior's calibration, and the coverage files."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlpop.inference.diagnostics.binomial import binomial_band
from mlpop.inference.diagnostics.coverage import (
    LEVELS,
    CoverageResult,
    centred,
    coverage_curve,
    uniform_ks,
)
from mlpop.inference.diagnostics.exchange import ALPHA, ExchangeTest, exchange_test
from mlpop.inference.diagnostics.intervals import IntervalCheck, check_intervals
from mlpop.inference.diagnostics.near import near_weights
from mlpop.inference.diagnostics.verdict import (
    VerdictName,
    deciding,
    fault,
    is_negligible,
    may_be_large,
    verdict_name,
)
from mlpop.inference.prior import Prior
from mlpop.io.files import write_array, write_atomically, write_json

REPORTED_LEVELS = (0.5, 0.68, 0.9, 0.95)

EDGE_ZONE = 0.05
"""Part of the prior's range next to an edge in which truths and draws are counted."""


@dataclass(frozen=True)
class Calibration:
    """Verdict and its numbers.

    Attributes:
        verdict: what is wrong, `calibrated`, or `too few tests`; see `verdict.verdict_name`.
        num_tests: tests that succeeded.
        num_failed: tests whose posterior could not be drawn from; they count as misses.
        num_left_out: tests that say nothing, see `CoverageResult`.
        alpha: chance that something is found wrong with a calibrated posterior.
        p_values: of Kolmogorov-Smirnov tests of ranks against uniform, uncorrected: `hpd`, `tarp`,
            and `sbc/<label>`. They do not decide.
        ks: their distances.
        shift: (label) mean of the marginal ranks minus 1/2, in standard errors.
        spread: (label) excess of their variance, in standard errors; above 0 is overconfident.
        hpd_shift: mean density rank minus 1/2, in standard errors; above 0 is overconfident.
        expected_calibration_error: mean distance of the coverage from the diagonal.
        nltp: mean negative log density of the truth, physical units; None where it is infinite.
        gain: mean log density of the truth over the prior's [nat]; 0 says nothing was learnt.
        width: (label) mean standard deviation of the posterior over that of the prior.
        poor_chains: fraction of the tests whose Markov chains did not mix, by the same limits as
            `McmcReport.problems`; None without chains. Their ranks cannot be trusted.
        p_value: how often a calibrated posterior has a statistic as large as the largest.
        critical: which the largest statistic of a calibrated posterior exceeds with chance alpha.
        statistics: by name, in standard deviations; see `scores.family` and `exchange`.
        effects: by name, mean scores: of `bias` in posterior sigmas.
        decided_by: the statistic that names the fault, or the largest one if there is none.
        fault: what the largest significant statistic says is wrong; None if none is significant.
        negligible: whether the fault is surely too small to matter.
        may_be_large: biases and widths of which a large one cannot be excluded.
        intervals: (label) what 95 % intervals hold, and what would hold 95 %.
        edge: (label) fraction of truths and of draws next to an edge of the prior.
    """

    verdict: VerdictName
    num_tests: int
    num_failed: int
    num_left_out: int = 0
    alpha: float = ALPHA
    p_values: Mapping[str, float] = field(default_factory=dict)
    ks: Mapping[str, float] = field(default_factory=dict)
    shift: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    hpd_shift: float | None = None
    expected_calibration_error: float | None = None
    nltp: float | None = None
    gain: float | None = None
    width: Mapping[str, float] = field(default_factory=dict)
    poor_chains: float | None = None
    p_value: float | None = None
    critical: float | None = None
    statistics: Mapping[str, float] = field(default_factory=dict)
    effects: Mapping[str, float] = field(default_factory=dict)
    decided_by: str | None = None
    fault: str | None = None
    negligible: bool = False
    may_be_large: tuple[str, ...] = ()
    intervals: Mapping[str, IntervalCheck] = field(default_factory=dict)
    edge: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def calibrate(
    result: CoverageResult,
    rng: np.random.Generator,
    observed: NDArray[np.floating] | None = None,
) -> Calibration:
    """Judge a posterior by where its truths lie among its draws.

    Args:
        result: of the tests.
        rng: source of the exchanges of truths with draws.
        observed: (s, d) draws of the posterior at x_o, in the unit cube; without them nothing is
            said of tests near x_o, nor of the interval there.
    """
    ok = result.success
    number = result.num_ok
    if not number:
        return Calibration("too few tests", 0, len(ok), result.num_left_out)
    pool = result.pool(rng)
    weights = None if observed is None else near_weights(pool, observed.astype(np.float64))
    test = exchange_test(pool, rng, weights=weights)
    density = centred(_ranks_with_misses(result) * result.num_samples, result.num_samples)
    tarp = centred(result.tarp[ok] * result.num_samples, result.num_samples)
    marginal = centred(result.marginal_ranks[ok], result.num_samples)
    values = {"hpd": density, "tarp": tarp}
    values |= {f"sbc/{label}": marginal[:, i] for i, label in enumerate(result.labels)}
    tests = {name: uniform_ks(value) for name, value in values.items()}
    nltp = -float(np.mean(result.log_prob[ok]))
    finite = bool(np.isfinite(nltp))
    return Calibration(
        verdict=verdict_name(test, number),
        num_tests=number,
        num_failed=len(ok) - number,
        num_left_out=result.num_left_out,
        alpha=ALPHA,
        p_values={name: p for name, (_, p) in tests.items()},
        ks={name: distance for name, (distance, _) in tests.items()},
        shift=_named(result.labels, _standard_errors(marginal - 0.5, 1 / 12)),
        spread=_named(result.labels, _standard_errors((marginal - 0.5) ** 2 - 1 / 12, 1 / 180)),
        hpd_shift=float(_standard_errors(density[:, None] - 0.5, 1 / 12)[0]),
        expected_calibration_error=float(np.abs(coverage_curve(result.rank) - LEVELS).mean()),
        nltp=nltp if finite else None,
        gain=-nltp - float(result.log_prior[ok].mean()) if finite else None,
        width=_named(result.labels, result.width[ok].mean(0)),
        poor_chains=_poor_chains(result),
        **_decision(test),
        intervals=_intervals(result, weights, observed),
        edge=_edges(result),
    )


def _in_physical_units(calibration: Calibration, prior: Prior) -> Calibration:
    """Return the same with the intervals at x_o as users know them."""
    checks = calibration.intervals
    ends = [check.conformal for check in checks.values() if check.conformal is not None]
    if not ends:
        return calibration
    low, high = prior.to_physical(torch.tensor(ends, dtype=torch.float64).T)
    physical = zip(low.tolist(), high.tolist(), strict=True)
    intervals = {
        label: replace(check, conformal=pair)
        for (label, check), pair in zip(checks.items(), physical, strict=True)
    }
    return replace(calibration, intervals=intervals)


def _decision(test: ExchangeTest) -> dict[str, Any]:
    """Return the attributes of `Calibration` that an exchange test decides."""
    found = fault(test)
    return {
        "p_value": test.p_value,
        "critical": test.critical,
        "statistics": test.by_name(),
        "effects": dict(zip(test.by_name(), test.effects.tolist(), strict=True)),
        "decided_by": test.statistics[deciding(test)].name,
        "fault": found,
        "negligible": found is not None and is_negligible(test),
        "may_be_large": tuple(statistic.name for statistic in may_be_large(test)),
    }


def _intervals(
    result: CoverageResult,
    weights: NDArray[np.float64] | None,
    observed: NDArray[np.floating] | None,
) -> dict[str, IntervalCheck]:
    return {
        label: check_intervals(
            result.marginal_ranks[:, j],
            result.num_samples,
            result.success,
            weights,
            None if observed is None else observed[:, j],
            (0.0, 1.0),
        )
        for j, label in enumerate(result.labels)
    }


def _edges(result: CoverageResult) -> dict[str, tuple[float, float]]:
    """Return label -> fraction of truths, and of draws, next to an edge of the prior."""
    ok = result.success
    truths, draws = (
        np.abs(values[ok] - 0.5) > 0.5 - EDGE_ZONE
        for values in (result.truth, result.pool_samples)
    )
    return {
        label: (float(truths[:, j].mean()), float(draws[..., j].mean()))
        for j, label in enumerate(result.labels)
    }


def _ranks_with_misses(result: CoverageResult) -> NDArray[np.float64]:
    """Return the density ranks (n,) of all tests; 1, outside of every region, if one failed."""
    return np.where(result.success, result.rank, 1.0)


def coverage_summary(result: CoverageResult) -> dict[str, Any]:
    """Return the content of `coverage.json`; without a successful test, only the counts."""
    number = result.num_ok
    summary: dict[str, Any] = {
        "n_ok": number,
        "n_total": len(result.success),
        "n_left_out": result.num_left_out,
        "num_samples": result.num_samples,
        "rule": "mlpop",
        "beta": LEVELS.tolist(),
    }
    if not number:
        return summary
    distance, p_value = uniform_ks(_ranks_with_misses(result))
    summary["coverage"] = coverage_curve(result.rank).tolist()
    summary["ks_distance"], summary["ks_p_value"] = distance, p_value
    for percent in (68, 95):
        low, high = binomial_band(LEVELS, len(result.success), percent / 100)
        summary[f"band_{percent}"] = {"low": low.tolist(), "high": high.tolist()}
    if result.r_hat is not None and result.ess is not None:
        summary["mcmc"] = {
            "r_hat_median": _finite(np.median(result.r_hat[result.success])),
            "r_hat_max": _finite(result.r_hat[result.success].max()),
            "ess_median": _finite(np.median(result.ess[result.success])),
            "ess_min": _finite(result.ess[result.success].min()),
            "poor_fraction": _poor_chains(result),
        }
    low, high = binomial_band(REPORTED_LEVELS, len(result.success), 0.95)
    ranks = _ranks_with_misses(result)
    summary["levels"] = {
        str(level): {
            "coverage": float((ranks < level).mean()),
            "band_95": [float(low[i]), float(high[i])],
        }
        for i, level in enumerate(REPORTED_LEVELS)
    }
    return summary


def write_coverage(
    folder: Path,
    result: CoverageResult,
    prior: Prior,
    rng: np.random.Generator,
    observed: NDArray[np.floating] | None = None,
) -> list[Path]:
    """Write the coverage files into `folder` and return their paths; see `calibrate`.

    `coverage_probability.npy` (12,), `posterior_samples_test_data.npz` (labels scaled like those
    of the training set; failed rows are 0 and False in `success`), `ranks.npy` (n, d),
    `coverage.json` and `calibration.json`. The first is left out where no test succeeded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = ("posterior_samples_test_data.npz", "ranks.npy", "coverage.json", "calibration.json")
    paths = [folder / name for name in files]
    scaling = None if prior.scaling is None else prior.scaling.to_dict()
    samples = _as_in_files(prior, result.samples)
    samples[~result.success] = 0.0
    buffer = io.BytesIO()
    np.savez(
        buffer,
        true_values=_as_in_files(prior, result.truth),
        posterior_samples=samples,
        success=result.success,
        labels=np.array(result.labels),
        rank=result.rank,
        scaling=np.array(json.dumps(scaling)),
        thinning=np.array(result.thinning),
    )
    write_atomically(paths[0], buffer.getvalue())
    write_array(paths[1], result.marginal_ranks)
    write_json(paths[2], coverage_summary(result))
    write_json(paths[3], asdict(_in_physical_units(calibrate(result, rng, observed), prior)))
    if result.num_ok:
        paths.insert(0, folder / "coverage_probability.npy")
        write_array(paths[0], coverage_curve(result.rank))
    return paths


def _as_in_files(prior: Prior, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    values = prior.to_files(prior.to_physical(torch.from_numpy(unit)))
    return values.astype(np.float32)


def _poor_chains(result: CoverageResult) -> float | None:
    poor = result.poor_chains
    return None if poor is None else float(poor[result.success].mean())


def _finite(value: np.floating) -> float | None:
    """Chains that never moved have neither R-hat nor effective draws."""
    return float(value) if np.isfinite(value) else None


def _standard_errors(deviations: NDArray[np.float64], variance: float) -> NDArray[np.float64]:
    return deviations.mean(0) / np.sqrt(variance / len(deviations))


def _named(labels: tuple[str, ...], values: NDArray[np.float64]) -> dict[str, float]:
    return {label: float(value) for label, value in zip(labels, values, strict=True)}
