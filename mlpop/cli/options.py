"""The documented flags of every command: each replaces fields of the configuration."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mlpop.commands.configuration import Model

PACKAGED = Path(__file__).parents[1] / "config" / "defaults"
DEFAULT = "convolution"
"""The configuration of both commands when none is given: a name of one in `PACKAGED`."""

TRAIN, VALID, TEST = "training_data_loader", "validation_data_loader", "test_data_loader"


Command = Callable[..., None]


class Values(click.ParamType):
    """Several values, `9,10,11` or `9 10 11`: whole numbers, or names where they are allowed."""

    name = "values"
    is_list = True

    def __init__(self, count: int | None = None, *, names: bool = False) -> None:
        self.count, self.names = count, names

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int | str]:
        """Split the text; a usage error names the part that is wrong."""
        if isinstance(value, list):
            return value
        parts = str(value).strip("[]").replace(",", " ").split()
        for part in parts:
            if not part.isdecimal() and not (self.names and part.isidentifier()):
                self.fail(f"'{part}' is no whole number of at least 0", param, ctx)
        if not parts or (self.count is not None and len(parts) != self.count):
            wanted = "at least one value" if self.count is None else f"{self.count} values"
            self.fail(f"expected {wanted}, found '{value}'", param, ctx)
        return [int(part) if part.isdecimal() else part for part in parts]


class Truth(click.ParamType):
    """true, false, 1 or 0, in any case."""

    name = "true|false"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bool:
        """Read the text."""
        if isinstance(value, bool):
            return value
        known = {"true": True, "1": True, "false": False, "0": False}
        if str(value).lower() not in known:
            self.fail(f"'{value}' is none of true, false, 1, 0", param, ctx)
        return known[str(value).lower()]


class AsSet(click.ParamType):
    """What `--set` takes: JSON, else text; the schema checks it.

    Args:
        hint: what help says of the value.
        read: makes JSON of the text first.
    """

    name = "text"

    def __init__(self, hint: str = "", read: Callable[[str], str] = str) -> None:
        self.hint, self.read = hint, read
        self.is_list = read in (_json_list, _json_pairs)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return what would follow the `=` of `--set`."""
        return self.read(str(value))


def _json_list(text: str) -> str:
    parts = text.strip("[]").replace(",", " ").split()
    return json.dumps([int(part) if part.isdecimal() else part for part in parts])


