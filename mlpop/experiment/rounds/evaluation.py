"""The testing stage of a round: the posterior at x_o, and what all diagnostics say of it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from mlpop.compute import Purpose
from mlpop.datasets.loading import Dataset
from mlpop.experiment.diagnostics import table
from mlpop.experiment.diagnostics.diagnostic import DrawnTests, Evidence, Finding
from mlpop.experiment.output_tree import RoundFolders
from mlpop.experiment.rounds.context import Launch
from mlpop.inference.diagnostics.coverage import compute_coverage
from mlpop.inference.mcmc.report import McmcReport
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.prior import Prior
from mlpop.inference.proposals.proposal_draw import ProposalDraw
from mlpop.io.files import write_json
from mlpop.plots import corner, intervals
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
class Evaluation:
    """What the testing stage gave.

    Attributes:
        posterior: at x_o.
        findings: diagnostic -> what it says.
        files: artifact name -> file, of both, and of what diagnostics have learned here.
    """

    posterior: PosteriorReport
    findings: Mapping[str, Finding]
    files: Files

    @property
    def numbers(self) -> dict[str, float]:
        """All numbers, by their names in MLflow."""
        report = self.posterior
        return {
            **table.numbers(self.findings),
            **estimate_metrics(report.estimates),
            **report.chains,
        }


def evaluate(
    launch: Launch,
    evidence: Evidence,
    tests: Callable[[], Dataset | None],
    *,
    num_samples: int,
    section: str,
) -> Evaluation:
    """Draw from the posterior of a round at x_o, and let all diagnostics examine it.

    Args:
        launch: of the experiment, or of an inference.
        evidence: the posterior, x_o, and what diagnostics have learned of the simulations.
        tests: gives the test simulations, None without testing; asked after x_o was looked at.
        num_samples: draws at x_o.
        section: name of the time that the tests take.

    Raises:
        SamplingError: the posterior has next to no mass inside the prior.
    """
    folders = launch.tree.round(evidence.round)
    memories = (folders.models / name for name in table.memory_files())
    files = {path.name: path for path in memories if path.is_file()}
    files |= table.examine_observed(evidence)
    report = sample_observed(evidence, folders, num_samples)
    simulations = tests()
    if simulations is not None:
        with launch.profiler.section(f"{section}{evidence.round}"):
            draws = compute_coverage(
                evidence.posterior,
                simulations.theta,
                simulations.x,
                evidence.generator(Purpose.COVERAGE),
            )
            files |= table.examine_tests(evidence, DrawnTests(simulations, draws))
    findings = table.read_findings(evidence.folder)
    table.gather(evidence.folder, findings)
    for finding in findings.values():
        for sentence in finding.sentences:
            logger.info("round %d: %s", evidence.round, sentence)
    return Evaluation(report, findings, report.files | files)


def sample_observed(
    evidence: Evidence, folders: RoundFolders, num_samples: int
) -> PosteriorReport:
    """Draw from the posterior at x_o; write `samples_posterior.pt`, corner plot and summary.

    As documented, `samples_posterior.pt` holds scaled theta; `summary.json` has the scaling, the
    estimates in physical units, and what is wrong with Markov chains.

    Raises:
        SamplingError: the posterior has next to no mass inside the prior.
    """
    posterior, observed = evidence.posterior, evidence.observed
    samples, chains, problems = _samples(
        posterior, observed.x, num_samples, evidence.generator(Purpose.POSTERIOR_SAMPLES)
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
    posterior: Posterior, x: NDArray[np.float32], num_samples: int, generator: Generator
) -> tuple[NDArray[np.float64], dict[str, float], list[str]]:
    """Draw at x_o; for Markov chains also return their numbers, and what went badly: a warning."""
    if not isinstance(posterior, McmcPosterior):
        return posterior.sample(num_samples, x, generator), {}, []
    samples, report = posterior.sample_with_report(num_samples, x, generator)
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
    bounds = list(zip(prior.low, prior.high, strict=True))
    figure = corner(prior.to_physical(draw.theta), prior.labels, bounds=bounds, with_prior=True)
    return _named(
        folders.samples_prior(next_round),
        *save_figure(figure, folders.corner_plot_prior(next_round)),
    )


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


def _named(*paths: Path) -> Files:
    return {path.name: path for path in paths}
