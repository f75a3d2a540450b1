"""One temporary sqlite store for all tests of a session: creating one takes seconds."""

import os
from pathlib import Path

import pytest

from mlpop.tracking import Store, connect

MLFLOW_VARIABLES = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def session_store(store_folder: Path) -> Store:
    # left again at once: folder and store are those of the tests that ask for them
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store_folder / 'mlflow.db'}")
        patch.chdir(store_folder)
        return connect()


@pytest.fixture
def store(session_store: Store, store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", session_store.uri)
    for name in MLFLOW_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(store_folder)
    return session_store


@pytest.fixture
def child_environment(store: Store) -> dict[str, str]:
    """Environment of a process that works on the same store."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
