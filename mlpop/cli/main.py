"""Every command of mlpop, and nothing else: parse, call, turn an error into one message."""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mlpop import __version__
from mlpop.cli import options
from mlpop.cli.failing import fail
from mlpop.errors import MlpopError

FILE = options.HomePath(dir_okay=False, path_type=Path)
FOLDER = options.HomePath(file_okay=False, path_type=Path)

FIRST_STEPS = (
    "First: `mlpop init my-project && cd my-project`, then `mlpop sbi -c experiments/smoke.json`, "
    "which shows that all works: a minute or two the first time, while its code is compiled. "
    "`mlpop COMMAND --help` tells more."
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog=FIRST_STEPS,
)
@click.version_option(__version__)
@click.pass_obj
def cli(on_terminal: bool | None) -> None:
    """How are pulsars born? Simulation-based inference of pulsar populations."""
    if on_terminal:
        from mlpop.experiment.logs import show_on_terminal

        show_on_terminal()


cli.command_class = options.Configured


def _on_command_line(context: click.Context, name: str) -> bool:
    """Whether a parameter is on the command line, not left at its default."""
    source = context.get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


@cli.command(
    cls=options.SpacedLists,
    short_help="Simulate, train, sample the posterior: the main job.",
)
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
    """Infer how pulsars are born: simulate, train, sample the posterior of the observed sky."""
    from mlpop.config.files.sbi import SbiConfig

    changes = [*options.assignments(options.SBI, flags), *assignments]
    if print_job_script:
        from mlpop.compute.backends.factory import job_script

        asked = options.parsed(SbiConfig, configuration, changes)
        click.echo(job_script(asked.compute, asked.workers_dask))
        return
    config = None
    if resume is None or _on_command_line(context, "configuration") or changes:
        # a mistake in it is told before anything slow is imported
        config = options.parsed(SbiConfig, configuration, changes)
    if resume is not None:
        from mlpop.commands.resumable import run_to_resume

        resume = run_to_resume("experiment", resume, config, SbiConfig.parse, complete_too=True)
    from mlpop.commands.sbi import resume_experiment, run_experiment

    if config is None:
        resume_experiment(str(resume))
    elif resume is None:
        run_experiment(config)
    else:
        resume_experiment(resume, config)


