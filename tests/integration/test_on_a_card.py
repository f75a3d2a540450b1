"""Runs `tests/on_a_card`: torch takes a second device only before its first backward pass."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).parents[1] / "on_a_card" / "checks.py"


@pytest.mark.skipif(shutil.which("g++") is None, reason="the device is compiled with g++")
@pytest.mark.parametrize("marks", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_on_a_card(marks: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks]
    done = subprocess.run(
        [*command, "--basetemp", str(tmp_path / "card"), str(CHECKS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
