"""The command line as a user meets it: every command, and what it says about bad input."""

import csv
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpop import __version__
from mlpop.cli import cli, main
from mlpop.config.sbi import SbiConfig
from mlpop.experiment.preflight import check_inputs
from mlpop.maps.dataset import dataset_digest
from mlpop.population.stars import StellarDatabase
from mlpop.tracking import connect, find, verify

COMMANDS = sorted(cli.commands)
HEAVY = {"torch", "mlflow", "sbi", "dask", "distributed", "numba", "pandas", "matplotlib", "scipy"}
LABELS = ("B_initial_log10_mean", "P_initial_log10_mean")
Values = dict[str, Any]


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


def write(path: Path, values: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(values))
    return path


# --- help, version, schema ------------------------------------------------------------------


def test_help_of_every_command_is_light() -> None:
    code = (
        "import sys, time\n"
        "from click.testing import CliRunner\n"
        "from mlpop.cli import cli\n"
        f"for arguments in ([], *([name] for name in {COMMANDS!r})):\n"
        "    done = CliRunner().invoke(cli, [*arguments, '--help'])\n"
        "    assert done.exit_code == 0 and 'Usage:' in done.output, done.output\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), time.process_time() < 2)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[] True\n", done.stdout + done.stderr


def test_python_m_mlpop_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlpop", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert __version__ in done.stdout


def test_documented_commands_are_there() -> None:
    assert set(COMMANDS) >= {
        "sbi",
        "dynamics",
        "simulate",
        "observe",
        "status",
        "init-folders",
        "schema",
    }


def test_every_command_says_what_it_does(mlpop: Callable[..., Ended]) -> None:
    shown = mlpop("--help").out
    for name in COMMANDS:
        (line,) = (text for text in shown.splitlines() if text.split()[:1] == [name])
        assert len(line.split()) > 3, line


def test_schema(mlpop: Callable[..., Ended]) -> None:
    kinds = json.loads(mlpop("schema").out)
    assert set(kinds) >= {"sbi", "simulate", "observe", "dynamics"}
    one = json.loads(mlpop("schema", "sbi").out)
    assert one == kinds["sbi"]
    assert "prior_ranges" in one["properties"]
    wrong = mlpop("schema", "sbj")
    assert (wrong.code, wrong.out) == (2, "")
    assert "did you mean 'sbi'?" in wrong.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inver"], "No such command 'inver'"),
        (["sbi", "--colour", "red"], "No such option"),
        (["init-folders"], "Missing option '--base_path'"),
        (["sbi", "-c"], "requires an argument"),
    ],
)
def test_wrong_usage(mlpop: Callable[..., Ended], arguments: list[str], message: str) -> None:
    ended = mlpop(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err


# --- init-folders ---------------------------------------------------------------------------


def test_init_folders_twice(mlpop: Callable[..., Ended], tmp_path: Path) -> None:
    first = mlpop("init-folders", "--base_path", tmp_path)
    keep = tmp_path / "data/training_dataset/generated_dataset/round_0/dataset_full.csv"
    keep.write_text("kept")
    second = mlpop("init-folders", "--base_path", tmp_path)
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out
    assert [Path(line).is_dir() for line in first.out.splitlines()] == [True] * 4
    assert keep.read_text() == "kept"


def test_init_folders_where_a_file_is_in_the_way(
    mlpop: Callable[..., Ended], tmp_path: Path
) -> None:
    (tmp_path / "data").touch()
    ended = mlpop("init-folders", "--base_path", tmp_path)
    assert ended.code == 2
    assert ended.err.startswith("Error: ")
    assert "cannot be made" in ended.err


# --- sbi: flags -----------------------------------------------------------------------------


@pytest.fixture
def parsed(
    mlpop: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    smoke: Callable[..., Values],
) -> Callable[..., SbiConfig]:
    """What `mlpop sbi` makes of flags: the configuration it would run."""
    file = write(tmp_path / "smoke.json", smoke(tmp_path / "output"))

    def parse(*flags: str, configuration: Path = file) -> SbiConfig:
        taken: list[SbiConfig] = []
        monkeypatch.setattr("mlpop.experiment.sbi.run_experiment", taken.append)
        ended = mlpop("sbi", "--configuration", configuration, *flags)
        assert ended.code == 0, ended.err
        return taken[0]

    return parse


def test_set_is_typed_by_the_schema(parsed: Callable[..., SbiConfig]) -> None:
    config = parsed(
        *("--set", "trainer.lr=1e-3"),
        *("--set", "trainer.ensemble=false"),
        *("--set", "name=run7"),
        *("--set", "trainer.clip_max_norm=null"),
        *("--set", "prior_ranges.low=[12.5, 0.2, -1.4, 0.2]"),
    )
    assert config.trainer.lr == 1e-3
    assert config.trainer.ensemble is False
    assert config.name == "run7"
    assert config.trainer.clip_max_norm is None
    assert config.prior_ranges.low == (12.5, 0.2, -1.4, 0.2)


def test_documented_flags_replace_their_fields_A8(parsed: Callable[..., SbiConfig]) -> None:
    config = parsed(
        *("--batch_size", "16", "--lr", "0.01", "--save_dir", "2024", "--len_output_layer", "5"),
        *("--normalize", "TRUE", "--standardize", "0", "--plot_proposal", "False"),
        *("--filter_inputs", "9,10, 11", "--input_shape", "3 32 32"),
    )
    assert (config.trainer.batch_size, config.trainer.lr) == (16, 0.01)
    assert config.trainer.save_dir == Path("2024")
    assert config.arch is not None
    assert config.arch.args.len_output_layer == 5
    assert config.arch.args.input_shape == (3, 32, 32)
    loader = config.training_data_loader
    assert (loader.normalize, loader.standardize) == (True, False)
    assert loader.filter_inputs == (9, 10, 11)
    assert config.trainer.plot_proposal is False


def test_documented_flags_of_given_data_A8(
    parsed: Callable[..., SbiConfig], tmp_path: Path
) -> None:
    values = given_values(tmp_path)
    values["observed_sample"]["filter_inputs"] = ["m"]
    config = parsed(
        *("--dataset_training", "train", "--dataset_statistics", "s.json"),
        *("--filter_inputs", "a", "--filter_labels", "1 2"),
        configuration=write(tmp_path / "given.json", values),
    )
    loader = config.training_data_loader
    assert loader.dataset_path_round_0 == Path("train")
    assert loader.statistic_path == Path("s.json")
    assert (loader.filter_inputs, loader.filter_labels) == (("a",), (1, 2))
    assert config.observed_sample.filter_inputs is None


def test_set_wins_over_a_flag(parsed: Callable[..., SbiConfig]) -> None:
    assert parsed("--lr", "0.1", "--set", "trainer.lr=0.2").trainer.lr == 0.2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lr", "fast"], "trainer.lr: must be a number, found 'fast'"),
        (["--batch_size", "1.5"], "trainer.batch_size: must be an integer, found 1.5"),
        (["--normalize", "yes"], "normalize: must be true or false, found 'yes'"),
        (["--set", "trainer.lr"], "--set trainer.lr: expected key.path=value"),
        (["--set", "name.first=x"], "--set name.first=x: 'name' is not an object"),
        (["--set", "trainer.ensembel=true"], "trainer.ensembel: "),
    ],
)
def test_wrong_flags(
    mlpop: Callable[..., Ended],
    smoke: Callable[..., Values],
    tmp_path: Path,
    flags: list[str],
    message: str,
) -> None:
    file = write(tmp_path / "smoke.json", smoke(tmp_path / "output"))
    ended = mlpop("sbi", "-c", file, *flags)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("Error") == 1
    assert len(ended.err.splitlines()) == 1


