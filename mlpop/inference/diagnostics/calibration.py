"""A verdict on a posterior's calibration, and the coverage files."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from mlpop.inference.diagnostics.binomial import binomial_band
from mlpop.inference.diagnostics.coverage import (
    LEVELS,
    CoverageResult,
    centred,
    coverage_curve,
    uniform_ks,
)
from mlpop.inference.mcmc.report import MAX_R_HAT, least_ess
from mlpop.inference.prior import Prior
from mlpop.io.files import write_json

VerdictName = Literal["calibrated", "overconfident", "underconfident", "biased", "too few tests"]

MIN_TESTS = 50
"""Fewer tests cannot tell a useful posterior from a bad one; no verdict is given."""

ALPHA = 0.05
"""Chance that a calibrated posterior is rejected, over all tests together."""

REPORTED_LEVELS = (0.5, 0.68, 0.9, 0.95)


@dataclass(frozen=True)
class Calibration:
    """Verdict and its numbers.

    Attributes:
        verdict: `too few tests` below `MIN_TESTS`; `calibrated` if no test rejects; else what
            explains the rejection best: a shift of some label is `biased`, credible regions that
            hold the truth too rarely are `overconfident`, too often `underconfident`.
        num_tests: tests that succeeded.
        num_failed: tests whose posterior could not be drawn from.
        alpha: `ALPHA`.
        p_values: of every test, uncorrected: `hpd`, `tarp`, and `sbc/<label>`.
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
    """

    verdict: VerdictName
    num_tests: int
    num_failed: int
    alpha: float
    p_values: dict[str, float]
    ks: dict[str, float]
    shift: dict[str, float]
    spread: dict[str, float]
    hpd_shift: float | None
    expected_calibration_error: float | None
    nltp: float | None
    gain: float | None
    width: dict[str, float]
    poor_chains: float | None = None


def calibrate(result: CoverageResult) -> Calibration:
    """Judge a posterior by the ranks of its truths.

    Every test is a Kolmogorov-Smirnov test of ranks against uniform, at `ALPHA` divided by the
    number of tests (Bonferroni).
    """
    ok = result.success
    number = result.num_ok
    if not number:
        return Calibration(
            "too few tests", 0, len(ok), ALPHA, {}, {}, {}, {}, None, None, None, None, {}
        )
    density = centred(result.rank[ok] * result.num_samples, result.num_samples)
    tarp = centred(result.tarp[ok] * result.num_samples, result.num_samples)
    marginal = centred(result.marginal_ranks[ok], result.num_samples)
    values = {"hpd": density, "tarp": tarp}
    values |= {f"sbc/{label}": marginal[:, i] for i, label in enumerate(result.labels)}
    tests = {name: uniform_ks(value) for name, value in values.items()}
    shift = _standard_errors(marginal - 0.5, 1 / 12)
    spread = _standard_errors((marginal - 0.5) ** 2 - 1 / 12, 1 / 180)
    hpd_shift = float(_standard_errors(density[:, None] - 0.5, 1 / 12)[0])
    rejected = min(p for _, p in tests.values()) < ALPHA / len(tests)
    nltp = -float(np.mean(result.log_prob[ok]))
    finite = bool(np.isfinite(nltp))
    return Calibration(
        verdict=_verdict(number, rejected, shift, spread, hpd_shift),
        num_tests=number,
        num_failed=len(ok) - number,
        alpha=ALPHA,
        p_values={name: p for name, (_, p) in tests.items()},
        ks={name: distance for name, (distance, _) in tests.items()},
        shift=_named(result.labels, shift),
        spread=_named(result.labels, spread),
        hpd_shift=hpd_shift,
        expected_calibration_error=float(np.abs(coverage_curve(result.rank) - LEVELS).mean()),
        nltp=nltp if finite else None,
        gain=-nltp - float(result.log_prior[ok].mean()) if finite else None,
        width=_named(result.labels, result.width[ok].mean(0)),
        poor_chains=_poor_chains(result),
    )


def coverage_summary(result: CoverageResult) -> dict[str, Any]:
    """Return the content of `coverage.json`; without a successful test, only the counts."""
    number = result.num_ok
    summary: dict[str, Any] = {
        "n_ok": number,
        "n_total": len(result.success),
        "num_samples": result.num_samples,
        "rule": "mlpop",
        "beta": LEVELS.tolist(),
    }
    if not number:
        return summary
    distance, p_value = uniform_ks(result.rank[result.success])
    summary["coverage"] = coverage_curve(result.rank).tolist()
    summary["ks_distance"], summary["ks_p_value"] = distance, p_value
    for percent in (68, 95):
        low, high = binomial_band(LEVELS, number, percent / 100)
        summary[f"band_{percent}"] = {"low": low.tolist(), "high": high.tolist()}
    if result.r_hat is not None and result.ess is not None:
        summary["mcmc"] = {
            "r_hat_median": _finite(np.median(result.r_hat[result.success])),
            "r_hat_max": _finite(result.r_hat[result.success].max()),
            "ess_median": _finite(np.median(result.ess[result.success])),
            "ess_min": _finite(result.ess[result.success].min()),
            "poor_fraction": _poor_chains(result),
        }
    low, high = binomial_band(REPORTED_LEVELS, number, 0.95)
    ranks = result.rank[result.success]
    summary["levels"] = {
        str(level): {
            "coverage": float((ranks < level).mean()),
            "band_95": [float(low[i]), float(high[i])],
        }
        for i, level in enumerate(REPORTED_LEVELS)
    }
    return summary


def write_coverage(folder: Path, result: CoverageResult, prior: Prior) -> list[Path]:
    """Write the coverage files into `folder` and return their paths.

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
    np.savez(
        paths[0],
        true_values=_as_in_files(prior, result.truth),
        posterior_samples=samples,
        success=result.success,
        labels=np.array(result.labels),
        rank=result.rank,
        scaling=np.array(json.dumps(scaling)),
        thinning=np.array(result.thinning),
    )
    np.save(paths[1], result.marginal_ranks)
    write_json(paths[2], coverage_summary(result))
    write_json(paths[3], asdict(calibrate(result)))
    if result.num_ok:
        paths.insert(0, folder / "coverage_probability.npy")
        np.save(paths[0], coverage_curve(result.rank))
    return paths