def _json_pairs(text: str) -> str:
    """Return `a=1,b=2` as a JSON object; what is none of that the schema refuses."""
    pairs = [part.partition("=") for part in text.replace(",", " ").split()]
    for name, sign, value in pairs:
        try:
            float(value)
        except ValueError:
            raise click.BadParameter(
                f"expected LABEL=NUMBER, found '{name}{sign}{value}'", param_hint="--theta"
            ) from None
    names = [name for name, _, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise click.BadParameter(f"{', '.join(twice)} is given twice", param_hint="--theta")
    return json.dumps({name: float(value) for name, _, value in pairs})


def _json_truth(text: str) -> str:
    return {"1": "true", "0": "false"}.get(text, text.lower())


@dataclass(frozen=True)
class Flag:
    """A flag: the fields it replaces, what may be given, and the fields it sets to null."""

    fields: tuple[str, ...]
    type: Any
    cleared: tuple[str, ...] = ()


class HomePath(click.Path):
    """A path whose leading `~` is the home folder: a shell leaves that of `--option=~/x`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if str(value).startswith("~"):
            # of a user that nobody knows it is the name of a file
            with suppress(RuntimeError):
                value = str(Path(value).expanduser())
        return super().convert(value, param, ctx)

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str | None:
        """Return what the option is for, where it has to be given."""
        return param.help if isinstance(param, click.Option) else None


FILE, FOLDER = HomePath(dir_okay=False), HomePath(file_okay=False)
COLUMNS = Values(names=True)
VALUE, PATH = AsSet(), AsSet(read=json.dumps)
LIST = AsSet(", a list such as 9,10,11", _json_list)
PAIRS = AsSet(", numbers by label such as a_late=-1.3,P_initial_log10_mean=-0.7", _json_pairs)
BOOLEAN = AsSet(", true or false", _json_truth)


def _both(*names: str, loaders: Sequence[str] = (TRAIN, VALID)) -> tuple[str, ...]:
    return tuple(f"{loader}.args.{name}" for name in names for loader in loaders)


def _training(name: str, type_: Any, *cleared: str) -> Flag:
    """Return a flag of the training data; what the test data say of the same goes with it."""
    return Flag((f"{TRAIN}.{name}",), type_, cleared=(f"{TEST}.{name}", *cleared))


# Of a given training set, for sbi and infer alike. The maps of the observed sample are then those
# of the training set, wherever they are in the file.
_GIVEN_SET: Mapping[str, Flag] = {
    "dataset_training": Flag((f"{TRAIN}.dataset_path_round_0",), PATH),
    "dataset_statistics": _training("statistic_path", PATH),
    "filter_inputs": _training("filter_inputs", LIST, "observed_sample.filter_inputs"),
    "filter_labels": _training("filter_labels", LIST),
}

SBI: Mapping[str, Flag] = {
    **_GIVEN_SET,
    "batch_size": Flag(("trainer.batch_size",), VALUE),
    "input_shape": Flag(("arch.args.input_shape",), LIST),
    "len_output_layer": Flag(("arch.args.len_output_layer",), VALUE),
    "save_dir": Flag(("trainer.save_dir",), PATH),
    "normalize": _training("normalize", BOOLEAN),
    "standardize": _training("standardize", BOOLEAN),
    "lr": Flag(("trainer.lr",), VALUE),
    "plot_proposal": Flag(("trainer.plot_proposal",), BOOLEAN),
}

# It trains nothing: output and loaded rounds are other fields.
INFER: Mapping[str, Flag] = {
    "load_dir": Flag(("infer.load_dir",), PATH),
    "save_dir": Flag(("infer.save_dir",), PATH),
    **_GIVEN_SET,
    "input_shape": SBI["input_shape"],
    "normalize": SBI["normalize"],
    "standardize": SBI["standardize"],
}

COMPARE: Mapping[str, Flag] = {
    "load_dir": Flag(("load_dir",), PATH, cleared=("base",)),
    "base": Flag(("base",), PATH, cleared=("load_dir",)),
    "theta": Flag(("theta",), PAIRS),
    "observed": Flag(("observed",), PATH),
    "num_predictive": Flag(("num_predictive",), VALUE),
    "save_dir": Flag(("save_dir",), PATH),
}

TRAIN_NN: Mapping[str, Flag] = {
    "dataset_training": Flag((f"{TRAIN}.args.dataset_path",), FILE),
    "dataset_validation": Flag((f"{VALID}.args.dataset_path",), FILE),
    "dataset_statistics": Flag(_both("statistic_path"), FILE),
    "initializer": Flag(("weights_initializer.type",), click.STRING),
    "filter_inputs": Flag(_both("filter_inputs"), COLUMNS),
    "filter_labels": Flag(_both("filter_labels"), COLUMNS),
    "batch_size": Flag(_both("batch_size"), click.IntRange(min=1)),
    "input_shape": Flag(("arch.args.input_shape",), Values(3)),
    "num_parameters": Flag(("arch.args.num_parameters",), click.IntRange(min=1)),
    "save_dir": Flag(("trainer.save_dir",), FOLDER),
    "normalize": Flag(_both("normalize"), Truth()),
    "standardize": Flag(_both("standardize"), Truth()),
    "lr": Flag(("optimizer.args.lr",), click.FLOAT),
}

INFER_NN: Mapping[str, Flag] = {
    "dataset": Flag((f"{TEST}.args.dataset_path",), FILE),
    "dataset_statistics": Flag((f"{TEST}.args.statistic_path",), FILE),
    "filter_inputs": Flag((f"{TEST}.args.filter_inputs",), COLUMNS),
    "filter_labels": Flag((f"{TEST}.args.filter_labels",), COLUMNS),
    "input_shape": Flag(("arch.args.input_shape",), Values(3)),
    "num_parameters": Flag(("arch.args.num_parameters",), click.IntRange(min=1)),
    "save_dir": Flag(("infer.save_dir",), FOLDER),
    "normalize": Flag((f"{TEST}.args.normalize",), Truth()),
    "standardize": Flag((f"{TEST}.args.standardize",), Truth()),
}


class Configured(click.Command):
    """A command that says how a configuration is named, if a file stands without `-c`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as usual, and add the hint to the complaint about one argument too many."""
        file = next((arg for arg in args if arg.endswith(".json")), "FILE")
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            named = any("--configuration" in parameter.opts for parameter in self.params)
            if not named or not error.message.startswith("Got unexpected extra argument"):
                raise
            hint = f"name a configuration with -c: {ctx.command_path} -c {file}"
            raise click.UsageError(f"{error.message}; {hint}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Refuse what cannot be the address of the tracking store, then do the work."""
        if "assignments" in ctx.params:
            from mlpop.tracking.address import check_address

            check_address()
        return super().invoke(ctx)


class SpacedLists(Configured):
    """A command without arguments whose list flags also take values set apart by spaces."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join the values that follow a list flag, then parse as usual."""
        lists = {
            name
            for parameter in self.params
            if getattr(parameter.type, "is_list", False)
            for name in parameter.opts
        }
        joined: list[str] = []
        collecting = False
        for arg in args:
            if collecting and not arg.startswith("-"):
                if joined[-1] in lists:
                    joined.append(arg)
                else:
                    joined[-1] += f",{arg}"
                continue
            joined.append(arg)
            collecting = arg in lists
        return super().parse_args(ctx, joined)


def file_of(configuration: Path) -> Path:
    """Return the file of a configuration: the names `convolution` and `linear` are packaged."""
    packaged = PACKAGED / f"{configuration}.json"
    known = configuration == Path(configuration.name) and packaged.is_file()
    return packaged if known and not configuration.is_file() else configuration


def parsed(model: "type[Model]", configuration: Path, assignments: Sequence[str]) -> "Model":
    """Read the configuration of a command, or raise what is wrong with it."""
    from mlpop.commands.configuration import of_command

    return of_command(model, configuration, assignments)


def gpus_here(configuration: Path) -> list[str]:
    """Return what takes the GPU from a packaged file where there is none.

    One that the file asks for, and not the user, is no reason for a warning.
    """
    if configuration.resolve().parent != PACKAGED.resolve():
        return []
    import torch

    return [] if torch.cuda.is_available() else ["n_gpu=0"]


def _allow(_context: click.Context, _option: click.Parameter, names: Sequence[str]) -> None:
    if names:
        from mlpop.config.allowed_modules import allow_modules

        allow_modules(names)


def configured(default: str | None) -> Callable[[Command], Command]:
    """Add the two options that every experiment command takes."""

    def decorate(command: Command) -> Command:
        command = click.option(
            "--allow-module",
            multiple=True,
            metavar="MODULE",
            expose_value=False,
            is_eager=True,
            callback=_allow,
            help="Let the configuration name classes of this installed module; may be repeated.",
        )(command)
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
            type=HomePath(dir_okay=False, path_type=Path),
            default=default,
            required=default is None,
            help="The JSON file that describes what to do (`mlpop schema` tells its fields); "
            "runs:/RUN_ID/NAME is one of a run.",
        )(command)

    return decorate


