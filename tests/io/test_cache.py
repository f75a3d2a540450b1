"""Compiled kernels belong to one version of the sources."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import mlpop
from mlpop.io.cache import kernels_are_compiled

SCRIPT = "import numpy as np; from mlpop.population.orbits_like import outer; print(outer(2.0))"


def test_an_edited_callee_is_compiled_again(tmp_path: Path) -> None:
    """numba itself would go on with the machine code of the old callee."""
    package = tmp_path / "mlpop"
    for folder in ("population", "io"):
        (package / folder).mkdir(parents=True)
    source = Path(mlpop.__file__).parent
    for name in ("__init__.py", "population/__init__.py", "io/__init__.py", "io/cache.py"):
        shutil.copy(source / name, package / name)
    (package / "population" / "orbits_like.py").write_text(
        "from numba import njit\nfrom mlpop.population.inner import inner\n"
        "@njit(cache=True)\ndef outer(x):\n    return inner(x)\n"
    )
    found = []
    for factor in (3, 5):
        (package / "population" / "inner.py").write_text(
            f"from numba import njit\n@njit(cache=True)\ndef inner(x):\n    return {factor} * x\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        environment |= {"MLPOP_CACHE_DIR": str(tmp_path / "cache")}
        environment.pop("NUMBA_CACHE_DIR", None)
        done = subprocess.run(
            [sys.executable, "-P", "-c", SCRIPT],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(float(done.stdout))
    assert found == [6.0, 10.0]
    assert len(list((tmp_path / "cache" / "kernels").iterdir())) == 2


def test_whether_kernels_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("", str(tmp_path / "none"), str(tmp_path)):
        monkeypatch.setattr(numba.config, "CACHE_DIR", folder)
        assert not kernels_are_compiled()
    (tmp_path / "surveys_1").mkdir()
    (tmp_path / "surveys_1" / "detection.observe-95.py311.nbi").touch()
    assert kernels_are_compiled()
