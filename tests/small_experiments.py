"""Two small experiments, run once for all tests of this folder."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlpop.commands.sbi import ExperimentResult, run_experiment
from mlpop.config.files.sbi import SbiConfig
from mlpop.tracking import Node, Store, connect, tree

Values = dict[str, Any]
Workplace = Callable[[], AbstractContextManager[Path]]


@dataclass(frozen=True)
class Done:
    """An experiment that ended: its configuration, result and files."""

    config: SbiConfig
    result: ExperimentResult
    store: Store

    @property
    def save_dir(self) -> Path:
        return self.config.trainer.save_dir

    @property
    def logs(self) -> Path:
        (folder,) = (self.save_dir / "logs" / self.config.name).iterdir()
        return folder

    @property
    def models(self) -> Path:
        (folder,) = (self.save_dir / "models" / self.config.name).iterdir()
        return folder

    @property
    def tree(self) -> Node:
        return tree(self.store, self.result.run_id)

    def dataset(self, kind: str) -> Path:
        """Folder of the simulated `training` or `test` set of round 0."""
        root = self.save_dir / "data" / f"{kind}_dataset" / "generated_dataset"
        (folder,) = root.iterdir()
        return folder

    def summary(self) -> Values:
        values: Values = json.loads((self.models / "round_0" / "summary.json").read_text())
        return values


@pytest.fixture(scope="session")
def run(workplace: Workplace) -> Callable[[Values], Done]:
    """Run an experiment in the session's workplace."""

    def start(values: Values) -> Done:
        with workplace():
            config = SbiConfig.parse(values)
            return Done(config, run_experiment(config), connect())

    return start


@pytest.fixture(scope="session")
def pulsars(
    run: Callable[[Values], Done],
    smoke: Callable[..., Values],
    tmp_path_factory: pytest.TempPathFactory,
) -> Done:
    """The smoke experiment: maps, an ensemble of two, a synthetic sky."""
    return run(smoke(tmp_path_factory.mktemp("pulsars")))


@pytest.fixture(scope="session")
def gaussian(
    run: Callable[[Values], Done],
    vectors: Callable[..., Values],
    tmp_path_factory: pytest.TempPathFactory,
) -> Done:
    """Vectors and a single network, with an exact posterior to compare with."""
    return run(vectors(tmp_path_factory.mktemp("gaussian")))
