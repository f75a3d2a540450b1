"""From simulations to a calibrated posterior: estimators, training, ensembles, coverage."""

from mlpop.inference.checkpoint import EpochRecord, TrainingState, load_state, save_state
from mlpop.inference.conditioned import ConditionedPosterior, Posterior
from mlpop.inference.coverage import CoverageResult, compute_coverage, coverage_curve
from mlpop.inference.diagnostics import Calibration, calibrate, write_coverage
from mlpop.inference.ensemble import MemberResult, MemberTask, member_tasks, train_member
from mlpop.inference.estimators import (
    EmbeddingSpec,
    EmbedOnce,
    Estimator,
    EstimatorSpec,
    LikelihoodEstimator,
    RatioClassifier,
    build_estimator,
)
from mlpop.inference.mcmc import McmcOptions
from mlpop.inference.mcmc_posterior import McmcPosterior
from mlpop.inference.mcmc_report import McmcReport
from mlpop.inference.posterior import EnsemblePosterior, SamplingError
from mlpop.inference.posterior_store import load_posterior, save_posterior
from mlpop.inference.preprocessing import Preprocessing
from mlpop.inference.prior import Prior, make_prior
from mlpop.inference.proposal import Proposal, draw_proposal, make_proposal
from mlpop.inference.proposal_draw import ProposalDraw
from mlpop.inference.rng import generator_from_seed
from mlpop.inference.store import load_ensemble, load_estimator, save_estimator
from mlpop.inference.training import TrainingOptions, TrainingReport, fit, validation_split
from mlpop.inference.user_pickles import write_user_pickles

__all__ = [
    "Calibration",
    "ConditionedPosterior",
    "CoverageResult",
    "EmbedOnce",
    "EmbeddingSpec",
    "EnsemblePosterior",
    "EpochRecord",
    "Estimator",
    "EstimatorSpec",
    "LikelihoodEstimator",
    "McmcOptions",
    "McmcPosterior",
    "McmcReport",
    "MemberResult",
    "MemberTask",
    "Posterior",
    "Preprocessing",
    "Prior",
    "Proposal",
    "ProposalDraw",
    "RatioClassifier",
    "SamplingError",
    "TrainingOptions",
    "TrainingReport",
    "TrainingState",
    "build_estimator",
    "calibrate",
    "compute_coverage",
    "coverage_curve",
    "draw_proposal",
    "fit",
    "generator_from_seed",
    "load_ensemble",
    "load_estimator",
    "make_proposal",
    "load_posterior",
    "load_state",
    "make_prior",
    "member_tasks",
    "save_estimator",
    "save_posterior",
    "save_state",
    "train_member",
    "validation_split",
    "write_coverage",
    "write_user_pickles",
]