def _verdict(
    number: int,
    rejected: bool,
    shift: NDArray[np.float64],
    spread: NDArray[np.float64],
    hpd_shift: float,
) -> VerdictName:
    if number < MIN_TESTS:
        return "too few tests"
    if not rejected:
        return "calibrated"
    significant = float(stats.norm.isf(ALPHA / (2 * len(shift))))
    largest = float(np.abs(shift).max())
    if largest > significant and largest > float(np.abs(spread).max()):
        return "biased"
    return "overconfident" if max(hpd_shift, *spread, key=abs) > 0 else "underconfident"


def _as_in_files(prior: Prior, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    values = prior.to_files(prior.to_physical(torch.from_numpy(unit)))
    return values.astype(np.float32)


def _poor_chains(result: CoverageResult) -> float | None:
    if result.r_hat is None or result.ess is None:
        return None
    ok = result.success
    fine = (result.r_hat[ok] <= MAX_R_HAT) & (result.ess[ok] >= least_ess(result.num_samples))
    return float(1 - fine.mean())


def _finite(value: np.floating) -> float | None:
    """Chains that never moved have neither R-hat nor effective draws."""
    return float(value) if np.isfinite(value) else None


def _standard_errors(deviations: NDArray[np.float64], variance: float) -> NDArray[np.float64]:
    return deviations.mean(0) / np.sqrt(variance / len(deviations))


def _named(labels: tuple[str, ...], values: NDArray[np.float64]) -> dict[str, float]:
    return {label: float(value) for label, value in zip(labels, values, strict=True)}
