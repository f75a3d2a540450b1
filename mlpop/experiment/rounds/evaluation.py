"""The testing stage of a round: the posterior at x_o, and what all diagnostics say of it."""

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlpop.compute import Purpose
from mlpop.datasets.loading import Dataset
from mlpop.experiment.diagnostics import table
from mlpop.experiment.diagnostics.diagnostic import Evidence, Finding, Simulate
from mlpop.experiment.diagnostics.table import Files
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.experiment.inputs.problem import LearningProblem
from mlpop.experiment.output_tree import RoundFolders
from mlpop.experiment.progress import counted
from mlpop.experiment.rounds.context import OpenRound
from mlpop.experiment.rounds.datasets import SetKind, supply_at
from mlpop.experiment.rounds.round_tests import RoundTests
from mlpop.experiment.simulations.simulated_set import SuppliedSet
from mlpop.inference.diagnostics.coverage import compute_coverage
from mlpop.inference.mcmc.report import McmcReport
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.prior import Prior
from mlpop.inference.proposals.proposal_draw import ProposalDraw
from mlpop.io.digits import POSTERIOR, rounded_interval
from mlpop.io.files import write_atomically, write_json
from mlpop.plots import corner, intervals
from mlpop.tracking import Estimate, save_figure

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What the testing stage gave.

    Attributes:
        estimates: median and 95 % interval of every label.
        findings: diagnostic -> what it says.
        numbers: all numbers, by their names in MLflow.
        files: artifact name -> file, with those of what diagnostics have learned here.
    """

    estimates: Sequence[Estimate]
    findings: Mapping[str, Finding]
    numbers: dict[str, float]
    files: Files


def evaluate(
    current: OpenRound,
    posterior: Posterior,
    observed: ObservedSample,
    learned: Mapping[str, Any],
    tests: Callable[[], RoundTests | None],
    problem: LearningProblem,
    sets: dict[str, SuppliedSet],
    *,
    num_samples: int,
    num_predictive: int,
    section: str,
    elsewhere: bool = False,
) -> Evaluation:
    """Draw from the posterior of a round at x_o, and let all diagnostics examine it.

    Args:
        current, posterior, observed, learned, elsewhere: see `Evidence`.
        tests: gives the test simulations, None without testing; asked after x_o was looked at.
        problem: labels and channels of all simulations.
        sets: of the round; simulations that diagnostics ask for are added.
        num_samples: draws at x_o.
        num_predictive: simulations at such draws in the last round.
        section: name of the time that the tests take.

    Raises:
        SamplingError: the posterior cannot be drawn from.
    """
    launch, number, folders = current.launch, current.number, current.folders
    evidence = Evidence(
        posterior,
        observed,
        learned,
        folders.models,
        launch.root_seed,
        number,
        num_predictive if current.is_last else 0,
        None if launch.plan is None else _simulate(current, problem, sets),
        elsewhere=elsewhere,
    )
    memories = (folders.models / name for name in table.memory_files())
    files = {path.name: path for path in memories if path.is_file()}
    files |= table.examine_observed(evidence)
    samples, estimates, drawn_files, chains = _sample_observed(evidence, folders, num_samples)
    files |= table.examine_posterior(evidence, samples)
    simulations = tests()
    if simulations is not None:
        evidence = replace(evidence, theta_checks=simulations.checks)
        data = simulations.data
        with launch.profiler.section(f"{section}{number}"):
            generator = evidence.generator(Purpose.COVERAGE)
            title = f"round {number}: posteriors of the tests"
            with counted(title, len(data.theta), "test") as tell:
                draws = compute_coverage(
                    posterior,
                    data.theta,
                    data.x,
                    generator,
                    log_ratio=simulations.log_ratio,
                    on_progress=lambda done, _: tell(done),
                )
            files |= table.examine_tests(evidence, data, draws)
    findings = table.read_findings(folders.models)
    table.gather(folders.models, findings)
    for finding in findings.values():
        for sentence in finding.sentences:
            logger.info("round %d: %s", number, sentence)
    numbers = table.numbers(findings)
    for e in estimates:
        of_label = rounded_interval(e.low, e.median, e.high)
        for end, value in zip(("low_95", "median", "high_95"), of_label, strict=True):
            numbers[f"{POSTERIOR}{e.label}/{end}"] = value
    return Evaluation(estimates, findings, numbers | chains, drawn_files | files)


def _simulate(
    current: OpenRound, problem: LearningProblem, sets: dict[str, SuppliedSet]
) -> Simulate:
    def simulate(use: str, purpose: Purpose, theta: NDArray[np.float64]) -> Dataset:
        kind = SetKind(use, Purpose.DIAGNOSTICS, purpose)
        sets[use], data = supply_at(current, kind, theta, problem)
        return data

    return simulate


def _sample_observed(
    evidence: Evidence, folders: RoundFolders, num_samples: int
) -> tuple[NDArray[np.float64], list[Estimate], Files, dict[str, float]]:
    """Draw from the posterior at x_o; write `samples_posterior.pt`, corner plot and summary.

    As documented, `samples_posterior.pt` holds scaled theta; `summary.json` has the scaling, the
    estimates in physical units, and what is wrong with Markov chains.
    """
    posterior, x, truth = evidence.posterior, evidence.observed.x, evidence.observed.truth
    prior, generator = posterior.prior, evidence.generator(Purpose.POSTERIOR_SAMPLES)
    chains: dict[str, float] = {}
    problems: list[str] = []
    if isinstance(posterior, McmcPosterior):
        logger.info("posterior at the observed sample: Markov chains run")
        samples, report = posterior.sample_with_report(num_samples, x, generator)
        chains, problems = _chain_metrics(report), report.problems()
        for problem in problems:
            logger.warning("posterior at the observed sample: %s", problem)
    else:
        samples = posterior.sample(num_samples, x, generator)
    _write_draws(folders.samples_posterior, prior, samples)
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
        bounds=prior.ranges,
    )
    pdf, png = save_figure(figure, folders.corner_plot)
    summary = folders.models / "summary.json"
    write_json(
        summary,
        {
            "num_samples": num_samples,
            "posterior": {
                e.label: {"median": e.median, "low_95": e.low, "high_95": e.high, "truth": e.truth}
                for e in estimates
            },
            "scaling": None if prior.scaling is None else prior.scaling.to_dict(),
            "problems": problems,
        },
    )
    files = table.named((folders.samples_posterior, pdf, png, summary))
    return samples, estimates, files, chains


def _write_draws(path: Path, prior: Prior, theta: NDArray[np.float64]) -> None:
    buffer = io.BytesIO()
    torch.save(_as_in_files(prior, theta), buffer)
    write_atomically(path, buffer.getvalue())


def _as_in_files(prior: Prior, theta: NDArray[np.float64]) -> Tensor:
    """Return physical theta (n, d) as the documented files hold them: float32, scaled."""
    return torch.from_numpy(prior.to_files(theta).astype(np.float32))


def _chain_metrics(report: McmcReport) -> dict[str, float]:
    """Return `mcmc/<statistic>` numbers for MLflow: of the worst label and member."""
    numbers = {
        "mcmc/r_hat": max((v for v in report.r_hat.values() if v is not None), default=None),
        "mcmc/ess": min((v for v in report.ess.values() if v is not None), default=None),
        "mcmc/evidence_ess": min(report.evidence_ess, default=None),
    }
    return {name: float(value) for name, value in numbers.items() if value is not None}


def plot_next_proposal(
    draw: ProposalDraw, prior: Prior, folders: RoundFolders, next_round: int
) -> Files:
    """Save and plot draws of the proposal of the next round, as documented.

    `samples_prior_<round>.pt` holds scaled theta, like `samples_posterior.pt`.
    """
    path = folders.samples_prior(next_round)
    theta = prior.to_physical(draw.theta)
    _write_draws(path, prior, theta)
    figure = corner(
        theta, prior.labels, bounds=prior.ranges, prior=[m.cdf for m in prior.marginals]
    )
    return table.named((path, *save_figure(figure, folders.corner_plot_prior(next_round))))
