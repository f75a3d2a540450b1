"""Small datasets of maps whose labels can be read off the maps, and configurations for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpop.config.files.regression import RegressionConfig
from mlpop.datasets.image import write_image
from mlpop.datasets.scaling import label_statistics
from mlpop.io.files import write_csv, write_json

LABELS = ("B_initial_log10_mean", "P_initial_log10_mean")
CHANNELS = ("PMPS_ppdot", "SMPS_ppdot", "HTRU_ppdot")
SIZE = 12
MLFLOW_VARIABLES = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")


def blob_maps(theta: np.ndarray, shape: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    """(N, 3, H, W) maps with a spot whose place says the labels."""
    u = (theta[:, 0] - 12) / 2
    v = (theta[:, 1] + 1.5) / 1.2
    h, w = np.meshgrid(np.linspace(0, 1, shape[0]), np.linspace(0, 1, shape[1]), indexing="ij")
    spot = np.exp(-((h - u[:, None, None]) ** 2 + (w - v[:, None, None]) ** 2) / (2 * 0.15**2))
    return np.stack([spot, spot**2, 1 - spot], axis=1)


def draw_theta(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(12, 14, count), rng.uniform(-1.5, -0.3, count)], axis=1)


def write_dataset(
    folder: Path,
    name: str,
    theta: np.ndarray,
    *,
    kind: str = "array",
    shape: tuple[int, int] = (SIZE, SIZE),
) -> Path:
    """Write `<name>.csv` with one file a map, as the reference does."""
    folder.mkdir(parents=True, exist_ok=True)
    maps = blob_maps(theta, shape)
    suffix = ".npy" if kind == "array" else ".png"
    rows = []
    for i in range(len(theta)):
        cells = []
        for c, channel in enumerate(CHANNELS):
            path = folder / f"{name}_{channel}_{i}{suffix}"
            if kind == "array":
                np.save(path, maps[i, c])
            else:
                write_image(path, maps[i, c])
            cells.append(path.name)
        rows.append([*cells, *map(float, theta[i])])
    csv = folder / f"{name}.csv"
    write_csv(csv, [*(f"input:{c}" for c in CHANNELS), *LABELS], rows)
    return csv


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv (48 rows), valid.csv (16), test.csv (10) and statistics.json."""
    folder = tmp_path_factory.mktemp("point_data")
    for name, count, seed in (("train", 48, 1), ("valid", 16, 2), ("test", 10, 3)):
        theta = draw_theta(count, seed)
        write_dataset(folder, name, theta)
        if name == "train":
            write_json(folder / "statistics.json", label_statistics(theta, LABELS))
    return folder


def document(data: Path, save_dir: Path, **changes: Any) -> dict[str, Any]:
    """A configuration for the small dataset; `a__b=1` sets field a.b."""

    def loader(name: str, **more: Any) -> dict[str, Any]:
        args = {
            "dataset_path": str(data / f"{name}.csv"),
            "statistic_path": str(data / "statistics.json"),
            "batch_size": 8,
            "num_workers": 0,
            "filter_inputs": [0, 1, 2],
            "filter_labels": [3, 4],
            "standardize": True,
        }
        return {"type": "LoaderMultichannelArray", "args": args | more}

    values: dict[str, Any] = {
        "name": "points",
        "trials": 2,
        "convergence": {f"{label}_threshold": 0.0 for label in LABELS},
        "set_manual_seed": True,
        "manual_seed": 5,
        "arch": {"type": "ModelConv", "args": {"input_shape": [3, SIZE, SIZE]}},
        "training_data_loader": loader("train"),
        "validation_data_loader": loader("valid", shuffle=False),
        "test_data_loader": loader("test", shuffle=False, batch_size=1),
        "optimizer": {"type": "Adam", "args": {"lr": 1e-3}},
        "trainer": {
            "epochs": 3,
            "save_dir": str(save_dir),
            "save_period": 2,
            "verbosity": 0,
            "tensorboard": False,
        },
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        block = values
        for part in parents:
            block = block.setdefault(part, {})
        if value is ...:
            del block[last]
        else:
            block[last] = value
    return values


@pytest.fixture
def configuration(data: Path, tmp_path: Path) -> Callable[..., RegressionConfig]:
    """Make the configuration of a small training; `a__b=1` sets field a.b, `...` removes it."""

    def make(**changes: Any) -> RegressionConfig:
        return RegressionConfig.parse(document(data, tmp_path / "output", **changes), "test")

    return make


@pytest.fixture(scope="session")
def point_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for one tracking store of all tests of the session: making one takes seconds."""
    return tmp_path_factory.mktemp("point_store")


@pytest.fixture
def tracked(point_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run a test with that store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{point_store / 'mlflow.db'}")
    for name in MLFLOW_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(point_store)
    return point_store


@pytest.fixture
def light(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, without what takes seconds and is not looked at: figures, MLflow model, pip list.

    `test_outputs_and_tracking` and others run with them.
    """
    for name in ("commands.train_nn.log_figures", "commands.infer_nn.log_figures"):
        monkeypatch.setattr(f"mlpop.{name}", lambda *args: None)
    monkeypatch.setattr("mlpop.experiment.session.record_provenance", lambda run: {})
    monkeypatch.setattr("mlpop.commands.train_nn.log_point_model", lambda *args: "")
    return tracked
