"""What tests of whole experiments share: a tracking store, a cache, and tiny configurations."""

import copy
import json
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing import current_process, forkserver
from pathlib import Path
from typing import Any

import pytest

from mlpop.cli.main import main
from mlpop.config.fields import S3Uri

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `benchmarks`
sys.path.insert(0, str(Path(__file__).parent))

from object_store import BUCKET, Gateway, ObjectStoreServer

pytest_plugins = (
    "small_experiments",
    "small_studies",
    "small_datasets",
    "point_data",
    "closed_forms",
)

REPOSITORY = Path(__file__).parents[1]
MLFLOW_VARIABLES = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
Changes = Mapping[str, Any]


def changed(document: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Return a copy of `document` with every `dotted.path` of `changes` set."""
    result = copy.deepcopy(dict(document))
    for path, value in changes.items():
        *parents, last = path.split(".")
        block = result
        for name in parents:
            block = block.setdefault(name, {})
        block[last] = value
    return result


@pytest.fixture(scope="session", name="changed")
def _changed() -> Callable[[Mapping[str, Any], Changes], dict[str, Any]]:
    """Give `changed` to tests."""
    return changed


@pytest.fixture(scope="session")
def workplace(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], AbstractContextManager[Path]]:
    """Give a block the session's store, cache and working directory; its value is the folder."""
    folder = tmp_path_factory.mktemp("workplace")

    @contextmanager
    def enter() -> Iterator[Path]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
            patch.setenv("MLPOP_CACHE_DIR", str(folder / "cache"))
            for name in MLFLOW_VARIABLES:
                patch.delenv(name, raising=False)
            patch.chdir(folder)
            yield folder

    return enter


@pytest.fixture
def own_fork_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A fork server of this test alone, with multiprocessing's temporary folder made anew.

    That of other tests goes on: it would not end before all who were forked from it.
    """
    config: dict[str, Any] = current_process()._config  # type: ignore[attr-defined]
    before = config.pop("tempdir", None)
    server = forkserver.ForkServer()
    for name in ("ensure_running", "connect_to_new_process", "set_forkserver_preload"):
        monkeypatch.setattr(forkserver, name, getattr(server, name))
    monkeypatch.setattr(forkserver, "_forkserver", server)
    yield server
    if server._forkserver_pid is not None:  # type: ignore[attr-defined]
        os.kill(server._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
    server._stop()  # type: ignore[attr-defined]
    config.pop("tempdir", None)
    if before is not None:
        config["tempdir"] = before


@pytest.fixture(params=[80, 400])
def long_tmpdir(
    request: pytest.FixtureRequest,
    own_fork_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Path:
    """A folder for temporary files whose path leaves no room for sockets."""
    folder = tmp_path
    while len(str(folder)) < request.param:
        folder /= "scratch" * 4
    folder.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def at_work(workplace: Callable[[], AbstractContextManager[Path]]) -> Iterator[Path]:
    """Run the test in the session's workplace."""
    with workplace() as folder:
        yield folder


@pytest.fixture
def process_environment(at_work: Path) -> dict[str, str]:
    """Environment of a process that works in the same store and cache."""
    paths = [str(REPOSITORY), str(REPOSITORY / "tests" / "integration")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="session")
def stars() -> dict[str, Any]:
    """The smallest stellar database that gives surveys something to see."""
    return {"seed": 42, "NS_number": 6000, "t_age_max": 3e7}


@pytest.fixture(scope="session")
def smoke(stars: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Values of a pulsar experiment: `experiments/smoke.json`, smaller still."""
    document = json.loads((REPOSITORY / "experiments" / "smoke.json").read_text())
    small = {
        "dyn_data_loader.database": stars,
        "simulator.args.population.birth_rate_max": 0.02,
        "compute.simulations_per_task": 2,
        # one process: nothing to start
        "enable_dask": False,
        "n_processes": 1,
        "show_profiling": False,
    }

    def make(save_dir: Path, **changes: Any) -> dict[str, Any]:
        dotted = {path.replace("__", "."): value for path, value in changes.items()}
        return changed(document, small | {"trainer.save_dir": str(save_dir)} | dotted)

    return make


@pytest.fixture(scope="session")
def vectors() -> Callable[..., dict[str, Any]]:
    """Values of an experiment on vectors, whose posterior is known: one network, no maps."""
    document = {
        "name": "vectors",
        "n_gpu": 0,
        "n_processes": 1,
        "set_manual_seed": True,
        "manual_seed": 7,
        "show_profiling": False,
        "arch": None,
        "density_estimator": {
            "type": "mdn",
            "args": {"hidden_features": 16, "num_components": 2},
        },
        "prior_ranges": {"labels": ["theta_1", "theta_2"], "low": [-1, -1], "high": [1, 1]},
        "training_data_loader": {"simulate": True, "num_sim": 400},
        "test_data_loader": {
            "testing": True,
            "simulate": True,
            "num_sim": 10,
            "num_predictive": 0,
        },
        "observed_sample": {"synthetic": {"theta": {"theta_1": 0.3, "theta_2": -0.4}}},
        "simulator": {"type": "gaussian_linear", "args": {"dimension": 2, "noise": 0.2}},
        "trainer": {
            "batch_size": 20,
            "lr": 5e-3,
            "max_num_epochs": 15,
            "num_posterior_samples": 2000,
        },
        "compute": {"simulations_per_task": 100},
    }

    def make(save_dir: Path, **changes: Any) -> dict[str, Any]:
        dotted = {path.replace("__", "."): value for path, value in changes.items()}
        return changed(document, {"trainer.save_dir": str(save_dir)} | dotted)

    return make


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def mlpop(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Ended]]:
    """Run a command in this process."""
    logger = logging.getLogger("mlpop")
    before = logger.level, logger.propagate, list(logger.handlers)

    def start(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["mlpop", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        return Ended(code, *capsys.readouterr())

    yield start
    logger.setLevel(before[0])
    logger.propagate, logger.handlers = before[1], before[2]


def tree_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def refused(
    mlpop: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run a command that must be refused in one line, with nothing written; return the line."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLPOP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def start(*arguments: object) -> str:
        before = tree_of(tmp_path)
        ended = mlpop(*arguments)
        assert tree_of(tmp_path).keys() == before.keys()
        assert (ended.code, ended.out) == (2, ""), ended.err
        (line,) = ended.err.splitlines()
        assert line.startswith("Error: ")
        return line

    return start


@pytest.fixture(scope="session")
def object_store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    """A whole S3 server, started once."""
    server = ObjectStoreServer(tmp_path_factory.mktemp("object_store"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def object_store(
    object_store_server: ObjectStoreServer, monkeypatch: pytest.MonkeyPatch
) -> ObjectStoreServer:
    """The S3 server, its address and keys in the environment of the test."""
    for name, value in object_store_server.environment.items():
        monkeypatch.setenv(name, value)
    return object_store_server


@pytest.fixture
def place(object_store: ObjectStoreServer) -> S3Uri:
    """An empty folder in the object store."""
    return S3Uri(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture
def gateway(object_store: ObjectStoreServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """The way to the object store in this test."""
    gateway = Gateway(object_store.ports["s3"])
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", gateway.endpoint)
    yield gateway
    gateway.close()
