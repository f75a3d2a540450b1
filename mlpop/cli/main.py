"""Every command of mlpop, and nothing else: parse, call, turn an error into one message."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from mlpop import __version__
from mlpop.cli import options
from mlpop.errors import MlpopError
from mlpop.experiment.logs import show_on_terminal

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__)
def cli() -> None:
    """How are pulsars born? Simulation-based inference of pulsar populations."""


def _on_command_line(context: click.Context, name: str) -> bool:
    """Whether a parameter is on the command line, not left at its default."""
    source = context.get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


def _values(configuration: Path, assignments: tuple[str, ...] | list[str]) -> dict[str, Any]:
    from mlpop.config.base import apply_overrides, read_json

    if str(configuration).startswith("runs:/"):
        return apply_overrides(_artifact(str(configuration)), assignments)
    return apply_overrides(read_json(configuration), assignments)


def _artifact(uri: str) -> dict[str, Any]:
    """Read a configuration that is an artifact of a run, `runs:/<run id>/<name>`."""
    from mlpop.errors import ConfigError
    from mlpop.experiment.resume.attempts import recorded_json
    from mlpop.tracking import connect

    run_id, _, name = uri.removeprefix("runs:/").partition("/")
    if not run_id or not name:
        raise ConfigError(f"{uri}: expected runs:/<run id>/<name of a JSON artifact>")
    return recorded_json(connect(), run_id, name)


@cli.command()
@options.configured("experiments/main.json")
@options.documented(options.SBI)
@click.option("--resume", metavar="RUN_ID|last", help="Continue an interrupted experiment.")
@click.option(
    "--print-job-script",
    is_flag=True,
    help="Print what is submitted for a job of Dask workers, and do nothing else.",
)
@click.pass_context
def sbi(
    context: click.Context,
    /,
    configuration: Path,
    assignments: tuple[str, ...],
    resume: str | None,
    print_job_script: bool,
    **flags: Any,
) -> None:
    """Infer how pulsars are born: simulate, train, and sample the posterior at x_o."""
    from mlpop.config.files.sbi import SbiConfig

    changes = [*options.assignments(options.SBI, flags), *assignments]
    if print_job_script:
        from mlpop.compute.backends.factory import job_script

        config = SbiConfig.parse(_values(configuration, changes), str(configuration))
        click.echo(job_script(config.compute, config.workers_dask))
        return
    from mlpop.commands.sbi import resume_experiment, run_experiment

    if resume is not None and not (_on_command_line(context, "configuration") or changes):
        resume_experiment(resume)
        return
    config = SbiConfig.parse(_values(configuration, changes), str(configuration))
    if resume is None:
        run_experiment(config)
    else:
        resume_experiment(resume, config)


@cli.command()
@options.configured("experiments/main.json")
@options.documented(options.INFER)
def infer(configuration: Path, assignments: tuple[str, ...], **flags: Any) -> None:
    """Sample and test the posteriors of trained rounds, with the configuration they came from."""
    from mlpop.commands.infer import infer
    from mlpop.config.files.sbi import SbiConfig

    values = _values(configuration, [*options.assignments(options.INFER, flags), *assignments])
    infer(SbiConfig.parse(values, str(configuration)))


@cli.command("train-nn", cls=options.SpacedLists)
@options.configured(options.DEFAULT)
@options.documented(options.TRAIN_NN, packaged=True)
@click.option(
    "--convergence", type=float, show_default="0.5", help="Replace the threshold of every label."
)
@click.option(
    "--trained_model",
    type=FILE,
    help="Start from this trained model; trial 1 goes on from it if it is a checkpoint.",
)
@click.option("--resume", metavar="RUN_ID|last", help="Continue an interrupted training.")
@click.pass_context
def train_nn(
    context: click.Context,
    /,
    configuration: Path,
    assignments: tuple[str, ...],
    convergence: float | None,
    trained_model: Path | None,
    resume: str | None,
    **flags: Any,
) -> None:
    """Train a network of point estimates: labels from maps.

    The configuration may also be `convolution` or `linear`, which come with the package.
    """
    from mlpop.commands.train_nn import resume_train_nn, train_nn
    from mlpop.config.files.regression import RegressionConfig

    configuration = options.file_of(configuration)
    chosen = options.assignments(options.TRAIN_NN, flags, _values(configuration, []))
    changes = [*chosen, *assignments]
    values = _values(configuration, [*options.gpus_here(configuration), *changes])
    config = RegressionConfig.parse(values, str(configuration))
    if resume is None:
        train_nn(config, convergence=convergence, trained_model=trained_model)
        return
    if trained_model is not None:
        raise click.UsageError("--trained_model cannot be given together with --resume")
    asked = _on_command_line(context, "configuration") or changes or convergence is not None
    resume_train_nn(resume, config if asked else None, convergence=convergence)


@cli.command("infer-nn", cls=options.SpacedLists)
@options.configured(options.DEFAULT)
@options.documented(options.INFER_NN, packaged=True)
@click.option("--trained_model", type=FILE, required=True, help="A .pth file of train-nn.")
@click.option(
    "--samples", type=options.Values(), show_default="all", help="Rows of the test set to predict."
)
def infer_nn(
    configuration: Path,
    assignments: tuple[str, ...],
    trained_model: Path,
    samples: list[int] | None,
    **flags: Any,
) -> None:
    """Predict the labels of a dataset with a trained network; writes inference_results.csv."""
    from mlpop.commands.infer_nn import infer_nn
    from mlpop.config.files.regression import RegressionConfig

    configuration = options.file_of(configuration)
    chosen = options.assignments(options.INFER_NN, flags)
    changes = [*options.gpus_here(configuration), *chosen, *assignments]
    values = _values(configuration, changes)
    for block in (options.TRAIN, options.VALID):
        values.pop(block, None)
    config = RegressionConfig.parse(values, str(configuration))
    infer_nn(config, trained_model, samples or ())


@cli.command()
@options.configured("experiments/dynamics.json")
@click.option("--export-csv", type=FOLDER, help="Also write final_pop_dyn.csv into this folder.")
@click.option(
    "--import-csv",
    type=FOLDER,
    help="Take the orbits from the final_pop_dyn.csv of this folder instead of computing them.",
)
def dynamics(
    configuration: Path,
    assignments: tuple[str, ...],
    export_csv: Path | None,
    import_csv: Path | None,
) -> None:
    """Build the stellar database: all that does not depend on the inferred parameters."""
    from mlpop.commands.dynamics import build_database
    from mlpop.config.blocks.dynamics import DynamicsConfig

    config = DynamicsConfig.parse(_values(configuration, assignments), str(configuration))
    build_database(config, export_csv=export_csv, import_csv=import_csv)


@cli.command()
@options.configured("experiments/study.json")
@click.option("--resume", metavar="RUN_ID|last", help="Continue an interrupted study.")
@click.pass_context
def study(
    context: click.Context,
    /,
    configuration: Path,
    assignments: tuple[str, ...],
    resume: str | None,
) -> None:
    """Search embedding, density estimator and training with Optuna; writes best_config.json."""
    from mlpop.commands.study import resume_study, run_study
    from mlpop.config.files.study import StudyConfig

    if resume is not None and not (_on_command_line(context, "configuration") or assignments):
        resume_study(resume)
        return
    config = StudyConfig.parse(_values(configuration, assignments), str(configuration))
    if resume is None:
        run_study(config, str(configuration))
    else:
        resume_study(resume, config)


@cli.command()
@options.configured("experiments/simulate.json")
def simulate(configuration: Path, assignments: tuple[str, ...]) -> None:
    """Simulate a dataset: a grid, random, lhs or sobol sweep of the parameters."""
    from mlpop.commands.simulate import simulate_sets
    from mlpop.config.files.simulate import SimulateConfig

    simulate_sets(SimulateConfig.parse(_values(configuration, assignments), str(configuration)))


@cli.command()
@options.configured("experiments/observe.json")
def observe(configuration: Path, assignments: tuple[str, ...]) -> None:
    """Make the observed sample, dataset_atnf.csv and its maps, from the pulsar catalogue."""
    from mlpop.commands.observe import observe_catalogue
    from mlpop.config.files.observe import ObserveConfig

    observe_catalogue(ObserveConfig.parse(_values(configuration, assignments), str(configuration)))


@cli.command()
@click.argument("run_id", required=False)
def status(run_id: str | None) -> None:
    """Show the run tree: ages, and what is alive, dead or complete."""
    from mlpop.commands.status import status_table

    click.echo(status_table(run_id))


@cli.command()
@click.argument("folder", type=FOLDER)
def init(folder: Path) -> None:
    """Make a project of your own: MLproject, environment and every shipped experiment."""
    from mlpop.commands.init import init_project

    for path in init_project(folder):
        click.echo(path)
    click.echo(f"Next: cd {shlex.quote(str(folder))} && mlflow run . -e sbi --env-manager local")


@cli.command("init-folders")
@click.option("--base_path", type=FOLDER, required=True, help="Where to make the tree.")
def init_folders(base_path: Path) -> None:
    """Make the documented folder tree for given datasets; safe to repeat."""
    from mlpop.experiment.output_tree import init_folders as make

    for folder in make(base_path):
        click.echo(folder)


@cli.command()
@click.argument("kind", required=False)
def schema(kind: str | None) -> None:
    """Print the JSON schema of one kind of configuration file, or of all."""
    from mlpop.config.files.schema import schemas

    click.echo(json.dumps(schemas(kind), indent=2))


def _fail(message: str) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    from mlpop.tracking import tell_given_run

    tell_given_run(message)
    sys.exit(2)


def main() -> None:
    """Run the command line; exit codes: 0 done, 2 bad input or failure, 130/143 interrupted."""
    show_on_terminal()
    # as `python -m mlpop` does: a user's own simulator lies in the working directory
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except MlpopError as error:
        _fail(str(error))
    except OSError as error:
        # a full disk, a folder that was taken away: the message names file and reason
        _fail(str(error))
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
