"""mlpop: how are pulsars born? Simulation-based inference, tracked in MLflow."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlpop.commands.sbi import resume_experiment, run_experiment
    from mlpop.experiment.models.load_posterior import load_posterior
    from mlpop.simulators.base import Simulation, Simulator

__version__ = "0.1.0"

__all__ = [
    "Simulation",
    "Simulator",
    "__version__",
    "load_posterior",
    "resume_experiment",
    "run_experiment",
]

_HOMES = {
    "Simulation": "mlpop.simulators.base",
    "Simulator": "mlpop.simulators.base",
    "load_posterior": "mlpop.experiment.models.load_posterior",
    "resume_experiment": "mlpop.commands.sbi",
    "run_experiment": "mlpop.commands.sbi",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command line and workers start light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mlpop' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("mlpop."):
            raise
        raise ImportError(
            f"mlpop.{name}: this is the part of mlpop that came with an MLflow model "
            f"({__file__}); import mlpop before the model is loaded"
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)
