"""Mutated configurations and broken datasets: a sentence and exit code 2, or a good start.

Nothing may end with a traceback or hang, and nothing may be there afterwards: the commands run up
to the point at which a run would begin. Seeds are the numbers of the cases.
"""

import copy
import json
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.scaling import label_statistics
from mlpop.errors import MlpopError
from mlpop.experiment.inputs.checks import check_inputs
from mlpop.experiment.inputs.problem import (
    learning_problem,
    load_training_set,
    write_training_arrays,
)

LABELS = ("a", "b")
MOST_SECONDS = 10
LONGEST = 4000
"""Longest message [characters]."""

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**12, 10**400, -(10**20)),
    *(0.0, -0.0, 0.5, 1.0, 1e-320, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", " ", ".", "..", "/", "~", "~nobody/x", "/dev/zero", "/dev/null", "/proc/self/mem"),
    *("a/b", "a\nb", "a\0b", "é", "日本", "#", "%41", "a,b", "s3://", "s3://b/k", "http://x"),
    *("x" * 300, "x" * 300_000, "1", "NaN", "null", "{}", "[]", "-", "\ud7ff", "😀"),
    *([], [[]], {}, {"": 1}, {"a": {"b": []}}, [None], [1, "a"], [0] * 1000, [[1, 2], [3]]),
    *(["a", "a"], ["b", "a"], [-1], [10**9], {"__class__": "x"}, {"type": None}),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all values in a document."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutated(document: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return a copy of a document with one to three odd changes."""
    rng = np.random.default_rng([14, seed])
    values = copy.deepcopy(dict(document))
    for _ in range(int(rng.integers(1, 4))):
        found = list(places(values))
        if not found:
            break
        *parents, last = found[rng.integers(len(found))]
        block: Any = values
        for key in parents:
            block = block[key]
        odd = copy.deepcopy(ODD[rng.integers(len(ODD))])
        match rng.integers(6):
            case 0:
                del block[last]
            case 1 if isinstance(block, dict):
                block[f"{last}{'s_ x'[rng.integers(4)]}"] = block.pop(last)
            case 2 if isinstance(block, dict):
                block["extra"] = odd
            case 3:
                block[last] = [block[last]]
            case _:
                block[last] = odd
    return values


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Refuse a block that takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def write_set(folder: Path, name: str, rows: int, labels: tuple[str, ...] = LABELS) -> None:
    rng = np.random.default_rng(3)
    folder.mkdir()
    lines = [",".join(["input:m", "input:n", *labels])]
    for k in range(rows):
        for channel in "mn":
            np.save(folder / f"{channel}_{k}.npy", rng.random((8, 8)))
        lines.append(",".join([f"m_{k}.npy", f"n_{k}.npy", *(f"{rng.random()}" for _ in labels)]))
    (folder / name).write_text("\n".join(lines) + "\n")


def given(folder: Path) -> dict[str, Any]:
    """Write a good experiment on given data; return its configuration."""
    write_set(folder / "train", "dataset_full.csv", 6)
    write_set(folder / "test", "dataset_full.csv", 4)
    write_set(folder / "observed", "dataset_atnf.csv", 1, ())
    (folder / "statistics.json").write_text(
        json.dumps(label_statistics(np.random.default_rng(0).random((9, 2)), LABELS))
    )
    return {
        "name": "fuzz",
        "n_gpu": 0,
        "n_processes": 1,
        "manual_seed": 3,
        "set_manual_seed": True,
        "arch": {"type": "ModelConvSBI", "args": {"input_shape": [2, 8, 8]}},
        "density_estimator": {"type": "mdn", "args": {"hidden_features": 8, "num_components": 2}},
        "mcmc_sampler": {"num_chains": 4, "thin": 2},
        "prior_ranges": {"labels": list(LABELS), "low": [0, 0], "high": [1, 1]},
        "training_data_loader": {
            "dataset_path_round_0": str(folder / "train"),
            "statistic_path": str(folder / "statistics.json"),
            "filter_inputs": ["m", "n"],
            "num_sim": 10,
        },
        "test_data_loader": {"testing": True, "dataset_path_round_0": str(folder / "test")},
        "observed_sample": {"dataset_path": str(folder / "observed")},
        "trainer": {
            **{"type": "snpe", "num_rounds": 1, "save_dir": str(folder / "output")},
            **{"batch_size": 8, "lr": 1e-3, "ensemble": True, "size_ensemble": 2},
        },
    }


def simulated(folder: Path) -> dict[str, Any]:
    """Return a good experiment that simulates."""
    return {
        "name": "fuzz",
        "arch": None,
        "simulator": {"type": "gaussian_linear", "args": {"dimension": 2}},
        "prior_ranges": {
            "labels": ["theta_1", "theta_2"],
            "low": [-1, -1],
            "high": [1, 1],
            "distributions": {"theta_1": {"type": "normal", "args": {"mean": 0, "std": 1}}},
        },
        "training_data_loader": {"simulate": True, "num_sim": 20},
        "test_data_loader": {"testing": True, "simulate": True, "num_sim": 10},
        "observed_sample": {"synthetic": {"theta": {"theta_1": 0.1, "theta_2": 0.2}}},
        "compute": {"simulations_per_task": 4, "time_limit": 5.0, "max_attempts": 2},
        "trainer": {"save_dir": str(folder / "output"), "num_rounds": 2, "truncated_prior": True},
    }


DOCUMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {"given": given, "simulated": simulated}


def study(config: Any, *_: object) -> None:
    """Stand for a command: go as far as the first effect."""
    if isinstance(config, SbiConfig):
        check_inputs(config)


def check_configurations(
    seeds: range, mlpop: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start `mlpop sbi` with mutated configurations; collect what does not end well."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLPOP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mlpop.commands.sbi.run_experiment", study)
    documents = [make(tmp_path) for make in DOCUMENTS.values()]
    path, faults, codes = tmp_path / "sbi.json", [], {0: 0, 2: 0}
    before = {p for p in tmp_path.rglob("*")} | {path}
    for seed in seeds:
        path.write_text(json.dumps(mutated(documents[seed % len(documents)], seed)))
        try:
            with within(MOST_SECONDS):
                ended = mlpop("sbi", "-c", path)
        except BaseException as error:
            faults.append(f"{seed}: {type(error).__name__}: {str(error)[:200]}")
            continue
        codes[ended.code] = codes.get(ended.code, 0) + 1
        if ended.code not in (0, 2) or "Traceback" in ended.err:
            faults.append(f"{seed}: exit code {ended.code}: {ended.err[-300:]}")
        elif ended.code == 2 and not 0 < len(ended.err) < LONGEST:
            faults.append(f"{seed}: a message of {len(ended.err)} characters")
    left = {p for p in tmp_path.rglob("*")} - before
    assert not faults, "\n".join(faults[:20])
    assert not left, f"left behind: {left}"
    assert min(codes[0], codes[2]) > 0, codes


def break_file(path: Path, rng: np.random.Generator) -> str:
    """Damage one file of a dataset; return how."""
    data = path.read_bytes()
    match int(rng.integers(12)):
        case 0:
            path.write_bytes(data[: int(rng.integers(len(data)))])
            return "cut off"
        case 1:
            place = int(rng.integers(len(data)))
            path.write_bytes(data[:place] + bytes([rng.integers(256)]) + data[place + 1 :])
            return "a byte changed"
        case 2:
            path.write_bytes(rng.bytes(int(rng.integers(1, 400))))
            return "noise"
        case 3:
            path.write_bytes(b"\xef\xbb\xbf" + data)
            return "byte order mark"
        case 4:
            path.unlink()
            path.mkdir()
            return "a folder"
        case 5:
            path.unlink()
            path.symlink_to("/dev/zero")
            return "a device"
        case 6:
            path.write_bytes(b"")
            return "empty"
        case 7:
            np.savez(path.with_suffix(".tmp"), a=np.ones(3))
            path.with_suffix(".tmp.npz").rename(path)
            return "an npz"
        case 8 if path.suffix == ".npy":
            values = (np.full((8, 8), np.nan), np.zeros((8, 8, 8)), np.array(3.0), np.full(3, "a"))
            np.save(path, values[rng.integers(4)])
            return "another array"
        case 9 if path.suffix == ".npy":
            np.save(path, np.full((8, 8), 10.0 ** rng.integers(30, 300)))
            return "large numbers"
        case 10 if path.suffix != ".npy":
            odd = ("", "nan", "1e400", "a,b", '"', "x.npy#9", "\0", "C:\\m_0.npy", "-", "m_0.png")
            cells = data.decode().split(",")
            cells[rng.integers(len(cells))] = odd[rng.integers(len(odd))]
            path.write_text(",".join(cells))
            return "another cell"
        case 11:
            Image.new("L", (9, 9)).save(path.with_suffix(".png"))
            path.with_suffix(".png").rename(path)
            return "a picture"
    path.unlink()
    return "missing"


def check_datasets(seeds: range, tmp_path: Path) -> None:
    """Read damaged datasets as an experiment does; collect what is no sentence."""
    faults = []
    for seed in seeds:
        rng = np.random.default_rng([15, seed])
        folder = tmp_path / f"case{seed}"
        folder.mkdir()
        config = SbiConfig.parse(given(folder))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = files[rng.integers(len(files))]
        fault = f"{seed}: {path.relative_to(folder)}: {break_file(path, rng)}"
        try:
            with within(MOST_SECONDS):
                check_inputs(config)
                data = load_training_set(config, folder / "train" / "dataset_full.csv")
                problem = learning_problem(config, data, folder / "statistics.json")
                arrays = write_training_arrays(folder / "arrays", problem, data)
            if not np.isfinite(np.load(arrays.x_path)).all():
                faults.append(f"{fault}: networks see what is not finite")
        except MlpopError as error:
            if not 0 < len(str(error)) < LONGEST:
                faults.append(f"{fault}: a message of {len(str(error))} characters")
        except BaseException as error:
            faults.append(f"{fault}: {type(error).__name__}: {str(error)[:200]}")
        shutil.rmtree(folder)
    assert not faults, "\n".join(faults[:20])


def test_some_mutated_configurations(mlpop, tmp_path: Path, monkeypatch) -> None:
    check_configurations(range(60), mlpop, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(1, 13))
def test_mutated_configurations(hundred: int, mlpop, tmp_path: Path, monkeypatch) -> None:
    check_configurations(range(100 * hundred, 100 * hundred + 100), mlpop, tmp_path, monkeypatch)


def test_some_broken_datasets(tmp_path: Path) -> None:
    check_datasets(range(30), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fifty", range(1, 5))
def test_broken_datasets(fifty: int, tmp_path: Path) -> None:
    check_datasets(range(50 * fifty, 50 * fifty + 50), tmp_path)
