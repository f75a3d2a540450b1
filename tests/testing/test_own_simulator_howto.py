"""docs/own-simulator.md: its simulators pass its checks, and its experiments run."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "own-simulator.md"
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```\s*$", re.DOTALL | re.MULTILINE)
PROFILE, CHECK, SUITE, MAPS = (
    body for info, body in FENCE.findall(PAGE.read_text()) if info == "python"
)
PROFILE_JSON, MAPS_JSON = (
    json.loads(body) for info, body in FENCE.findall(PAGE.read_text()) if info == "json sbi"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working directory of somebody who followed the page."""
    files = {
        "pulse_profile.py": PROFILE,
        "own_maps.py": MAPS,
        "check.py": CHECK,
        "test_pulse_profile.py": SUITE,
    }
    for name, text in files.items():
        if name != "check.py":
            assert f"`{name}`" in PAGE.read_text()
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run python in `folder`, as the page says; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=None if environment is None else dict(environment),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_check_passes(folder: Path) -> None:
    assert run(folder, "check.py") == ""


def test_the_check_finds_what_the_page_warns_of(folder: Path) -> None:
    path = folder / "pulse_profile.py"
    path.write_text(PROFILE.replace("default_rng(seed)", "default_rng()"))
    with pytest.raises(AssertionError, match="fails 3 of 12 conformance checks"):
        run(folder, "check.py")


def test_the_suite_runs_under_pytest(folder: Path) -> None:
    found = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_pulse_profile.py")
    assert "12 passed" in found


def test_the_maps_pass_too(folder: Path) -> None:
    prior = MAPS_JSON["prior_ranges"]
    code = (
        "from mlpop.testing import check_simulator\n"
        f"check_simulator({MAPS_JSON['simulator']!r}, {prior['low']!r}, {prior['high']!r})"
    )
    assert run(folder, "-c", code) == ""


def test_every_check_is_explained() -> None:
    from mlpop.testing import SIMULATOR_CHECKS

    rows = re.findall(r"^\| ([a-z ]+) \| ", PAGE.read_text().split("| check |")[1], re.MULTILINE)
    assert rows[: len(SIMULATOR_CHECKS)] == list(SIMULATOR_CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize("measured", [False, True], ids=["synthetic", "measured"])
def test_the_vector_experiment_runs(
    folder: Path, process_environment: dict[str, str], measured: bool
) -> None:
    document: dict[str, Any] = dict(PROFILE_JSON)
    if measured:
        code = (
            "import numpy as np\nfrom pulse_profile import PulseProfile\n"
            "x = PulseProfile(16, 0.1)((0.45, -0.9), np.random.SeedSequence(5)).x\n"
            "np.save('observed.npy', x)"
        )
        run(folder, "-c", code)
        assert np.load(folder / "observed.npy").shape == (16,)
        document["observed_sample"] = {"path": "observed.npy"}
    (folder / "profile.json").write_text(json.dumps(document))
    found = run(
        folder,
        *("-m", "mlpop", "sbi", "--configuration", "profile.json"),
        environment=process_environment,
    )
    phase, low, high = map(float, re.findall(r"phase\s+(\S+)\s+\[(\S+), (\S+)\]", found)[0])
    assert low < 0.45 < high
    assert 0.02 < high - low < 0.2
    assert phase == pytest.approx(0.45, abs=0.05)


@pytest.mark.slow
def test_the_maps_experiment_runs(folder: Path, process_environment: dict[str, str]) -> None:
    (folder / "maps.json").write_text(json.dumps(MAPS_JSON))
    found = run(
        folder,
        *("-m", "mlpop", "sbi", "--configuration", "maps.json"),
        environment=process_environment,
    )
    assert re.search(r"x0\s+\S+\s+\[", found)
