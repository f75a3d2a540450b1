"""With which code a run was made: version, commit, uncommitted changes, installed packages."""

import importlib.metadata
import logging
import platform
import subprocess
import tempfile
from pathlib import Path

import mlpop
from mlpop.tracking.run import TrackedRun

logger = logging.getLogger(__name__)

GIT_TIMEOUT = 20.0  # [s]
LONGEST_DIFF = 2_000_000  # [bytes]


def record_provenance(run: TrackedRun) -> dict[str, str | None]:
    """Record on a run what its code was.

    Tags `mlpop.version`, `mlpop.python`, `mlpop.git_commit` and `mlpop.git_dirty`; artifacts
    `provenance/requirements.txt`, a lock of all installed packages, and
    `provenance/uncommitted.diff` where tracked files differ from the commit.

    Returns:
        The tags; None for what is not known.

    Raises:
        TrackingError: the store refuses or is away.
    """
    source = Path(mlpop.__file__).parent
    commit = _git(source, "rev-parse", "HEAD")
    diff = _git(source, "diff", "HEAD", "--no-color", "--no-ext-diff") if commit else None
    tags = {
        "mlpop.version": mlpop.__version__,
        "mlpop.python": platform.python_version(),
        "mlpop.git_commit": commit.decode().strip() if commit else None,
        "mlpop.git_dirty": str(bool(diff)).lower() if commit else None,
    }
    run.set_tags(tags)
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder, "requirements.txt")
        lock.write_text("\n".join(installed_packages()) + "\n", encoding="utf-8")
        run.send(lock, "provenance/requirements.txt")
        if diff:
            changes = Path(folder, "uncommitted.diff")
            changes.write_bytes(diff[:LONGEST_DIFF])
            run.send(changes, "provenance/uncommitted.diff")
    return tags


def installed_packages() -> list[str]:
    """Return `name==version` of every installed package, sorted by name."""
    packages = {
        distribution.metadata["Name"].lower(): distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.metadata["Name"]
    }
    return [f"{name}=={version}" for name, version in sorted(packages.items())]


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=GIT_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        # an installed package has no repository
        logger.debug("git %s: %s", " ".join(arguments), error)
        return None
    return done.stdout
