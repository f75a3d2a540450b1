"""docs/how-do-i.md: its commands are accepted as they stand, and all of it runs when small."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mlpop.commands.configuration import raw_values
from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.config.files.compare import CompareConfig
from mlpop.config.files.sbi import SbiConfig

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "how-do-i.md"
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```\s*$", re.DOTALL | re.MULTILINE)
PARSED = {"sbi": SbiConfig, "dynamics": DynamicsConfig, "compare": CompareConfig}
DEFAULTS = {"sbi": "main.json", "dynamics": "dynamics.json", "compare": "compare.json"}
SMALLER = {
    "compare": {
        "num_predictive": 4,
        "compute.enable_dask": False,
        "compute.n_processes": 1,
    },
    "dynamics": {"NS_number": 6000},
    "sbi": {
        "dyn_data_loader.database.NS_number": 6000,
        "simulator.args.population.birth_rate_max": 0.006,
        "enable_dask": False,
        "n_processes": 1,
        "show_profiling": False,
        "training_data_loader.num_sim": 8,
        "test_data_loader.testing": False,
        "test_data_loader.num_predictive": 0,
        "trainer.num_rounds": 1,
        "trainer.ensemble": False,
        "trainer.max_num_epochs": 1,
        "trainer.num_posterior_samples": 100,
    },
}
"""Changes that come after those of the page, so that a minute is enough."""


def blocks(info: str) -> list[str]:
    return [body for found, body in FENCE.findall(PAGE.read_text()) if found == info]


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def assignments(words: list[str]) -> list[str]:
    pairs = list(zip(words[2::2], words[3::2], strict=True))
    assert {flag for flag, _ in pairs} <= {"--set"}
    return [value for _, value in pairs]


def test_every_question_has_commands() -> None:
    asked = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)
    for part in ("prior", "P-Pdot", "labels", "own survey", "1e8", "decay", "fails", "figure"):
        assert any(part in title for title in asked)
    assert len(commands()) == 9


def write_survey(folder: Path) -> None:
    """Write the survey of the page under the name that it is given there."""
    (survey,) = blocks("json other")
    (folder / "my_survey.json").write_text(survey)


@pytest.mark.parametrize("words", commands(), ids=lambda words: words[3])
def test_command_is_accepted(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_survey(tmp_path)
    monkeypatch.chdir(tmp_path)
    default = DEFAULTS[words[1]]
    changes = assignments(words)
    before = PARSED[words[1]].parse(raw_values(ROOT / "experiments" / default, []))
    after = PARSED[words[1]].parse(raw_values(ROOT / "experiments" / default, changes))
    assert bool(changes) == (after != before)


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, process_environment: dict[str, str]) -> None:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    write_survey(tmp_path)
    environment = process_environment | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "MPLBACKEND": "agg",
    }

    def run(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    for words in commands():
        small = [f"{path}={json.dumps(value)}" for path, value in SMALLER[words[1]].items()]
        run("-m", "mlpop", *words[1:], *(word for text in small for word in ("--set", text)))
    for body in blocks("python run"):
        run("-c", body)
    written = {path.name for path in tmp_path.iterdir()}
    assert {"decay_models.pdf", "corner.pdf", "posterior.csv"} <= written