@cli.command(
    cls=options.SpacedLists, short_help="Sample and test the posteriors of trained rounds."
)
@options.configured("experiments/main.json")
@options.documented(options.INFER)
def infer(configuration: Path, assignments: tuple[str, ...], **flags: Any) -> None:
    """Sample and test the posteriors of trained rounds, with the configuration they came from."""
    from mlpop.config.files.sbi import SbiConfig

    changes = [*options.assignments(options.INFER, flags), *assignments]
    config = options.parsed(SbiConfig, configuration, changes)
    from mlpop.commands.infer import infer

    infer(config)


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

    The configurations `convolution` and `linear` come with mlpop: `-c linear`.
    """
    from mlpop.commands.configuration import raw_values
    from mlpop.config.files.regression import RegressionConfig

    configuration = options.file_of(configuration)
    values = raw_values(configuration, model=RegressionConfig)
    changes = [*options.assignments(options.TRAIN_NN, flags, values), *assignments]
    config = options.parsed(RegressionConfig, configuration, changes)
    if here := options.gpus_here(configuration):
        config = options.parsed(RegressionConfig, configuration, [*here, *changes])
    if resume is None:
        from mlpop.commands.train_nn import train_nn

        train_nn(config, convergence=convergence, trained_model=trained_model)
        return
    if trained_model is not None:
        raise click.UsageError("--trained_model cannot be given together with --resume")
    asked = _on_command_line(context, "configuration") or changes or convergence is not None
    given = config if asked else None
    from mlpop.commands.resumable import run_to_resume

    resume = run_to_resume("train_nn", resume, given, RegressionConfig.parse)
    from mlpop.commands.train_nn import resume_train_nn

    resume_train_nn(resume, given, convergence=convergence)


@cli.command(
    "infer-nn", cls=options.SpacedLists, short_help="Predict labels with a trained network."
)
@options.configured(options.DEFAULT)
@options.documented(options.INFER_NN, packaged=True)
@click.option(
    "--trained_model", type=FILE, required=True, help="The best_model.pth that train-nn names."
)
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
    from mlpop.commands.configuration import raw_values
    from mlpop.config.files.regression import RegressionConfig

    configuration = options.file_of(configuration)
    chosen = options.assignments(options.INFER_NN, flags)

    def parsed(here: Sequence[str] = ()) -> RegressionConfig:
        changes = [*here, *chosen, *assignments]
        values = raw_values(configuration, changes, RegressionConfig)
        for block in (options.TRAIN, options.VALID):
            values.pop(block, None)
        return RegressionConfig.parse(values, str(configuration))

    config = parsed()
    if here := options.gpus_here(configuration):
        config = parsed(here)
    from mlpop.commands.infer_nn import infer_nn

    infer_nn(config, trained_model, samples or ())


@cli.command(short_help="Build the stellar database.")
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
    from mlpop.config.blocks.dynamics import DynamicsConfig

    config = options.parsed(DynamicsConfig, configuration, assignments)
    from mlpop.commands.dynamics import build_database

    build_database(config, export_csv=export_csv, import_csv=import_csv)


@cli.command(short_help="Search networks and their training with Optuna.")
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
    from mlpop.config.files.study import StudyConfig

    config = None
    if resume is None or _on_command_line(context, "configuration") or assignments:
        config = options.parsed(StudyConfig, configuration, assignments)
    from mlpop.commands.study import resume_study, run_study

    if config is None:
        resume_study(str(resume))
    elif resume is None:
        run_study(config, str(configuration))
    else:
        resume_study(resume, config)


@cli.command(short_help="Simulate a dataset: a sweep or a list.")
@options.configured("experiments/simulate.json")
@click.option(
    "--remap",
    "source",
    type=FOLDER,
    help="Make maps again of the finished simulations of this folder, as `generator` says.",
)
@click.option(
    "--split",
    "dataset",
    type=FOLDER,
    help="Split the dataset of this folder, as `split` says, and compute its statistics.",
)
def simulate(
    configuration: Path, assignments: tuple[str, ...], source: Path | None, dataset: Path | None
) -> None:
    """Simulate a dataset: a grid, random, lhs or sobol sweep of the parameters, or a list."""
    from mlpop.config.files.simulate import SimulateConfig

    config = options.parsed(SimulateConfig, configuration, assignments)
    if source is not None and dataset is not None:
        raise click.UsageError("--remap and --split cannot be given together")
    if source is not None:
        from mlpop.commands.remap import remap

        remap(source, config)
        return
    from mlpop.commands.simulate import simulate_sets, split_existing

    if dataset is not None:
        split_existing(dataset, config)
        return
    simulate_sets(config)


@cli.command(short_help="Make the observed sample from the catalogue.")
@options.configured("experiments/observe.json")
def observe(configuration: Path, assignments: tuple[str, ...]) -> None:
    """Make the observed sample, dataset_atnf.csv and its maps, from the pulsar catalogue."""
    from mlpop.config.files.observe import ObserveConfig

    config = options.parsed(ObserveConfig, configuration, assignments)
    from mlpop.commands.observe import observe_catalogue

    observe_catalogue(config)


@cli.command(
    cls=options.SpacedLists, short_help="Compare the observed sky with what a posterior predicts."
)
@options.configured("experiments/compare.json")
@options.documented(options.COMPARE)
def compare(configuration: Path, assignments: tuple[str, ...], **flags: Any) -> None:
    """Compare the observed sky with simulations at a posterior, or at one theta, with p-values."""
    from mlpop.config.files.compare import CompareConfig

    changes = [*options.assignments(options.COMPARE, flags), *assignments]
    config = options.parsed(CompareConfig, configuration, changes)
    from mlpop.commands.compare import compare

    compare(config)


@cli.command(short_help="Show runs: what is alive, dead or complete.")
@click.argument("run_id", required=False)
@click.option("--all", "every", is_flag=True, help="Show every run at the top, not the newest 50.")
def status(run_id: str | None, every: bool) -> None:
    """Show the run tree: ages, and what is alive, dead or complete."""
    from mlpop.commands.status import status_table

    click.echo(status_table(run_id, every=every))


@cli.command(short_help="Make a project of your own in a new folder.")
@click.argument("folder", type=FOLDER)
def init(folder: Path) -> None:
    """Make a project of your own: MLproject, environment and every shipped experiment."""
    from mlpop.commands.init import init_project, what_next

    for path in init_project(folder):
        click.echo(path)
    click.echo(what_next(folder))


@cli.command("init-folders", short_help="Make the folder tree for given datasets.")
@click.option("--base_path", type=FOLDER, required=True, help="Where to make the tree.")
def init_folders(base_path: Path) -> None:
    """Make the documented folder tree for given datasets; safe to repeat."""
    from mlpop.experiment.output_tree import init_folders as make

    for folder in make(base_path):
        click.echo(folder)


@cli.command(short_help="Print the JSON schema of a configuration.")
@click.argument("kind", required=False)
def schema(kind: str | None) -> None:
    """Print the JSON schema of one kind of configuration file; without KIND, list the kinds."""
    from mlpop.config.files.schema import listing, schema_of

    click.echo(listing() if kind is None else json.dumps(schema_of(kind), indent=2))


def main() -> None:
    """Run the command line; exit codes: 0 done, 2 bad input or failure, 130/143 interrupted."""
    # as `python -m mlpop` does: a user's own simulator lies in the working directory
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        cli(standalone_mode=False, obj=True)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except MlpopError as error:
        fail(str(error))
    except OSError as error:
        # a full disk, a folder that was taken away: the message names file and reason
        place = f"the temporary folder {tempfile.gettempdir()} (TMPDIR), or the output"
        fail(str(error) if error.filename else f"{error} (of a file without a name: {place})")
    except (MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and "failed to map segment" not in str(error):
            raise
        fail(f"out of memory: {error or 'there is none left'}; take less, or a larger machine")
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error.__cause__, EOFError):
            # click takes the end of any file for Ctrl-C
            fail(f"something ended unexpectedly: {error.__cause__ or 'EOFError'!s}")
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except RuntimeError as error:
        # of a path that is resolved; opening one is an OSError (and click.Abort is one of these)
        if "Symlink loop" not in str(error):
            raise
        fail(f"a symbolic link points to itself: {error}; remove it, or give another path")


if __name__ == "__main__":
    main()