# --- sbi: bad input -------------------------------------------------------------------------


def write_dataset(
    folder: Path, name: str, rows: int = 4, shape: tuple[int, ...] = (8, 8), labels=LABELS
) -> None:
    """Write a dataset of one channel `m` with single `.npy` maps."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    lines = [",".join(["input:m", *labels])]
    for k in range(rows):
        np.save(folder / f"m_{k}.npy", rng.random(shape))
        lines.append(",".join([f"m_{k}.npy", *(f"{0.3 + 0.1 * k}" for _ in labels)]))
    (folder / name).write_text("\n".join(lines) + "\n")


def given_values(tmp_path: Path) -> Values:
    """Write a good experiment on given data; return its configuration."""
    for kind in ("train", "test"):
        write_dataset(tmp_path / kind, "dataset_full.csv")
    write_dataset(tmp_path / "observed", "dataset_atnf.csv", rows=1, labels=())
    statistics = {"mean": 0.5, "std": 0.1, "min": 0.3, "max": 0.6}
    write(tmp_path / "statistics.json", dict.fromkeys(LABELS, statistics))
    return {
        "name": "given",
        "n_processes": 1,
        "arch": {"args": {"input_shape": [1, 8, 8], "len_output_layer": 4}},
        "prior_ranges": {"labels": list(LABELS), "low": [0, 0], "high": [1, 1]},
        "training_data_loader": {
            "dataset_path_round_0": str(tmp_path / "train"),
            "statistic_path": str(tmp_path / "statistics.json"),
            "filter_inputs": ["m"],
        },
        "test_data_loader": {"testing": True, "dataset_path_round_0": str(tmp_path / "test")},
        "observed_sample": {"dataset_path": str(tmp_path / "observed")},
        "trainer": {"save_dir": str(tmp_path / "output")},
    }


def edit(folder: str, name: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(tmp_path: Path) -> None:
        path = tmp_path / folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return apply


def save(name: str, values: Any) -> Callable[[Path], None]:
    return lambda tmp_path: np.save(tmp_path / name, values)


def remove(name: str) -> Callable[[Path], None]:
    return lambda tmp_path: (tmp_path / name).unlink()


def nothing(_: Path) -> None:
    """The configuration alone is wrong."""


def test_given_values_are_good(tmp_path: Path) -> None:
    check_inputs(SbiConfig.parse(given_values(tmp_path)))


ARRAY = "observed_sample={'path': '{tmp}/x.npy'}".replace("'", '"')
BAD: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "unknown field": (nothing, ["trainer.learning_rate=1"], "trainer.learning_rate: "),
    "wrong type": (nothing, ["trainer.batch_size=many"], "trainer.batch_size: must be an integer"),
    "name with a slash": (nothing, ["name=a/b"], "name: must be a single file or folder name"),
    "no index file": (
        remove("train/dataset_full.csv"),
        [],
        "train: holds no dataset_full.csv; make one with `mlpop simulate`",
    ),
    "no test index file": (remove("test/dataset_full.csv"), [], "test: holds no dataset_full.csv"),
    "label is no column": (
        edit("train", "dataset_full.csv", LABELS[1], "other"),
        [],
        f"train/dataset_full.csv: filter_labels: no column '{LABELS[1]}'",
    ),
    "label is no column of the test set": (
        edit("test", "dataset_full.csv", LABELS[0], "other"),
        [],
        f"test/dataset_full.csv: filter_labels: no column '{LABELS[0]}'",
    ),
    "label is not a number": (
        edit("train", "dataset_full.csv", "0.5,", "nan,"),
        [],
        f"train/dataset_full.csv: row 2, column '{LABELS[0]}': expected a finite number",
    ),
    "labels in another order": (
        nothing,
        ["training_data_loader.filter_labels=[2, 1]"],
        "prior_ranges.labels: ",
    ),
    "map is no column": (
        nothing,
        ['training_data_loader.filter_inputs=["survey"]'],
        "train/dataset_full.csv: filter_inputs: no column 'survey'",
    ),
    "map is missing": (
        remove("train/m_0.npy"),
        [],
        "train/dataset_full.csv: row 0, column 'input:m': no such map file 'm_0.npy'",
    ),
    "map is cut off": (
        lambda tmp_path: (tmp_path / "train/m_0.npy").write_bytes(b"\x93NUMPY"),
        [],
        "train/m_0.npy: cannot be read",
    ),
    "maps of another shape": (
        lambda tmp_path: write_dataset(tmp_path / "train", "dataset_full.csv", shape=(16, 16)),
        [],
        "arch.args.input_shape: is [1, 8, 8], but",
    ),
    "test maps of another shape": (
        lambda tmp_path: write_dataset(tmp_path / "test", "dataset_full.csv", shape=(16, 16)),
        [],
        "test/dataset_full.csv holds maps of shape [1, 16, 16]",
    ),
    "no rows": (
        lambda tmp_path: write_dataset(tmp_path / "train", "dataset_full.csv", rows=0),
        [],
        "train/dataset_full.csv: no row below the header",
    ),
    "no statistics": (remove("statistics.json"), [], "statistics.json: no such file"),
    "statistics without the label": (
        edit("", "statistics.json", LABELS[1], "other"),
        [],
        f"the statistics have no label '{LABELS[1]}'",
    ),
    "statistics without spread": (
        edit("", "statistics.json", '"std": 0.1', '"std": 0'),
        [],
        f"label '{LABELS[0]}' cannot be scaled: its std is 0",
    ),
    "no observed sample": (
        remove("observed/dataset_atnf.csv"),
        [],
        "observed/dataset_atnf.csv: no such file",
    ),
    "observed maps of another shape": (
        lambda tmp_path: write_dataset(
            tmp_path / "observed", "dataset_atnf.csv", rows=1, shape=(16, 16)
        ),
        [],
        "observed/dataset_atnf.csv",
    ),
    "observed maps made otherwise": (
        lambda tmp_path: [
            write(tmp_path / kind / "generator.json", {"resolution_ppdot": resolution})
            for kind, resolution in (("train", 8), ("observed", 16))
        ],
        [],
        "dataset_atnf.csv: generator.resolution_ppdot is 16, the training set",
    ),
    "two observed samples": (
        lambda tmp_path: write_dataset(
            tmp_path / "observed", "dataset_atnf.csv", rows=2, labels=()
        ),
        [],
        "an observed sample has one row, found 2",
    ),
    "no observed array": (nothing, [ARRAY], "observed_sample.path: "),
    "observed array of another shape": (
        save("x.npy", np.zeros((1, 4, 4))),
        [ARRAY],
        "x.npy holds maps of shape [1, 4, 4]",
    ),
    "observed array with NaN": (
        save("x.npy", np.full((1, 8, 8), np.nan)),
        [ARRAY],
        "x.npy: must hold finite numbers, found NaN or infinity",
    ),
    "observed array of text": (save("x.npy", np.array(["a"])), [ARRAY], "found type <U1"),
    "save_dir below a file": (
        nothing,
        ["trainer.save_dir={tmp}/statistics.json/out"],
        "trainer.save_dir: ",
    ),
    "one row to train on": (
        lambda tmp_path: write_dataset(tmp_path / "train", "dataset_full.csv", rows=1),
        [],
        "train/dataset_full.csv: training needs at least 2 simulations, found 1",
    ),
    "data root that takes no folder": (
        nothing,
        [
            'training_data_loader={"simulate": true, "dataset_path": "/proc/mlpop"}',
            'simulator={"type": "gaussian_linear", "args": {"dimension": 2}}',
            "arch=null",
        ],
        "training_data_loader.dataset_path: '/proc/mlpop' cannot be written: /proc",
    ),
    "save_dir that takes no folder": (
        nothing,
        ["trainer.save_dir=/proc/mlpop"],
        "trainer.save_dir: '/proc/mlpop' cannot be written: /proc",
    ),
}


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


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_message_and_nothing_is_written(
    case: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    break_it, assignments, message = BAD[case]
    file = write(tmp_path / "sbi.json", given_values(tmp_path))
    break_it(tmp_path)
    flags = [text.replace("{tmp}", str(tmp_path)) for text in assignments]
    line = refused("sbi", "-c", file, *(part for flag in flags for part in ("--set", flag)))
    assert message in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "sbi.json: no such file"),
        ("{", "sbi.json:1: not valid JSON"),
        ("[]", "sbi.json: expected a JSON object, found list"),
        ('{"name": "a", "name": "b"}', "sbi.json: field 'name' is given twice"),
    ],
)
def test_bad_configuration_file(
    refused: Callable[..., str], tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "sbi.json").write_text(text)
    assert message in refused("sbi", "-c", tmp_path / "sbi.json")


def test_option_that_is_not_available_yet(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlpop.config.available.AVAILABLE", {"density_estimator.type": ("maf",)})
    file = write(tmp_path / "sbi.json", given_values(tmp_path))
    line = refused("sbi", "-c", file)
    assert "density_estimator.type: 'mdn' is not available yet; available: maf" in line


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            'dyn_data_loader={"dataset_path": "gone"}',
            "gone: holds neither final_pop_dyn.csv nor a stellar database",
        ),
        ("simulator.args.population.birth_rate_max=99", "NS_number"),
        ('simulator={"type": "no.such:Thing"}', "simulator.type: 'no.such:Thing': cannot import"),
        ('simulator={"type": "two_moons"}', "prior_ranges.labels: "),
        ("generator.resolution_ppdot=16", "arch.args.input_shape"),
    ],
)
def test_simulations_that_cannot_work(
    refused: Callable[..., str],
    smoke: Callable[..., Values],
    tmp_path: Path,
    assignment: str,
    message: str,
) -> None:
    file = write(tmp_path / "sbi.json", smoke(tmp_path / "output"))
    assert message in refused("sbi", "-c", file, "--set", assignment)


def test_observed_sky_of_another_resolution_than_the_simulations(
    refused: Callable[..., str], smoke: Callable[..., Values], tmp_path: Path
) -> None:
    values = smoke(tmp_path / "output")
    observed = tmp_path / "observed"
    observed.mkdir()
    channels = values["training_data_loader"]["filter_inputs"]
    for channel in channels:
        np.save(observed / f"{channel}_0.npy", np.ones((32, 32)))
    header = ",".join(f"input:{channel}" for channel in channels)
    cells = ",".join(f"{channel}_0.npy" for channel in channels)
    (observed / "dataset_atnf.csv").write_text(f"{header}\n{cells}\n")
    write(observed / "generator.json", {"resolution_dyn": 32, "smoothing_sigma": 4.0})
    values["observed_sample"] = {"dataset_path": str(observed)}
    file = write(tmp_path / "sbi.json", values)
    assert "generator.smoothing_sigma is 4.0, the simulated training set has" in refused(
        "sbi", "-c", file
    )


# --- simulate -------------------------------------------------------------------------------


@pytest.fixture
def grid(stars: Values, tmp_path: Path) -> Path:
    """A grid of four pulsar populations."""
    return write(
        tmp_path / "simulate.json",
        {
            "name": f"grid-{tmp_path.name}",
            "simulator": {
                "args": {"population": {"preset": "current", "birth_rate_max": 0.02}},
            },
            "dyn_data_loader": {"database": stars},
            "sampling_type": "grid",
            "parameters": {LABELS[0]: [12.5, 13.5, 2], LABELS[1]: [-1.0, -0.5, 2]},
            "seed": 5,
            "save_dir": str(tmp_path / "set"),
            "split": {"test": 0.25},
            "compute": {"n_processes": 1, "simulations_per_task": 1},
        },
    )


def test_simulate_a_grid_and_complete_it(
    mlpop: Callable[..., Ended], at_work: Path, grid: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    first = mlpop("simulate", "-c", grid)
    assert first.code == 0, first.err
    with (folder / "dataset_full.csv").open() as file:
        rows = list(csv.DictReader(file))
    theta = [tuple(float(row[label]) for label in LABELS) for row in rows]
    assert theta == [(12.5, -1.0), (12.5, -0.5), (13.5, -1.0), (13.5, -0.5)]
    maps = [name for name in rows[0] if name.startswith("input:")]
    assert len(maps) == 15
    assert {path.name for path in folder.iterdir()} >= {
        *("dataset_full.csv", "dataset_train.csv", "dataset_test.csv", "manifest.csv"),
        *("parameter_sets.csv", "statistics_full.json", "statistics_train.json"),
    }
    assert len((folder / "dataset_test.csv").read_text().splitlines()) == 2
    digest = dataset_digest(folder)
    (run,) = find(connect(), {"mlpop.kind": "simulate", "mlpop.name": f"grid-{tmp_path.name}"})
    assert run.info.status == "FINISHED"
    assert verify(connect().client, run.info.run_id) == []
    assert run.info.run_id in first.err

    shutil.rmtree(folder / "shards" / "shard-00002")
    (folder / "dataset_full.csv").unlink()
    before = tree_of(folder / "shards")
    second = mlpop("simulate", "-c", grid)
    assert second.code == 0, second.err
    after = tree_of(folder / "shards")
    assert {path: after[path] for path in before} == before
    assert len(after) > len(before)
    assert dataset_digest(folder) == digest


def test_sweep_without_a_seed_is_completed_with_the_seed_of_its_folder(
    mlpop: Callable[..., Ended], at_work: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    values = {
        "name": "unseeded",
        "simulator": {"type": "gaussian_linear", "args": {"dimension": 2}},
        "sampling_type": "lhs",
        "sampling_size": 6,
        "parameters": {"theta_1": [-1, 1], "theta_2": [-1, 1]},
        "save_dir": str(folder),
        "compute": {"n_processes": 1, "simulations_per_task": 2},
    }
    file = write(tmp_path / "simulate.json", values)
    assert mlpop("simulate", "-c", file).code == 0
    digest = dataset_digest(folder)
    shutil.rmtree(folder / "shards" / "shard-00001")
    again = mlpop("simulate", "-c", file)
    assert again.code == 0, again.err
    assert dataset_digest(folder) == digest

    before = tree_of(folder)
    other = mlpop("simulate", "-c", file, "--set", "sampling_size=8")
    assert other.code == 2
    assert other.err.startswith(f"Error: {folder}/parameter_sets.csv: the folder holds another")
    assert tree_of(folder) == before
    other = mlpop("simulate", "-c", file, "--set", "simulator.args.noise=0.2")
    assert other.code == 2
    assert "campaign.json: the folder holds the simulations of another campaign" in other.err
    assert dataset_digest(folder) == digest


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("split.test=0.1", "split.test: a fraction of 0.1 of 4 rows is 0 rows"),
        ('dyn_data_loader={"dataset_path": "gone"}', "gone: holds neither"),
        ("parameters.brightness=[0, 1, 2]", "brightness"),
        ("save_dir=/proc/mlpop", "save_dir: '/proc/mlpop' cannot be written"),
        ("sampling_size=4", "sampling_size: must be null for a grid"),
    ],
)
def test_simulate_refuses_before_it_writes(
    refused: Callable[..., str], grid: Path, assignment: str, message: str
) -> None:
    line = refused("simulate", "-c", grid, "--set", assignment, "--set", "split.valid=null")
    assert message in line


# --- dynamics -------------------------------------------------------------------------------


def test_dynamics_exported_and_imported(
    mlpop: Callable[..., Ended], at_work: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "dynamics.json", {"seed": 9, "NS_number": 300, "t_age_max": 1e7})
    exported = tmp_path / "csv"
    first = mlpop("dynamics", "-c", file, "--export-csv", exported)
    assert first.code == 0, first.err
    assert {path.name for path in exported.iterdir()} == {
        "final_pop_dyn.csv",
        "configuration.json",
    }
    second = mlpop("dynamics", "-c", file, "--import-csv", exported)
    assert second.code == 0, second.err
    built, imported = reversed(find(connect(), {"mlpop.kind": "dynamics"})[:2])
    assert {run.info.status for run in (built, imported)} == {"FINISHED"}
    folders = [Path(run.data.tags["mlpop.folder"]) for run in (built, imported)]
    assert folders[0] != folders[1]
    here, there = (StellarDatabase.open(folder) for folder in folders)
    assert len(here) == len(there) == 300
    for name in ("age", "l", "b", "d", "pm_ra", "v_ls"):
        a, b = np.sort(here.columns[name]), np.sort(there.columns[name])
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)
    for run in (built, imported):
        assert verify(connect().client, run.info.run_id) == []
        assert run.data.params["cfg.n_stars"] == "300"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--import-csv", "gone"], "gone: holds neither final_pop_dyn.csv"),
        (["--export-csv", "full"], "--export-csv: full/final_pop_dyn.csv exists"),
        (["--export-csv", "/proc/mlpop"], "--export-csv: '/proc/mlpop' cannot be written"),
        (["--set", "NS_number=0"], "NS_number: must be at least 1, found 0"),
    ],
)
def test_dynamics_refuses_before_it_writes(
    refused: Callable[..., str], tmp_path: Path, flags: list[str], message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "final_pop_dyn.csv").touch()
    file = write(tmp_path / "dynamics.json", {"NS_number": 300})
    assert message in refused("dynamics", "-c", file, *flags)


# --- observe --------------------------------------------------------------------------------

PULSAR = """\
PSRJ     {name}
RAJ      {ra}
DECJ     {dec}
P0       {period}
P1       {derivative}
S1400    {flux}
SURVEY   pksmb,pkssw,htru_pks
@-----------------------------------------------------------------
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A `psrcat.db`: three pulsars near l = 310, b = 1, and one that spins too fast."""
    pulsars = [
        ("J1350-6100", "13:50:00", "-61:00:00", 0.5, 1e-15, 2.0),
        ("J1351-6101", "13:51:00", "-61:01:00", 0.7, 5e-15, 1.0),
        ("J1352-6102", "13:52:00", "-61:02:00", 1.2, 2e-14, 0.4),
        ("J1353-6103", "13:53:00", "-61:03:00", 0.004, 1e-20, 1.0),
    ]
    names = ("name", "ra", "dec", "period", "derivative", "flux")
    path = tmp_path / "psrcat.db"
    text = "".join(PULSAR.format(**dict(zip(names, row, strict=True))) for row in pulsars)
    path.write_text(f"#CATALOGUE 9.99\n{text}")
    return path


def test_observe_a_catalogue(
    mlpop: Callable[..., Ended], at_work: Path, catalogue: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "observed"
    generator = {"resolution_dyn": 16, "resolution_ppdot": 16, "smoothing_sigma": 0}
    values = {"source": str(catalogue), "save_dir": str(folder), "fluxes": "S1400"}
    file = write(tmp_path / "observe.json", values | {"generator": generator})
    ended = mlpop("observe", "-c", file)
    assert ended.code == 0, ended.err
    with (folder / "dataset_atnf.csv").open() as text:
        (row,) = csv.DictReader(text)
    for survey in ("PMPS", "SMPS", "HTRU"):
        counts = np.load(folder / row[f"input:survey_{survey}_ppdot_map"])
        assert counts.shape == (16, 16)
        assert counts.sum() == pytest.approx(3)
        assert row[f"input:survey_{survey}_velocity_map_vra"] == ""
    assert "not in a binary" in ended.err
    (run,) = find(connect(), {"mlpop.kind": "observe"})
    assert verify(connect().client, run.info.run_id) == []
    assert run.data.metrics["in_maps/PMPS"] == 3


def test_observe_refuses_before_it_writes(refused: Callable[..., str], tmp_path: Path) -> None:
    file = write(tmp_path / "observe.json", {"source": "gone.db", "save_dir": "observed"})
    assert "gone.db" in refused("observe", "-c", file)


# --- status ---------------------------------------------------------------------------------


def test_status(
    mlpop: Callable[..., Ended],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vectors: Callable[..., Values],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    assert mlpop("status").out == "no runs\n"
    values = vectors(
        tmp_path / "output",
        test_data_loader__testing=False,
        training_data_loader__num_sim=40,
        training_data_loader__dataset_path=str(tmp_path / "data_root"),
        trainer__max_num_epochs=1,
        show_profiling=True,
    )
    done = mlpop("sbi", "-c", write(tmp_path / "sbi.json", values))
    assert done.code == 0, done.err
    assert done.out == ""
    for part in ("root seed 7", "theta_1", "[TotalTraining] finished", "mlflow ui"):
        assert part in done.err
    assert not (tmp_path / "output" / "data").exists()
    assert len(list(tmp_path.glob("data_root/generated_dataset/round_0_*/dataset_full.csv"))) == 1
    table = mlpop("status").out.splitlines()
    assert len(table) == 2
    assert table[1].split()[:4] == ["vectors", "complete", "FINISHED", "ended"]
    run_id = table[1].split()[-1]
    whole = mlpop("status", run_id).out.splitlines()
    assert [line.split()[0] for line in whole[1:]] == ["vectors", "round_00", "member_00"]
    wrong = mlpop("status", "f" * 32)
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.startswith("Error: ")


def test_run_of_mlflow_run_learns_why_nothing_was_started(
    mlpop: Callable[..., Ended], at_work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = connect().client
    given = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    assert mlpop("sbi", "-c", tmp_path / "gone.json").code == 2
    tags = client.get_run(given).data.tags
    assert tags["mlpop.error"] == f"{tmp_path}/gone.json: no such file"
    assert tags["mlpop.state"] == "stopped"
    client.set_terminated(given, "FAILED")


def test_a_disk_that_fails_is_one_message(
    mlpop: Callable[..., Ended],
    tmp_path: Path,
    smoke: Callable[..., Values],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: SbiConfig) -> None:
        raise OSError(28, "No space left on device", "samples_posterior.pt")

    monkeypatch.setattr("mlpop.experiment.sbi.run_experiment", full)
    ended = mlpop("sbi", "-c", write(tmp_path / "smoke.json", smoke(tmp_path / "output")))
    assert ended.code == 2
    assert ended.err == "Error: [Errno 28] No space left on device: 'samples_posterior.pt'\n"
