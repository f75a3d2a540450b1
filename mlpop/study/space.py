"""The search space: fields of an experiment, what each may be, and when it means something."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from optuna.trial import BaseTrial

from mlpop.config.base import apply_overrides
from mlpop.config.blocks.network import BLOCKS
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.study import Choices, Dimension, FloatRange, IntRange
from mlpop.config.messages import nearest, show
from mlpop.errors import ConfigError
from mlpop.tracking import flatten

Space = Mapping[str, Dimension]
Point = dict[str, Any]
"""Field -> value of one trial; fields that mean nothing in it are left out."""

SEARCHABLE = (
    "arch.",
    "weights_initializer.",
    "density_estimator.",
    "trainer.batch_size",
    "trainer.lr",
    "trainer.lr_decay",
    "trainer.clip_max_norm",
    "trainer.ema_decay",
    "trainer.embedding_weight_decay",
    "trainer.stop_after_epochs",
    "trainer.max_num_epochs",
)
"""Fields that change the network or its training, and neither the data nor their split."""

MODEL = "density_estimator.type"


def default_space(base: SbiConfig) -> dict[str, Dimension]:
    """Return the space that is searched unless the study says otherwise; it holds `base`."""
    space: dict[str, Dimension] = {
        MODEL: Choices(type="categorical", choices=("mdn", "maf")),
        "density_estimator.args.hidden_features": IntRange(type="int", low=8, high=128, log=True),
        "density_estimator.args.num_components": IntRange(
            type="int", low=1, high=20, when={MODEL: "mdn"}
        ),
        "density_estimator.args.num_transforms": IntRange(
            type="int", low=2, high=8, when={MODEL: "maf"}
        ),
        "trainer.lr": FloatRange(type="float", low=1e-4, high=1e-2, log=True),
        "trainer.batch_size": IntRange(type="int", low=8, high=128, log=True),
    }
    if base.arch is not None:
        if not base.arch.is_custom and base.arch.args.filters is None:
            height_and_width = base.arch.args.input_shape[1:]
            layout = base.arch.args.layout
            fitting = tuple(
                n for n, b in BLOCKS.items() if min(height_and_width) >= 2 ** b[layout]
            )
            space["arch.type"] = Choices(type="categorical", choices=fitting)
        space["arch.args.len_output_layer"] = IntRange(type="int", low=8, high=128, log=True)
    flat = flatten(base.resolved())
    # a class of the user's own may not take len_output_layer
    return {path: _holding(d, flat[path]) for path, d in space.items() if path in flat}


def search_space(
    base: SbiConfig, own: Space, *, use_default: bool = True, source: str = "study"
) -> dict[str, Dimension]:
    """Combine own dimensions with the default ones and refuse what cannot work.

    Args:
        base: the experiment that is varied.
        own: path -> dimension, as given.
        use_default: whether the default space is searched too.
        source: what error messages name.

    Returns:
        path -> dimension, each after those that it depends on.

    Raises:
        ConfigError: one line a dimension that is wrong.
    """
    values = base.resolved()
    flat = flatten(values)
    problems = {path: text for path in own if (text := _path_problem(path, base, flat))}
    space = {**(default_space(base) if use_default else {}), **own}
    for path, dimension in space.items():
        if path in own and path not in problems:
            text = _condition_problem(path, dimension, space, flat) or _value_problem(
                path, dimension, space, values
            )
            if text:
                problems[path] = text
    if problems:
        raise ConfigError(
            "\n".join(f"{source}: space.{path}: {text}" for path, text in problems.items())
        )
    # a default dimension whose condition the user's own choices rule out is not searched
    kept = {
        path: dimension
        for path, dimension in space.items()
        if path in own or not _condition_problem(path, dimension, space, flat)
    }
    return {path: kept[path] for path in _parents_first(kept)}


def suggest(trial: BaseTrial, space: Space, base: Mapping[str, Any]) -> Point:
    """Ask a trial for a value of every field that means something in it.

    Args:
        trial: of Optuna.
        space: in the order of `search_space`.
        base: the experiment, flattened.
    """
    point: Point = {}
    for path, dimension in space.items():
        if not _active(dimension, space, point, base):
            continue
        match dimension:
            case FloatRange(low=low, high=high, log=log, step=step):
                point[path] = trial.suggest_float(path, low, high, step=step, log=log)
            case IntRange(low=low, high=high, log=log, step=step):
                point[path] = trial.suggest_int(path, low, high, step=step or 1, log=log)
            case Choices(choices=choices):
                point[path] = trial.suggest_categorical(path, choices)
    return point


def base_point(space: Space, base: Mapping[str, Any]) -> Point:
    """Return the base experiment as a point of the space."""
    point: Point = {}
    for path, dimension in space.items():
        if _active(dimension, space, point, base):
            point[path] = base[path]
    return point


def applied(values: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an experiment with those of a point in their place."""
    return apply_overrides(values, [f"{path}={json.dumps(v)}" for path, v in point.items()])


def _holding(dimension: Dimension, value: Any) -> Dimension:
    """Widen a dimension so that it holds `value`."""
    if isinstance(dimension, Choices):
        if value in dimension.choices:
            return dimension
        return dimension.model_copy(update={"choices": (*dimension.choices, value)})
    low, high = min(dimension.low, value), max(dimension.high, value)
    return dimension.model_copy(update={"low": low, "high": high})


