"""JSON schema of every kind of configuration file."""

from collections.abc import Mapping
from typing import Any

from mlpop.config.base import StrictModel, may_be_of
from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.config.files.compare import CompareConfig
from mlpop.config.files.observe import ObserveConfig
from mlpop.config.files.regression import RegressionConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.simulate import SimulateConfig
from mlpop.config.files.study import StudyConfig
from mlpop.config.messages import one_of
from mlpop.errors import ConfigError

KINDS: Mapping[str, type[StrictModel]] = {
    "compare": CompareConfig,
    "dynamics": DynamicsConfig,
    "infer_nn": RegressionConfig,
    "observe": ObserveConfig,
    "sbi": SbiConfig,
    "simulate": SimulateConfig,
    "study": StudyConfig,
    "train_nn": RegressionConfig,
}


def listing() -> str:
    """Return a line for every kind of file: its name, and what it describes."""
    lines = [f"{kind:<10}{(model.__doc__ or '').splitlines()[0]}" for kind, model in KINDS.items()]
    more = "`mlpop schema KIND` prints its JSON schema: every field, type, default and meaning."
    return "\n".join([*lines, "", more])


def kinds_of(values: Mapping[str, Any]) -> list[str]:
    """Return the kinds of files that may hold all the fields at the top of `values`."""
    return [kind for kind, model in KINDS.items() if may_be_of(model, values)]


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON schema of one kind of file.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"schema: {one_of(kind, list(KINDS))}")
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return dialect | KINDS[kind].model_json_schema()
