"""A small study on vectors, run once for all tests of this folder."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlpop.commands.study import StudyResult, run_study
from mlpop.config.files.study import StudyConfig
from mlpop.tracking import Node, Store, connect, tree

Values = dict[str, Any]

TRIALS = 14

SPACE: Values = {
    "trainer.lr": {"type": "categorical", "choices": [5e-3, 2e-3, 8e-3, 1e-5, 1e25]},
    "density_estimator.args.hidden_features": {"type": "int", "low": 4, "high": 32, "log": True},
    "density_estimator.type": {"type": "categorical", "choices": ["mdn", "maf"]},
    "density_estimator.args.num_components": {
        "type": "int",
        "low": 1,
        "high": 6,
        "when": {"density_estimator.type": "mdn"},
    },
}
"""1e25 makes every loss NaN, 1e-5 learns nothing and is pruned."""


@pytest.fixture(scope="session")
def study_values(vectors: Callable[..., Values]) -> Callable[..., Values]:
    """Values of a study on 200 vectors, a few epochs each."""

    def make(save_dir: Path, **changes: Any) -> Values:
        base = vectors(save_dir, training_data_loader__num_sim=200, trainer__max_num_epochs=8)
        return {
            "name": "small",
            "base": base,
            "use_default_space": False,
            "space": SPACE,
            "sampler": {"type": "tpe", "n_startup_trials": 6},
            # importances need four complete trials
            "pruner": {"type": "median", "n_startup_trials": 4, "n_warmup_steps": 2},
            "n_trials": TRIALS,
        } | changes

    return make


@dataclass(frozen=True)
class Studied:
    """A study that ended."""

    config: StudyConfig
    result: StudyResult
    store: Store

    @property
    def tree(self) -> Node:
        return tree(self.store, self.result.run_id)


@pytest.fixture(scope="session")
def study(
    workplace: Callable[[], AbstractContextManager[Path]],
    study_values: Callable[..., Values],
    tmp_path_factory: pytest.TempPathFactory,
) -> Studied:
    """The study, run serially to its end."""
    with workplace():
        config = StudyConfig.parse(study_values(tmp_path_factory.mktemp("study")))
        return Studied(config, run_study(config), connect())
