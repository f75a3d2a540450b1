"""What `import mlpop` shows: every command as a function.

Each takes the path of a configuration file, its values as a dict, or the typed configuration,
and `changes`, the same as `--set` on the command line. A wrong value is a `ConfigError` that
names the field; nothing is written then.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlpop.commands import compare as compare_command
from mlpop.commands import dynamics as dynamics_command
from mlpop.commands import infer as infer_command
from mlpop.commands import infer_nn as infer_nn_command
from mlpop.commands import observe as observe_command
from mlpop.commands import sbi as sbi_command
from mlpop.commands import simulate as simulate_command
from mlpop.commands import study as study_command
from mlpop.commands import train_nn as train_nn_command
from mlpop.commands.configuration import Source, parsed
from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.config.files.compare import CompareConfig
from mlpop.config.files.observe import ObserveConfig
from mlpop.config.files.regression import RegressionConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.simulate import SimulateConfig
from mlpop.config.files.study import StudyConfig
from mlpop.experiment.simulations.simulated_set import SuppliedSet
from mlpop.population.stars.database import StellarDatabase

Changes = Mapping[str, Any]

QUICK: Changes = {
    "training_data_loader.num_sim": 60,
    "test_data_loader.testing": False,
    "test_data_loader.num_predictive": 0,
    "n_processes": 1,
    "trainer.max_num_epochs": 2,
    "trainer.num_posterior_samples": 100,
    "show_profiling": False,
}
"""Changes with which an experiment only shows that it runs; its posterior means nothing."""


def run_experiment(
    configuration: Source | SbiConfig, changes: Changes | None = None
) -> sbi_command.ExperimentResult:
    """Run an experiment, `mlpop sbi`, from its configuration to its posterior.

    Example:
        >>> import mlpop
        >>> result = mlpop.run_experiment("experiments/gaussian_linear.json", mlpop.QUICK)
        >>> len(result.rounds), result.posterior.labels[0]
        (1, 'theta_1')

    Raises:
        ConfigError: the configuration contradicts itself or the data.
        MlpopError: a step failed; the MLflow run ends FAILED and says why.
    """
    return sbi_command.run_experiment(parsed(SbiConfig, configuration, changes))


def resume_experiment(
    which: str, configuration: Source | SbiConfig | None = None, changes: Changes | None = None
) -> sbi_command.ExperimentResult:
    """Continue an interrupted experiment, `mlpop sbi --resume`, to the same bits.

    Args:
        which: a run id, or `last` for the newest that is neither complete nor alive.
        configuration: by default that of the run; it may only extend that.
        changes: of `configuration`.

    Example:
        >>> import mlpop
        >>> file = "experiments/gaussian_linear.json"
        >>> changes = {**mlpop.QUICK, "trainer.truncated_prior": True}
        >>> done = mlpop.run_experiment(file, changes)
        >>> changes["trainer.num_rounds"] = 2
        >>> len(mlpop.resume_experiment(done.run_id, file, changes).rounds)
        2

    Raises:
        ConfigError: the configuration would give other results; every such field is named.
        TrackingError: there is no such run, it is complete, or a living process works on it.
        MlpopError: a step failed.
    """
    if configuration is None:
        return sbi_command.resume_experiment(which)
    return sbi_command.resume_experiment(which, parsed(SbiConfig, configuration, changes))


def infer(
    configuration: Source | SbiConfig, changes: Changes | None = None
) -> infer_command.InferResult:
    """Sample and test the posteriors of trained rounds, `mlpop infer`.

    Example:
        >>> import mlpop
        >>> file = "experiments/gaussian_linear.json"
        >>> done = mlpop.run_experiment(file, mlpop.QUICK)
        >>> where = {"infer.load_dir": f"runs:/{done.run_id}", "infer.compute_coverage": False}
        >>> len(mlpop.infer(file, {**mlpop.QUICK, **where}).rounds)
        1

    Raises:
        ConfigError: the configuration contradicts the training.
        MlpopError: a step failed.
    """
    return infer_command.infer(parsed(SbiConfig, configuration, changes))


def train_nn(
    configuration: Source | RegressionConfig,
    changes: Changes | None = None,
    *,
    convergence: float | None = None,
    trained_model: Path | None = None,
) -> train_nn_command.TrainNnResult:
    """Train a network of point estimates, `mlpop train-nn`; it is in `result.models`.

    Args:
        configuration: which data, network and training.
        changes: of it.
        convergence: replaces the threshold of every label.
        trained_model: to start from, a `.pth` file.

    Example:
        >>> import mlpop
        >>> few_stars = {
        ...     "sampling_size": 12,
        ...     "split.valid": 0.2,
        ...     "dyn_data_loader.database.NS_number": 2000,
        ...     "simulator.args.population.birth_rate_max": 0.0066,
        ... }
        >>> made = mlpop.simulate("experiments/simulate.json", few_stars)
        >>> changes = {"trials": 1, "trainer.epochs": 2, "trainer.tensorboard": False}
        >>> trained = mlpop.train_nn("experiments/train_nn.json", changes)
        >>> network = trained.models / "best_model.pth"
        >>> len(mlpop.infer_nn("experiments/infer_nn.json", network).rows)
        2

    Raises:
        ConfigError: the configuration contradicts itself or the data.
        MlpopError: a step failed.
    """
    config = parsed(RegressionConfig, configuration, changes)
    return train_nn_command.train_nn(config, convergence=convergence, trained_model=trained_model)


def infer_nn(
    configuration: Source | RegressionConfig,
    trained_model: Path | str,
    changes: Changes | None = None,
    *,
    samples: Sequence[int] = (),
) -> infer_nn_command.InferNnResult:
    """Predict the labels of a dataset, `mlpop infer-nn`; see `result.predictions`.

    Args:
        configuration: its `test_data_loader` is what is predicted.
        trained_model: a `.pth` file of `train_nn`.
        changes: of `configuration`.
        samples: rows of the dataset; all if empty.

    Example: see `train_nn`.

    Raises:
        ConfigError: the configuration does not fit the trained model.
        MlpopError: a step failed.
    """
    config = parsed(RegressionConfig, configuration, changes)
    return infer_nn_command.infer_nn(config, Path(trained_model), samples)


def simulate(
    configuration: Source | SimulateConfig, changes: Changes | None = None
) -> SuppliedSet:
    """Simulate a sweep of the parameters into a dataset, `mlpop simulate`.

    Example:
        >>> import mlpop
        >>> made = mlpop.simulate({
        ...     "simulator": {"type": "gaussian_linear", "args": {"dimension": 2}},
        ...     "parameters": {"theta_1": [-1, 1], "theta_2": [-1, 1]},
        ...     "sampling_type": "sobol",
        ...     "sampling_size": 8,
        ...     "seed": 1,
        ...     "save_dir": "doc_sweep",
        ...     "compute": {"n_processes": 1},
        ... })
        >>> mlpop.load_dataset(made.csv).theta.shape
        (8, 2)

    Raises:
        ConfigError: the parameters are not those of the simulator.
        DataError: too few simulations succeed, or the folder holds another sweep.
    """
    return simulate_command.simulate_sets(parsed(SimulateConfig, configuration, changes))


def observe(configuration: Source | ObserveConfig, changes: Changes | None = None) -> Path:
    """Make the observed sample, `mlpop observe`; return its index file, `dataset_atnf.csv`.

    Example:
        >>> import mlpop
        >>> theta = {"B_initial_log10_mean": 13.1}
        >>> few_stars = {"NS_number": 100000, "seed": 1}
        >>> few_births = {"birth_rate_max": 0.33}
        >>> sky = mlpop.simulate_population(theta, population=few_births, stars=few_stars)
        >>> catalogue = sky.write_csv("catalogue.csv")
        >>> mlpop.observe({"source": str(catalogue), "save_dir": "observed"}).name
        'dataset_atnf.csv'

    Raises:
        DataError: the catalogue cannot be read, or the maps cannot be written.
    """
    return observe_command.observe_catalogue(parsed(ObserveConfig, configuration, changes))


def compare(
    configuration: Source | CompareConfig, changes: Changes | None = None
) -> compare_command.CompareResult:
    """Compare an observed sky with simulations at a posterior or a theta, `mlpop compare`.

    Example:
        >>> import mlpop
        >>> done = mlpop.run_experiment("experiments/smoke.json", mlpop.QUICK)
        >>> posterior = {"load_dir": f"runs:/{done.run_id}", "num_predictive": 4}
        >>> found = mlpop.compare(posterior, {"compute.n_processes": 1, "seed": 1})
        >>> sorted({row.survey for row in found.comparison.rows})
        ['HTRU', 'PMPS', 'SMPS']

    Raises:
        ConfigError: the configuration names what does not exist, or no pulsars are simulated.
        MlpopError: a step failed; the MLflow run ends FAILED and says why.
    """
    return compare_command.compare(parsed(CompareConfig, configuration, changes))


def dynamics(
    configuration: Source | DynamicsConfig,
    changes: Changes | None = None,
    *,
    export_csv: Path | None = None,
    import_csv: Path | None = None,
) -> StellarDatabase:
    """Build, find or import a stellar database, `mlpop dynamics`.

    Example:
        >>> import mlpop
        >>> len(mlpop.dynamics({"NS_number": 200, "seed": 1}))
        200

    Raises:
        DataError: a file exists, is missing or is broken.
    """
    config = parsed(DynamicsConfig, configuration, changes)
    return dynamics_command.build_database(config, export_csv=export_csv, import_csv=import_csv)


def run_study(
    configuration: Source | StudyConfig, changes: Changes | None = None
) -> study_command.StudyResult:
    """Search embedding, density estimator and training with Optuna, `mlpop study`.

    Example:
        >>> import mlpop
        >>> study = {"base": "experiments/gaussian_linear.json", "max_num_epochs": 1}
        >>> len(mlpop.run_study(study, {"n_trials": 2, "n_workers": 1}).trials)
        2

    Raises:
        ConfigError: the configuration contradicts itself or its experiment.
        MlpopError: a step failed.
    """
    source = (
        str(configuration) if not isinstance(configuration, Mapping | StudyConfig) else "study"
    )
    return study_command.run_study(parsed(StudyConfig, configuration, changes), source)
