"""What a round is worth: the posterior at x_o, and whether its credible regions can be trusted."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.datasets.loading import Dataset
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.experiment.output_tree import RoundFolders
from mlpop.inference.diagnostics.calibration import Calibration, calibrate, write_coverage
from mlpop.inference.diagnostics.coverage import LEVELS, compute_coverage, coverage_curve
from mlpop.inference.mcmc.report import McmcReport
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.prior import Prior
from mlpop.inference.proposals.proposal_draw import ProposalDraw
from mlpop.io.files import write_json
from mlpop.networks.rng import generator_from_seed
from mlpop.plots import corner, coverage, intervals, proposal_corner, ranks, ranks_cumulative
from mlpop.tracking import Estimate, save_figure

logger = logging.getLogger(__name__)

Files = dict[str, Path]


@dataclass(frozen=True)
class PosteriorReport:
    """The posterior at the observed sample.

    Attributes:
        samples: (S, D) physical units.
        estimates: median and 95 % interval of every label.
        files: artifact name -> file.
        chains: `mcmc/<statistic>` numbers of Markov chains; empty where there are none.
    """

    samples: NDArray[np.float64]
    estimates: Sequence[Estimate]
    files: Files
    chains: Mapping[str, float]


@dataclass(frozen=True)
class CoverageReport:
    """Calibration of the posterior over the test set, and its files."""

    calibration: Calibration
    files: Files


def sample_observed(
    posterior: Posterior,
    observed: ObservedSample,
    folders: RoundFolders,
    *,
    num_samples: int,
    root_seed: int,
    round_: int,
) -> PosteriorReport:
    """Draw from the posterior at x_o; write `samples_posterior.pt`, corner plot and summary.

    As documented, `samples_posterior.pt` holds scaled theta; `summary.json` has the scaling, the
    estimates in physical units, and what is wrong with Markov chains.

    Raises:
        SamplingError: the posterior has next to no mass inside the prior.
    """
    seed = torch_seed(seed_sequence(root_seed, Purpose.POSTERIOR_SAMPLES, round_))
    samples, chains, problems = _samples(
        posterior, observed, num_samples, generator_from_seed(seed)
    )
    prior = posterior.prior
    torch.save(prior.to_scaled(samples), folders.samples_posterior)
    truth = observed.truth
    estimates = [
        Estimate(label, median, low, high, None if truth is None else truth.get(label))
        for label, (low, median, high) in zip(
            prior.labels, intervals(samples).tolist(), strict=True
        )
    ]
    figure = corner(
        samples,
        prior.labels,
        truth=None if truth is None else [truth[label] for label in prior.labels],
        bounds=list(zip(prior.low, prior.high, strict=True)),
    )
    pdf, png = save_figure(figure, folders.corner_plot)
    summary = folders.models / "summary.json"
    scaling = None if prior.scaling is None else prior.scaling.to_dict()
    write_json(
        summary,
        {
            "num_samples": num_samples,
            "posterior": {
                e.label: {"median": e.median, "low_95": e.low, "high_95": e.high, "truth": e.truth}
                for e in estimates
            },
            "scaling": scaling,
            "problems": problems,
        },
    )
    files = _named(folders.samples_posterior, pdf, png, summary)
    return PosteriorReport(samples, estimates, files, chains)


def _samples(
    posterior: Posterior, observed: ObservedSample, num_samples: int, generator: Generator
) -> tuple[NDArray[np.float64], dict[str, float], list[str]]:
    """Draw at x_o; for Markov chains also return their numbers, and what went badly: a warning."""
    if not isinstance(posterior, McmcPosterior):
        return posterior.sample(num_samples, observed.x, generator), {}, []
    samples, report = posterior.sample_with_report(num_samples, observed.x, generator)
    problems = report.problems()
    for problem in problems:
        logger.warning("posterior at the observed sample: %s", problem)
    return samples, chain_metrics(report), problems


def plot_next_proposal(
    draw: ProposalDraw, prior: Prior, folders: RoundFolders, next_round: int
) -> Files:
    """Save and plot draws of the proposal of the next round, as documented.

    `samples_prior_<round>.pt` holds scaled theta, like `samples_posterior.pt`.
    """
    torch.save(draw.theta, folders.samples_prior(next_round))
    figure = proposal_corner(prior.to_physical(draw.theta), prior.labels, prior.low, prior.high)
    return _named(
        folders.samples_prior(next_round),
        *save_figure(figure, folders.corner_plot_prior(next_round)),
    )


def measure_coverage(
    posterior: Posterior,
    test_set: Dataset,
    folders: RoundFolders,
    *,
    root_seed: int,
    round_: int,
    typicality: Mapping[str, float],
    num_samples: int | None = None,
) -> CoverageReport:
    """Measure coverage on the test set and write the documented files and plots.

    Args:
        posterior: what to test.
        test_set: simulations of known theta.
        folders: of the round.
        root_seed: of the experiment.
        round_: its number.
        typicality: p-values of x_o, which the verdict takes into account.
        num_samples: draws for each test, by default those of `compute_coverage`.
    """
    seed = torch_seed(seed_sequence(root_seed, Purpose.COVERAGE, round_))
    result = compute_coverage(
        posterior, test_set.theta, test_set.x, generator_from_seed(seed), num_samples=num_samples
    )
    calibration = calibrate(result).with_typicality(typicality)
    files = _named(
        *write_coverage(folders.models, result, posterior.prior, calibration=calibration)
    )
    if result.num_ok:
        curve = coverage_curve(result.rank)
        figures = {
            folders.coverage_plot: coverage(LEVELS, curve, result.num_ok),
            folders.models / "ranks_histograms.pdf": ranks(
                result.marginal_ranks[result.success], result.labels, result.num_samples
            ),
            folders.models / "ranks_cumulative.pdf": ranks_cumulative(
                result.marginal_ranks[result.success], result.labels, result.num_samples
            ),
        }
        for path, figure in figures.items():
            files |= _named(*save_figure(figure, path))
    return CoverageReport(calibration, files)


def estimate_metrics(estimates: Sequence[Estimate]) -> dict[str, float]:
    """Return `posterior/<label>/<statistic>` numbers for MLflow."""
    metrics = {}
    for estimate in estimates:
        metrics[f"posterior/{estimate.label}/median"] = estimate.median
        metrics[f"posterior/{estimate.label}/low_95"] = estimate.low
        metrics[f"posterior/{estimate.label}/high_95"] = estimate.high
    return metrics


def chain_metrics(report: McmcReport) -> dict[str, float]:
    """Return `mcmc/<statistic>` numbers for MLflow: of the worst label and member."""
    numbers = {
        "mcmc/r_hat": max((v for v in report.r_hat.values() if v is not None), default=None),
        "mcmc/ess": min((v for v in report.ess.values() if v is not None), default=None),
        "mcmc/evidence_ess": min(report.evidence_ess, default=None),
    }
    return {name: float(value) for name, value in numbers.items() if value is not None}


def coverage_metrics(calibration: Calibration) -> dict[str, float]:
    """Return `coverage/<statistic>` numbers for MLflow."""
    values: Mapping[str, Any] = {
        "coverage/ece": calibration.expected_calibration_error,
        "coverage/ks": calibration.ks.get("hpd"),
        "coverage/nltp": calibration.nltp,
        "coverage/gain_nat": calibration.gain,
        "coverage/tests": calibration.num_tests,
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def _named(*paths: Path) -> Files:
    return {path.name: path for path in paths}
