"""The command line as a user meets it: every command, and what it says about bad input."""

import csv
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpop import __version__
from mlpop.cli.main import cli
from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.blocks.surveys import MAP_SURVEYS
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.schema import KINDS
from mlpop.datasets.dataset import dataset_digest
from mlpop.population.stars.database import StellarDatabase
from mlpop.tracking import connect, find, verify

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(cli.commands)
HEAVY = {"torch", "mlflow", "sbi", "dask", "distributed", "numba", "pandas", "matplotlib", "scipy"}
LABELS = ("B_initial_log10_mean", "P_initial_log10_mean")
Values = dict[str, Any]


def tree_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def write(path: Path, values: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(values))
    return path


# --- help, version, schema ------------------------------------------------------------------


def test_help_of_every_command_is_light() -> None:
    code = (
        "import sys, time\n"
        "from click.testing import CliRunner\n"
        "from mlpop.cli.main import cli\n"
        f"for arguments in ([], *([name] for name in {COMMANDS!r})):\n"
        "    done = CliRunner().invoke(cli, [*arguments, '--help'])\n"
        "    assert done.exit_code == 0 and 'Usage:' in done.output, done.output\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), time.process_time() < 2)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[] True\n", done.stdout + done.stderr


LIGHT = sorted({*HEAVY, "sqlalchemy", "optuna", "zuko", "sklearn"})
"""What a command does not import that only reads and checks its configuration."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["sbi", "--set", "no_such_field=1"],
        ["sbi", "--set", "trainer.lr=-1"],
        ["sbi", "--configuration", "no_such_file.json"],
        ["infer", "--set", "no_such_field=1"],
        ["dynamics", "--set", "no_such_field=1"],
        ["simulate", "--set", "no_such_field=1"],
        ["observe", "--set", "no_such_field=1"],
        ["compare", "--set", "no_such_field=1"],
        ["study", "--set", "no_such_field=1"],
        ["train-nn", "--set", "no_such_field=1"],
        ["infer-nn", "--trained_model", "a.pth", "--set", "no_such_field=1"],
        ["schema", "no_such_kind"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_configuration_error_is_told_before_anything_slow_is_imported(
    arguments: list[str],
) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['mlpop', *{arguments!r}]\n"
        "from mlpop.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        f"    print(end.code, [name for name in {LIGHT!r} if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout == "2 []\n", done.stdout + done.stderr
    assert done.stderr.startswith("Error: ")
    assert "no_such" in done.stderr or "trainer.lr" in done.stderr


def test_python_m_mlpop_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlpop", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert __version__ in done.stdout


def test_documented_commands_are_there() -> None:
    assert set(COMMANDS) >= {
        "sbi",
        "infer",
        "dynamics",
        "simulate",
        "observe",
        "status",
        "init-folders",
        "schema",
    }


def test_every_command_says_what_it_does(mlpop: Callable[..., Any]) -> None:
    shown = mlpop("--help").out
    for name in COMMANDS:
        (line,) = (text for text in shown.splitlines() if text.split()[:1] == [name])
        assert len(line.split()) > 3, line


@pytest.mark.parametrize("name", ["status", "init"])
def test_no_configuration_is_suggested_to_who_takes_none(
    mlpop: Callable[..., Any], name: str
) -> None:
    ended = mlpop(name, "a", "b.json")
    assert ended.code == 2
    assert "unexpected extra argument" in ended.err
    assert "-c" not in ended.err


def test_schema(mlpop: Callable[..., Any]) -> None:
    *lines, last = mlpop("schema").out.rstrip().splitlines()
    assert [line.split()[0] for line in lines if line] == list(KINDS)
    assert "`mlpop schema KIND`" in last
    one = json.loads(mlpop("schema", "sbi").out)
    assert "prior_ranges" in one["properties"]
    wrong = mlpop("schema", "sbj")
    assert (wrong.code, wrong.out) == (2, "")
    assert "did you mean 'sbi'?" in wrong.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inver"], "No such command 'inver'"),
        (["sbi", "--colour", "red"], "No such option"),
        (["init-folders"], "Missing option '--base_path'. Where to make the tree."),
        (["sbi", "-c"], "requires an argument"),
        (["sbi", "experiments/a.json"], "mlpop sbi -c experiments/a.json"),
        (["dynamics", "main"], "mlpop dynamics -c FILE"),
    ],
)
def test_wrong_usage(mlpop: Callable[..., Any], arguments: list[str], message: str) -> None:
    ended = mlpop(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err


# --- init-folders ---------------------------------------------------------------------------


def test_init_folders_twice(mlpop: Callable[..., Any], tmp_path: Path) -> None:
    first = mlpop("init-folders", "--base_path", tmp_path)
    keep = tmp_path / "data/training_dataset/generated_dataset/round_0/dataset_full.csv"
    keep.write_text("kept")
    second = mlpop("init-folders", "--base_path", tmp_path)
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out
    assert [Path(line).is_dir() for line in first.out.splitlines()] == [True] * 4
    assert keep.read_text() == "kept"


def test_init_folders_where_a_file_is_in_the_way(
    mlpop: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "data").touch()
    ended = mlpop("init-folders", "--base_path", tmp_path)
    assert ended.code == 2
    assert ended.err.startswith("Error: ")
    assert "cannot be made" in ended.err


# --- sbi: flags -----------------------------------------------------------------------------


@pytest.fixture
def parsed(
    mlpop: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    smoke: Callable[..., Values],
) -> Callable[..., SbiConfig]:
    """What `mlpop sbi` makes of flags: the configuration it would run."""
    file = write(tmp_path / "smoke.json", smoke(tmp_path / "output"))

    def parse(*flags: str, configuration: Path = file) -> SbiConfig:
        taken: list[SbiConfig] = []
        monkeypatch.setattr("mlpop.commands.sbi.run_experiment", taken.append)
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


def test_lists_may_be_set_apart_by_spaces_A8(parsed: Callable[..., SbiConfig]) -> None:
    config = parsed(
        *("--filter_inputs", "9", "10", "11", "--lr", "0.01"),
        *("--input_shape", "3", "32", "32", "--standardize", "1"),
    )
    assert config.training_data_loader.filter_inputs == (9, 10, 11)
    assert config.arch is not None
    assert config.arch.args.input_shape == (3, 32, 32)
    assert config.trainer.lr == 0.01


def test_flags_of_the_training_data_hold_for_what_a_file_says_of_the_test_data(
    parsed: Callable[..., SbiConfig], tmp_path: Path
) -> None:
    values = {
        "arch": {"args": {"input_shape": [1, 8, 8]}},
        "prior_ranges": {"labels": list(LABELS), "low": [0, 0], "high": [1, 1]},
        "training_data_loader": {
            "dataset_path_round_0": "given",
            "statistic_path": "given.json",
            "filter_inputs": [4],
            "standardize": True,
        },
        "test_data_loader": {
            "statistic_path": "given.json",
            "filter_inputs": [4],
            "normalize": False,
            "standardize": True,
        },
        "observed_sample": {"dataset_path": "observed"},
    }
    config = parsed(
        *("--filter_inputs", "5", "--dataset_statistics", "s.json"),
        *("--standardize", "false", "--normalize", "true"),
        configuration=write(tmp_path / "given.json", values),
    )
    loader = config.training_data_loader
    assert (loader.filter_inputs, loader.statistic_path) == ((5,), Path("s.json"))
    assert (loader.normalize, loader.standardize) == (True, False)


def test_documented_flags_of_given_data_A8(
    parsed: Callable[..., SbiConfig], tmp_path: Path
) -> None:
    values = {
        "arch": {"args": {"input_shape": [1, 8, 8]}},
        "prior_ranges": {"labels": list(LABELS), "low": [0, 0], "high": [1, 1]},
        "training_data_loader": {
            "dataset_path_round_0": "given",
            "statistic_path": "given.json",
            "filter_inputs": ["m"],
        },
        "observed_sample": {"dataset_path": "observed", "filter_inputs": ["m"]},
    }
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


def test_flags_of_infer_replace_their_fields_A8(
    mlpop: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    smoke: Callable[..., Values],
) -> None:
    file = write(tmp_path / "smoke.json", smoke(tmp_path / "output"))
    taken: list[SbiConfig] = []
    monkeypatch.setattr("mlpop.commands.infer.infer", taken.append)
    flags = ("--save_dir", "2024", "--load_dir", "runs:/abc", "--normalize", "1")
    ended = mlpop("infer", "-c", file, *flags, "--standardize", "0")
    assert ended.code == 0, ended.err
    (config,) = taken
    assert config.infer.save_dir == Path("2024")
    assert str(config.infer.load_dir) == "runs:/abc"
    assert config.trainer.save_dir == tmp_path / "output"
    assert config.training_data_loader.scaling == "normalize"


def test_infer_refuses_what_was_not_trained(
    refused: Callable[..., str], smoke: Callable[..., Values], tmp_path: Path
) -> None:
    file = write(tmp_path / "smoke.json", smoke(tmp_path / "output"))
    line = refused("infer", "-c", file)
    assert f"infer.load_dir: no such folder '{tmp_path}/output/models/smoke'" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lr", "fast"], "trainer.lr: must be a number, found 'fast'"),
        (["--batch_size", "1.5"], "trainer.batch_size: must be an integer, found 1.5"),
        (["--normalize", "yes"], "normalize: must be true or false, found 'yes'"),
        (["--set", "trainer.lr"], "--set 'trainer.lr': expected key.path=value"),
        (["--set", "name.first=x"], "--set 'name.first=x': 'name' is not an object"),
        (["--set", "trainer.ensembel=true"], "trainer.ensembel: "),
    ],
)
def test_wrong_flags(
    mlpop: Callable[..., Any],
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
    mlpop: Callable[..., Any], at_work: Path, grid: Path, tmp_path: Path
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
    mlpop: Callable[..., Any], at_work: Path, tmp_path: Path
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
    mlpop: Callable[..., Any], at_work: Path, tmp_path: Path
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
    mlpop: Callable[..., Any], at_work: Path, catalogue: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "observed"
    generator = {"resolution_dyn": 16, "resolution_ppdot": 16, "smoothing_sigma": 0}
    values = {"source": str(catalogue), "save_dir": str(folder), "fluxes": "S1400"}
    regions = {name: survey.region.model_dump() for name, survey in MAP_SURVEYS.items()}
    values |= {"regions": {name: region | {"b_abs_min": None} for name, region in regions.items()}}
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
    numbers = json.loads((folder / "observed.json").read_text())
    three = dict.fromkeys(("PMPS", "SMPS", "HTRU"), 3)
    assert [numbers[name] for name in ("detected_real", "thin_to", "fluxes")] == [three] * 3
    assert numbers["catalogue"]["version"] == "9.99"
    # simulated flux maps are to hold as many
    made = json.loads((folder / "generator.json").read_text())
    assert made["flux_subsample"] == three
    population = PopulationConfig.parse({"observed": str(folder / "observed.json")})
    assert population.thin_to == {"PMPS": 3, "SMPS": 3, "HTRU_low_mid": 3}


def test_observe_refuses_before_it_writes(refused: Callable[..., str], tmp_path: Path) -> None:
    file = write(tmp_path / "observe.json", {"source": "gone.db", "save_dir": "observed"})
    assert "gone.db" in refused("observe", "-c", file)


# --- compare --------------------------------------------------------------------------------


def test_theta_of_a_comparison_by_hand(monkeypatch: pytest.MonkeyPatch, mlpop: Any) -> None:
    """Labels and numbers, set apart by commas or spaces; `--base` replaces `load_dir`."""
    asked = []
    monkeypatch.setattr("mlpop.commands.compare.compare", asked.append)
    file = str(ROOT / "experiments" / "compare.json")
    for words in (["a_late=-1.3,h_c=0.2"], ["a_late=-1.3", "h_c=0.2"]):
        done = mlpop(
            "compare", "-c", file, "--base", "b.json", "--theta", *words, "--observed", "o"
        )
        assert done.code == 0, done.err
    for config in asked:
        assert config.theta == {"a_late": -1.3, "h_c": 0.2}
        assert (config.load_dir, config.base, config.observed) == (None, Path("b.json"), Path("o"))
    wrong = mlpop("compare", "-c", file, "--theta", "a_late")
    assert wrong.code == 2
    assert "expected LABEL=NUMBER, found 'a_late'" in wrong.err
    assert len(asked) == 2


# --- status ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["sbi", "--resume", "last"], "--resume last"),
        (["train-nn", "--resume", "last"], "--resume last"),
        (["study", "--resume", "0" * 32], "--resume 000"),
        (["sbi", "-c", "runs:/abc/config.json"], "runs:/abc/config.json"),
    ],
)
def test_before_the_first_run_no_store_is_made_by_who_needs_one(
    mlpop: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    asked: str,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    ended = mlpop(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"Error: {asked}")
    assert "no runs yet: there is no" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_status(
    mlpop: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vectors: Callable[..., Values],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    before = tree_of(tmp_path)
    (line,) = mlpop("status").out.splitlines()
    assert line.startswith(f"no runs yet: there is no {tmp_path / 'mlflow.db'}; start one here")
    unknown = mlpop("status", "0" * 32)
    assert unknown.code == 2
    assert "no runs yet" in unknown.err
    assert tree_of(tmp_path) == before
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
    assert len(list(tmp_path.glob("data_root/generated_dataset/round_0/dataset_full.csv"))) == 1
    table = mlpop("status").out.splitlines()
    assert len(table) == 2
    assert table[1].split()[:4] == ["vectors", "complete", "FINISHED", "ended"]
    run_id = table[1].split()[-1]
    whole = mlpop("status", run_id).out.splitlines()
    assert [line.split()[0] for line in whole[1:4]] == ["vectors", "round_00", "member_00"]
    assert whole[-1].startswith("complete: nothing to resume")
    wrong = mlpop("status", "f" * 32)
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.startswith("Error: ")


def test_run_of_mlflow_run_learns_why_nothing_was_started(
    mlpop: Callable[..., Any], at_work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = connect().client
    given = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    assert mlpop("sbi", "-c", tmp_path / "gone.json").code == 2
    tags = client.get_run(given).data.tags
    assert tags["mlpop.error"] == f"{tmp_path}/gone.json: no such file"
    assert tags["mlpop.state"] == "stopped"
    client.set_terminated(given, "FAILED")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["samples_posterior.pt"], ": 'samples_posterior.pt'"),
        (
            [],
            f" (of a file without a name: the temporary folder {tempfile.gettempdir()} (TMPDIR), "
            "or the output)",
        ),
    ],
)
def test_a_disk_that_fails_is_one_message(
    mlpop: Callable[..., Any],
    tmp_path: Path,
    smoke: Callable[..., Values],
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    told: str,
) -> None:
    def full(_: SbiConfig) -> None:
        raise OSError(28, "No space left on device", *names)

    monkeypatch.setattr("mlpop.commands.sbi.run_experiment", full)
    ended = mlpop("sbi", "-c", write(tmp_path / "smoke.json", smoke(tmp_path / "output")))
    assert ended.code == 2
    assert ended.err == f"Error: [Errno 28] No space left on device{told}\n"


@pytest.mark.parametrize("option", ["--configuration={}", "-c={}", "--configuration {}"])
def test_a_tilde_that_the_shell_leaves_is_the_home_folder(
    mlpop: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    (tmp_path / "observe.json").write_text('{"nonsense": 1}')
    words = option.replace("-c=", "-c").format("~/observe.json").split()
    ended = mlpop("observe", *words)
    assert (ended.code, "nonsense: unknown field" in ended.err) == (2, True)


def test_a_project_in_the_home_folder(
    mlpop: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert mlpop("init", "~/project").code == 0
    assert (tmp_path / "home/project/MLproject").is_file()
    assert not (tmp_path / "~").exists()


def test_a_label_given_twice_is_refused(mlpop: Callable[..., Any]) -> None:
    ended = mlpop("compare", "--theta", "a_late=-1,a_late=-2")
    assert (ended.code, "a_late is given twice" in ended.err) == (2, True)


def test_a_link_to_itself_is_one_message(
    mlpop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to("link")
    monkeypatch.setattr("mlpop.commands.init.init_project", lambda folder: [folder.resolve()])
    ended = mlpop("init", link / "x")
    assert ended.code == 2
    assert "symbolic link points to itself" in ended.err


def test_observe_refuses_an_empty_sky_before_it_writes(
    mlpop: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    header = "PSRJ,P0,P1,RAJD,DECJD,Gl,Gb,ASSOC,SURVEY"
    for row in ("J1,0.5,1e-15,250,-40,310,3,,other", "J1,,1e-15,250,-40,310,3,,pksmb"):
        (tmp_path / "atnf.csv").write_text(f"{header}\n{row}\n")
        write(tmp_path / "observe.json", {"source": "atnf.csv", "save_dir": "out"})
        ended = mlpop("observe", "-c", "observe.json")
        assert ended.code == 2
        assert "no pulsar of any survey is left" in ended.err
        assert {path.name for path in tmp_path.iterdir()} == {"atnf.csv", "observe.json"}
    (tmp_path / "out").write_text("a file")
    ended = mlpop("observe", "-c", "observe.json")
    assert ended.code == 2
    assert "save_dir: 'out' cannot be written" in ended.err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 GiB"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_a_process_without_memory_is_told_in_a_sentence(
    mlpop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("mlpop.commands.status.status_table", fail)
    ended = mlpop("status")
    assert ended.code == 2
    assert "out of memory" in ended.err
    assert str(error) in ended.err
