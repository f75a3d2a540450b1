"""With which code a run was made: version, commit, uncommitted changes, installed packages."""

import importlib.metadata
import logging
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import mlpop
from mlpop.errors import ConfigError
from mlpop.tracking.address import without_credentials
from mlpop.tracking.run import TrackedRun

logger = logging.getLogger(__name__)

GIT_TIMEOUT = 20.0  # [s]
LONGEST_DIFF = 2_000_000  # [bytes]
VARIABLE = "MLPOP_SEND_CODE"
CHOICES = ("mlpop", "none", "working-folder")


def record_provenance(run: TrackedRun) -> dict[str, str | None]:
    """Record on a run what its code was.

    Tags `mlpop.version`, `mlpop.python`, and of mlpop's own checkout, if it runs from one,
    `mlpop.git_commit`, `mlpop.git_dirty` and `mlpop.git_repository`; artifacts
    `provenance/requirements.txt`, a lock of all installed packages, and
    `provenance/uncommitted.diff` where tracked files of that checkout differ from the commit.

    `MLPOP_SEND_CODE` says what is sent: `mlpop`, the default; `none`: the commit alone, no diff;
    `working-folder`: also the repository of the working folder, with tags `mlpop.work_...` and
    `provenance/working_folder.diff`.

    Returns:
        The tags; None for what is not known.

    Raises:
        ConfigError: `MLPOP_SEND_CODE` says something else.
        TrackingError: the store refuses or is away.
    """
    sent = _choice()
    package = Path(mlpop.__file__).parent
    repositories = {"mlpop.git": ("uncommitted.diff", _own_checkout(package))}
    if sent == "working-folder":
        repositories["mlpop.work"] = ("working_folder.diff", _top_level(Path.cwd()))
    tags: dict[str, str | None] = {
        "mlpop.version": mlpop.__version__,
        "mlpop.python": platform.python_version(),
    }
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder, "requirements.txt")
        lock.write_text("\n".join(installed_packages()) + "\n", encoding="utf-8")
        run.send(lock, "provenance/requirements.txt")
        for prefix, (name, top) in repositories.items():
            commit = _git(top, "rev-parse", "HEAD") if top is not None else None
            diff = b""
            if top is not None and commit is not None:
                diff = _git(top, "diff", "HEAD", "--no-color", "--no-ext-diff") or b""
            known = commit is not None
            tags |= {
                f"{prefix}_commit": commit.decode().strip() if commit else None,
                f"{prefix}_dirty": str(bool(diff)).lower() if known else None,
                f"{prefix}_repository": _address(top) if top and known else None,
            }
            if diff and sent != "none":
                changes = Path(folder, name)
                changes.write_bytes(diff[:LONGEST_DIFF])
                run.send(changes, f"provenance/{name}")
    run.set_tags(tags)
    return tags


def _choice() -> str:
    choice = os.environ.get(VARIABLE, CHOICES[0])
    if choice not in CHOICES:
        raise ConfigError(f"{VARIABLE}: must be one of {', '.join(CHOICES)}, found {choice!r}")
    return choice


def _own_checkout(package: Path) -> Path | None:
    """Return the repository that is mlpop's own, None for an installed package.

    The repository around an installation, for instance around a virtual environment, is the
    user's: it is nobody else's business.
    """
    top = _top_level(package)
    if top is None or top.resolve() != package.resolve().parent:
        return None
    tracked = _git(top, "ls-files", "--error-unmatch", f"{package.name}/__init__.py")
    return None if tracked is None else top


def _top_level(folder: Path) -> Path | None:
    found = _git(folder, "rev-parse", "--show-toplevel")
    return Path(found.decode().rstrip("\n")) if found else None


def _address(top: Path) -> str:
    """Return where a repository comes from, without a password; its folder if from nowhere."""
    remote = _git(top, "remote", "get-url", "origin")
    return without_credentials(remote.decode().strip()) if remote else str(top)


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
