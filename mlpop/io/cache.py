"""Where mlpop keeps what is dear to make again: stellar databases and compiled kernels."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import numba
import platformdirs


def cache_folder() -> Path:
    """Return `$MLPOP_CACHE_DIR`, or else the user's cache folder of mlpop."""
    folder = Path(os.environ.get("MLPOP_CACHE_DIR") or platformdirs.user_cache_dir("mlpop"))
    with suppress(RuntimeError):
        # files of environment variables and job systems leave a `~` as it is
        folder = folder.expanduser()
    return folder


def key_compiled_kernels(package: Path) -> None:
    """Give every version of a package's sources its own folder of compiled kernels.

    numba checks only the file that a kernel is in: after an edit of a function that the kernel
    calls it would go on with the old machine code, and give wrong numbers. `NUMBA_CACHE_DIR`
    overrides the folder, as anywhere.
    """
    if not os.environ.get("NUMBA_CACHE_DIR"):
        digest = hashlib.sha256()
        for path in sorted(package.rglob("*.py")):
            digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
        folder = cache_folder() / "kernels" / digest.hexdigest()[:16]
        numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]


def kernels_are_compiled() -> bool:
    """Return whether some kernels of this version of the sources are in the cache."""
    folder = str(numba.config.CACHE_DIR)  # type: ignore[attr-defined]
    return bool(folder) and any(Path(folder).rglob("*.nbi"))
