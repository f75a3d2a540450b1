"""Which posterior an experiment's estimators make."""

from collections.abc import Sequence

from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.inputs.problem import LearningProblem
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.posteriors.posterior import Posterior


def make_posterior(config: SbiConfig, estimators: Sequence, problem: LearningProblem) -> Posterior:
    """Combine the members of a round, to be drawn from as their method says."""
    if config.trainer.method.sampling == "direct":
        return EnsemblePosterior(estimators, problem.prior, preprocessing=problem.preprocessing)
    return McmcPosterior(
        estimators,
        problem.prior,
        preprocessing=problem.preprocessing,
        options=McmcOptions(**config.mcmc_sampler.model_dump()),
    )
