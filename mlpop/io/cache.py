"""Where mlpop keeps what is dear to make again: stellar databases and compiled kernels."""

import hashlib
import os
from pathlib import Path

import numba
import platformdirs


def cache_folder() -> Path:
    """Return `$MLPOP_CACHE_DIR`, or else the user's cache folder of mlpop."""
    given = os.environ.get("MLPOP_CACHE_DIR")
    return Path(given or platformdirs.user_cache_dir("mlpop"))


def source_digest(package: Path) -> str:
    """Return a SHA-256 of the sources of a package."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def key_compiled_kernels(package: Path) -> None:
    """Give every version of a package's sources its own folder of compiled kernels.

    numba checks only the file that a kernel is in: after an edit of a function that the kernel
    calls it would go on with the old machine code, and give wrong numbers. `NUMBA_CACHE_DIR`
    overrides the folder, as anywhere.
    """
    if not os.environ.get("NUMBA_CACHE_DIR"):
        folder = cache_folder() / "kernels" / source_digest(package)[:16]
        numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
