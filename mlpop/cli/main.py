"""Every command of mlpop, and nothing else: parse, call, turn an error into one message."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from mlpop import __version__
from mlpop.cli import options as flags
from mlpop.errors import MlpopError
from mlpop.experiment.logs import show_on_terminal

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
Command = Callable[..., None]

# The documented flags of `sbi`: the fields each replaces.
SBI_FLAGS: dict[str, tuple[str, ...]] = {
    "dataset_training": ("training_data_loader.dataset_path_round_0",),
    "dataset_statistics": ("training_data_loader.statistic_path",),
    "filter_inputs": ("training_data_loader.filter_inputs",),
    "filter_labels": ("training_data_loader.filter_labels",),
    "batch_size": ("trainer.batch_size",),
    "input_shape": ("arch.args.input_shape",),
    "len_output_layer": ("arch.args.len_output_layer",),
    "save_dir": ("trainer.save_dir",),
    "normalize": ("training_data_loader.normalize",),
    "standardize": ("training_data_loader.standardize",),
    "lr": ("trainer.lr",),
    "plot_proposal": ("trainer.plot_proposal",),
}
# Of `infer`, which trains nothing: output and loaded rounds are other fields.
INFER_FLAGS: dict[str, tuple[str, ...]] = {
    "load_dir": ("infer.load_dir",),
    "save_dir": ("infer.save_dir",),
    "dataset_training": SBI_FLAGS["dataset_training"],
    "dataset_statistics": SBI_FLAGS["dataset_statistics"],
    "filter_inputs": SBI_FLAGS["filter_inputs"],
    "filter_labels": SBI_FLAGS["filter_labels"],
    "input_shape": SBI_FLAGS["input_shape"],
    "normalize": SBI_FLAGS["normalize"],
    "standardize": SBI_FLAGS["standardize"],
}
LIST_FLAGS = {"filter_inputs", "filter_labels", "input_shape"}
PATH_FLAGS = {"dataset_training", "dataset_statistics", "save_dir", "load_dir"}
BOOLEAN_FLAGS = {"normalize", "standardize", "plot_proposal"}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__)
def cli() -> None:
    """How are pulsars born? Simulation-based inference of pulsar populations."""


def _configured(default: str | None) -> Callable[[Command], Command]:
    """Add the two options that every experiment command takes."""

    def decorate(command: Command) -> Command:
        command = click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="KEY.PATH=VALUE",
            help="Replace one value of the configuration; may be repeated.",
        )(command)
        return click.option(
            "-c",
            "--configuration",
            type=FILE,
            default=default,
            required=default is None,
            help="The JSON file that describes what to do; runs:/RUN_ID/NAME is one of a run.",
        )(command)

    return decorate


def _documented(flags: Mapping[str, tuple[str, ...]]) -> Callable[[Command], Command]:
    """Add documented flags, each of which replaces fields."""

    def decorate(command: Command) -> Command:
        for name, fields in reversed(list(flags.items())):
            hint = ", a list such as 9,10,11" if name in LIST_FLAGS else ""
            hint = ", true or false" if name in BOOLEAN_FLAGS else hint
            command = click.option(
                f"--{name}", default=None, help=f"Replace {' and '.join(fields)}{hint}."
            )(command)
        return command

    return decorate


def _flag_assignments(
    flags: dict[str, str | None], fields: Mapping[str, tuple[str, ...]]
) -> list[str]:
    assignments = []
    for name, text in flags.items():
        if text is None:
            continue
        if name in LIST_FLAGS:
            text = json.dumps([_item(part) for part in text.strip("[]").replace(",", " ").split()])
        elif name in BOOLEAN_FLAGS:
            text = {"1": "true", "0": "false"}.get(text, text.lower())
        elif name in PATH_FLAGS:
            text = json.dumps(text)
        assignments += [f"{field}={text}" for field in fields[name]]
        if name == "filter_inputs":
            # which stands for the maps of the training set, wherever they are in the file
            assignments.append("observed_sample.filter_inputs=null")
    return assignments


def _given(context: click.Context, name: str) -> bool:
    """Whether a parameter is on the command line, not left at its default."""
    source = context.get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


def _item(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


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
@_configured("experiments/main.json")
@_documented(SBI_FLAGS)
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
    **flags: str | None,
) -> None:
    """Infer how pulsars are born: simulate, train, and sample the posterior at x_o."""
    from mlpop.config.files.sbi import SbiConfig

    changes = [*_flag_assignments(flags, SBI_FLAGS), *assignments]
    if print_job_script:
        from mlpop.compute.backends.factory import job_script

        config = SbiConfig.parse(_values(configuration, changes), str(configuration))
        click.echo(job_script(config.compute, config.workers_dask))
        return
    from mlpop.commands.sbi import resume_experiment, run_experiment

    if resume is not None and not (_given(context, "configuration") or changes):
        resume_experiment(resume)
        return
    config = SbiConfig.parse(_values(configuration, changes), str(configuration))
    if resume is None:
        run_experiment(config)
    else:
        resume_experiment(resume, config)


@cli.command()
@_configured("experiments/main.json")
@_documented(INFER_FLAGS)
def infer(configuration: Path, assignments: tuple[str, ...], **flags: str | None) -> None:
    """Sample and test the posteriors of trained rounds, with the configuration they came from."""
    from mlpop.commands.infer import infer
    from mlpop.config.files.sbi import SbiConfig

    values = _values(configuration, [*_flag_assignments(flags, INFER_FLAGS), *assignments])
    infer(SbiConfig.parse(values, str(configuration)))


@cli.command("train-nn", cls=flags.SpacedLists)
@_configured(flags.DEFAULT)
@flags.flags(flags.TRAIN_NN)
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
    **given: Any,
) -> None:
    """Train a network of point estimates: labels from maps.

    The configuration may also be `convolution` or `linear`, which come with the package.
    """
    from mlpop.commands.train_nn import resume_train_nn, train_nn
    from mlpop.config.files.regression import RegressionConfig

    configuration = flags.file_of(configuration)
    chosen = flags.assignments(flags.TRAIN_NN, given, _values(configuration, []))
    changes = [*chosen, *assignments]
    config = RegressionConfig.parse(_values(configuration, changes), str(configuration))
    if resume is None:
        train_nn(config, convergence=convergence, trained_model=trained_model)
        return
    if trained_model is not None:
        raise click.UsageError("--trained_model cannot be given together with --resume")
    asked = _given(context, "configuration") or changes or convergence is not None
    resume_train_nn(resume, config if asked else None, convergence=convergence)


@cli.command("infer-nn", cls=flags.SpacedLists)
@_configured(flags.DEFAULT)
@flags.flags(flags.INFER_NN)
@click.option("--trained_model", type=FILE, required=True, help="A .pth file of train-nn.")
@click.option(
    "--samples", type=flags.Values(), show_default="all", help="Rows of the test set to predict."
)
def infer_nn(
    configuration: Path,
    assignments: tuple[str, ...],
    trained_model: Path,
    samples: list[int] | None,
    **given: Any,
) -> None:
    """Predict the labels of a dataset with a trained network; writes inference_results.csv."""
    from mlpop.commands.infer_nn import infer_nn
    from mlpop.config.files.regression import RegressionConfig

    configuration = flags.file_of(configuration)
    changes = [*flags.assignments(flags.INFER_NN, given), *assignments]
    values = _values(configuration, changes)
    for block in (flags.TRAIN, flags.VALID):
        values.pop(block, None)
    config = RegressionConfig.parse(values, str(configuration))
    infer_nn(config, trained_model, samples or ())


@cli.command()
@_configured("experiments/dynamics.json")
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
@_configured("experiments/study.json")
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

    if resume is not None and not (_given(context, "configuration") or assignments):
        resume_study(resume)
        return
    config = StudyConfig.parse(_values(configuration, assignments), str(configuration))
    if resume is None:
        run_study(config, str(configuration))
    else:
        resume_study(resume, config)


@cli.command()
@_configured("experiments/simulate.json")
def simulate(configuration: Path, assignments: tuple[str, ...]) -> None:
    """Simulate a dataset: a grid, random, lhs or sobol sweep of the parameters."""
    from mlpop.commands.simulate import simulate_sets
    from mlpop.config.files.simulate import SimulateConfig

    simulate_sets(SimulateConfig.parse(_values(configuration, assignments), str(configuration)))


@cli.command()
@_configured("experiments/observe.json")
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
