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


def source_digest() -> str:
    """Return a SHA-256 of the sources of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def key_compiled_kernels() -> None:
    """Give every version of the sources its own folder of compiled kernels.

    numba checks only the file that a kernel is in: after an edit of a function that the kernel
    calls it would go on with the old machine code, and give wrong numbers. `NUMBA_CACHE_DIR`
    overrides the folder, as anywhere.
    """
    if not os.environ.get("NUMBA_CACHE_DIR"):
        folder = cache_folder() / "kernels" / source_digest()[:16]
        numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