def _path_problem(path: str, base: SbiConfig, flat: Mapping[str, Any]) -> str | None:
    custom = base.arch is not None and base.arch.is_custom
    if path not in flat and not (custom and path.startswith("arch.args.")):
        blocks = {
            block for field in flat for block in accumulate(field.split(".")[:-1], "{}.{}".format)
        }
        if path in blocks:
            return "is a block, search its fields"
        if path.startswith("arch.") and base.arch is None:
            return "arch is null in the base experiment: there is no embedding to search"
        allowed = [known for known in flat if known.startswith(SEARCHABLE)]
        near = nearest(path, allowed) or nearest(path.rpartition(".")[2], allowed)
        hint = f"; did you mean '{near}'?" if near else ""
        return f"unknown field of the experiment{hint}"
    if not path.startswith(SEARCHABLE):
        return (
            "cannot be searched: with other data, another split or another posterior the "
            "objective could not be compared between trials; searched can be "
            + ", ".join(name + "*" if name.endswith(".") else name for name in SEARCHABLE)
        )
    return None


def _condition_problem(
    path: str, dimension: Dimension, space: Space, flat: Mapping[str, Any]
) -> str | None:
    for other, allowed in dimension.conditions().items():
        if other == path or path in _ancestors(other, space):
            return f"when.{other}: depends on itself"
        if other in space:
            if not any(_reaches(space[other], value) for value in allowed):
                return (
                    f"when.{other}: can never be {_either(allowed)}, so this is never searched; "
                    f"{other} is {_range_text(space[other])}"
                )
        elif other not in flat:
            near = nearest(other, [*space, *flat])
            hint = f"; did you mean '{near}'?" if near else ""
            return f"when.{other}: unknown field of the experiment{hint}"
        elif flat[other] not in allowed:
            return (
                f"when.{other}: is {show(flat[other])} in the base experiment and not searched, "
                f"never {_either(allowed)}, so this is never searched"
            )
    return None


def _value_problem(
    path: str, dimension: Dimension, space: Space, values: Mapping[str, Any]
) -> str | None:
    """Try values of a dimension in the experiment, and whether it holds the experiment's own."""
    needed = _enabling(path, space)
    for value in _probes(dimension):
        try:
            SbiConfig.parse(applied(values, needed | {path: value}), "")
        except ConfigError as error:
            own = f": {path}: "
            reason = str(error).splitlines()[0]
            reason = reason.removeprefix(own) if reason.startswith(own) else reason[2:]
            return f"{show(value)} does not fit: {reason}"
    flat = flatten(values)
    if path in flat and _active(dimension, {}, {}, flat) and not _reaches(dimension, flat[path]):
        return (
            f"must hold {show(flat[path])}, the value of the base experiment, which is the first "
            f"trial; is {_range_text(dimension)}"
        )
    if path not in flat:
        return "must be given in the base experiment too, which is the first trial"
    return None


def _probes(dimension: Dimension) -> Iterator[Any]:
    if isinstance(dimension, Choices):
        yield from dimension.choices
        return
    yield dimension.low
    yield dimension.high


def _enabling(path: str, space: Space) -> Point:
    """Return values of other searched fields with which this one means something."""
    point: Point = {}
    for other, allowed in space[path].conditions().items():
        if other in space:
            point |= _enabling(other, space)
            point[other] = next(v for v in allowed if _reaches(space[other], v))
    return point


def _active(
    dimension: Dimension, space: Space, point: Mapping[str, Any], base: Mapping[str, Any]
) -> bool:
    return all(
        (other in point or other not in space) and point.get(other, base.get(other)) in allowed
        for other, allowed in dimension.conditions().items()
    )


def _reaches(dimension: Dimension, value: Any) -> bool:
    if isinstance(dimension, Choices):
        return value in dimension.choices
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not dimension.low <= value <= dimension.high:
        return False
    if isinstance(dimension, IntRange) and not float(value).is_integer():
        return False
    steps = (value - dimension.low) / (dimension.step or 1)
    return dimension.step is None or abs(steps - round(steps)) < 1e-9


def _parents_first(space: Space) -> list[str]:
    order: list[str] = []

    def add(path: str) -> None:
        if path in space and path not in order:
            for other in space[path].when:
                add(other)
            order.append(path)

    for path in space:
        add(path)
    return order


def _ancestors(path: str, space: Space, seen: frozenset[str] = frozenset()) -> set[str]:
    if path not in space or path in seen:
        return set()
    direct = set(space[path].when)
    return direct.union(*(_ancestors(other, space, seen | {path}) for other in direct))


def _either(values: Sequence[Any]) -> str:
    return " or ".join(show(value) for value in values)


def _range_text(dimension: Dimension) -> str:
    if isinstance(dimension, Choices):
        return f"one of {', '.join(show(choice) for choice in dimension.choices)}"
    step = f" in steps of {dimension.step:g}" if dimension.step else ""
    return f"from {dimension.low:g} to {dimension.high:g}{step}"
