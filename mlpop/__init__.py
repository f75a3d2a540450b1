"""mlpop: how are pulsars born? Simulation-based inference, tracked in MLflow.

Commands as functions, each with a configuration file or a dict, and changes to it:
`run_experiment` (`mlpop sbi`), `resume_experiment`, `infer`, `run_study`, `dynamics`, `simulate`,
`observe`, `compare`, `train_nn`, `infer_nn`. One Galaxy: `simulate_population`. A posterior that
was made: `load_posterior`. A simulator of one's own: `Simulator`, `check_simulator`.

Example:
    >>> import mlpop
    >>> result = mlpop.run_experiment("experiments/gaussian_linear.json", mlpop.QUICK)
    >>> result.posterior.sample(1000, seed=1).shape
    (1000, 10)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlpop.commands.one_population import Population, simulate_population
    from mlpop.commands.python import (
        QUICK,
        compare,
        dynamics,
        infer,
        infer_nn,
        observe,
        resume_experiment,
        run_experiment,
        run_study,
        simulate,
        train_nn,
    )
    from mlpop.datasets.loading import load_dataset
    from mlpop.errors import SimulationFailed
    from mlpop.experiment.logs import show_on_terminal
    from mlpop.experiment.models.load_posterior import load_posterior
    from mlpop.simulators.base import Simulation, Simulator
    from mlpop.testing import check_simulator

__version__ = "0.1.0"

__all__ = [
    "QUICK",
    "Population",
    "Simulation",
    "SimulationFailed",
    "Simulator",
    "__version__",
    "check_simulator",
    "compare",
    "dynamics",
    "infer",
    "infer_nn",
    "load_dataset",
    "load_posterior",
    "observe",
    "resume_experiment",
    "run_experiment",
    "run_study",
    "show_on_terminal",
    "simulate",
    "simulate_population",
    "train_nn",
]

_DOOR = "mlpop.commands.python"
_HOMES = {
    "Population": "mlpop.commands.one_population",
    "Simulation": "mlpop.simulators.base",
    "SimulationFailed": "mlpop.errors",
    "Simulator": "mlpop.simulators.base",
    "check_simulator": "mlpop.testing.simulators",
    "load_dataset": "mlpop.datasets.loading",
    "load_posterior": "mlpop.experiment.models.load_posterior",
    "show_on_terminal": "mlpop.experiment.logs",
    "simulate_population": "mlpop.commands.one_population",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command line and workers start light."""
    if name not in __all__:
        raise AttributeError(f"module 'mlpop' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(_HOMES.get(name, _DOOR)), name)
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("mlpop."):
            raise
        raise ImportError(
            f"mlpop.{name}: this is the part of mlpop that came with an MLflow model "
            f"({__file__}); import mlpop before the model is loaded"
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)