def documented(
    table: Mapping[str, Flag], *, packaged: bool = False
) -> Callable[[Command], Command]:
    """Add an option a flag; its help names the fields and, with `packaged`, their value there."""

    def decorate(command: Command) -> Command:
        for name, flag in reversed(list(table.items())):
            hint = getattr(flag.type, "hint", "")
            command = click.option(
                f"--{name}",
                type=flag.type,
                default=None,
                show_default=_packaged(flag.fields[0]) if packaged else None,
                help=f"Replace {' and '.join(flag.fields)}{hint}.",
            )(command)
        return command

    return decorate


def assignments(
    table: Mapping[str, Flag], given: Mapping[str, Any], values: Mapping[str, Any] | None = None
) -> list[str]:
    """Return `key.path=value` for the flags that were given.

    A flag of several loaders leaves out those that the configuration does not have, unless a
    dataset for them is given too.

    Args:
        table: the flags of the command.
        given: flag -> value, None where it was not given.
        values: the configuration as read; without it no loader is left out.
    """
    chosen = [(flag, given[name]) for name, flag in table.items() if given.get(name) is not None]
    loaders = {TRAIN, VALID, TEST} if values is None else set(values)
    for flag, _ in chosen:
        loaders |= {f.partition(".")[0] for f in flag.fields if f.endswith(".dataset_path")}
    replaced = [
        (field, value if isinstance(flag.type, AsSet) else json.dumps(value))
        for flag, value in chosen
        for field in flag.fields
    ]
    replaced += [(field, "null") for flag, _ in chosen for field in flag.cleared]
    return [
        f"{field}={text}"
        for field, text in replaced
        if not field.partition(".")[0].endswith("_data_loader")
        or field.partition(".")[0] in loaders
    ]


@functools.cache
def _packaged_values() -> dict[str, Any]:
    return dict(json.loads((PACKAGED / f"{DEFAULT}.json").read_text(encoding="utf-8")))


def _packaged(field: str) -> str:
    value: Any = _packaged_values()
    for name in field.split("."):
        value = value[name]
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
