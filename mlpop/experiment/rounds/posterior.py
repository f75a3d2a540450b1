"""Which posterior an experiment's estimators make."""

from collections.abc import Sequence

from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.inputs.problem import LearningProblem
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.posteriors.posterior import EnsemblePosterior


def make_posterior(
    config: SbiConfig, estimators: Sequence, problem: LearningProblem
) -> EnsemblePosterior | McmcPosterior:
    """Combine the members of a round; snpe's are drawn from directly, the others by chains."""
    if config.trainer.type == "snpe":
        return EnsemblePosterior(estimators, problem.prior, preprocessing=problem.preprocessing)

    sampler = config.mcmc_sampler
    options = McmcOptions(type=sampler.type, num_chains=sampler.num_chains, thin=sampler.thin)
    return McmcPosterior(
        estimators, problem.prior, preprocessing=problem.preprocessing, options=options
    )
