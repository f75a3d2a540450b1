"""Locks on file systems without flock, between users, and for deep scratch folders."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.errors import DataError
from mlpop.io import locks
from mlpop.io.locks import (
    LONGEST_SOCKET,
    ROOM_FOR_SOCKET,
    NotLocked,
    alone_in,
    locked,
    private_folder,
)
from mlpop.population.stars.database import find_or_build

FLOCK_ERRORS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]


@pytest.fixture
def without_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    number: int = request.param

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    return number


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("without_flock", FLOCK_ERRORS, indirect=True)
def test_a_file_system_without_flock_has_locks_all_the_same(
    without_flock: int, tmp_path: Path
) -> None:
    path = tmp_path / "store.lock"
    with (
        locked(path, timeout=5),
        pytest.raises(NotLocked, match="another process has held"),
        locked(path, timeout=0.1),
    ):
        pass
    with locked(path, timeout=5):
        pass


@pytest.mark.parametrize("without_flock", [errno.ENOLCK], indirect=True)
def test_lock_file_of_a_process_that_died_is_removed(without_flock: int, tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    program = (
        "import os, sys, errno, fcntl\n"
        "def no(*_): raise OSError(errno.ENOLCK, 'no locks')\n"
        "fcntl.flock = no\n"
        "from pathlib import Path\n"
        "from mlpop.io.locks import locked\n"
        "held = locked(Path(sys.argv[1]), timeout=5)\n"
        "held.__enter__()\n"
        "os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == 9
    assert path.with_name("store.lock.soft").exists()
    with locked(path, timeout=30):
        pass


def test_users_that_share_a_folder_share_its_locks(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    before = os.umask(0o077)
    try:
        with locked(path):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_lock_of_another_user_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    path.touch()
    path.chmod(0)
    with pytest.raises(NotLocked, match="belongs to another user"), locked(path):
        pass


def told_as_another_user(work: Callable[[], object]) -> str:
    """Return what an error of `work` says to a user who is not root."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            work()
        except DataError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("what", ["lock", "new lock", "folder", "cache", "lock of the cache"])
def test_what_belongs_to_another_user_is_told_with_what_to_do(
    what: str,
) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    stars = folder / "stars"
    if what == "lock of the cache":
        stars.mkdir()
        stars.chmod(0o777)
        lock = stars / f"{DynamicsConfig().content_key()[:24]}.lock"
        lock.touch(mode=0o600)
    elif what == "lock":
        (folder / "store.lock").touch(mode=0o600)

    def work() -> None:
        if "cache" in what:
            find_or_build(DynamicsConfig(), folder)
        elif what == "folder":
            with alone_in(folder / "set"):
                pass
        else:
            with locked(folder / ("store.lock" if what == "lock" else "another.lock")):
                pass

    try:
        told = told_as_another_user(work)
    finally:
        shutil.rmtree(folder)
    assert str(folder) in told
    assert "belongs to another user, who can mend it with `chmod a+rw" in told
    assert ("MLPOP_CACHE_DIR" in told) == ("cache" in what)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    private_folder.cache_clear()
    yield monkeypatch
    private_folder.cache_clear()


@pytest.mark.parametrize("length", [10, 60, 150, 900])
def test_folder_for_sockets_is_short_and_private_whatever_tmpdir_is(
    places: pytest.MonkeyPatch, tmp_path: Path, length: int
) -> None:
    deep = tmp_path / (("x" * 50 + "/") * (length // 50))
    places.setattr(tempfile, "tempdir", str(deep))
    folder = private_folder()
    assert len(os.fsencode(folder)) + ROOM_FOR_SOCKET <= LONGEST_SOCKET
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == os.getuid()


def test_folder_of_somebody_else_is_not_used(places: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A link of that name, which another user may have put there."""
    evil = Path(tempfile.mkdtemp(dir="/tmp"))
    (evil / f"mlpop-{os.getuid()}").symlink_to(tmp_path)
    places.setattr(locks, "PLACES", (str(evil),))
    places.setattr(tempfile, "tempdir", str(evil))
    places.setenv("XDG_RUNTIME_DIR", "")
    try:
        with pytest.raises(DataError, match=r"belongs to somebody else; set TMPDIR"):
            private_folder()
    finally:
        shutil.rmtree(evil)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("first", [0, 65534])
def test_two_users_take_turns(first: int) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o1777)
    path = folder / "store.lock"
    try:
        for user in (first, 65534 - first):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    os.umask(0o077)
                    os.setuid(user)
                    with locked(path, timeout=5):
                        status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0, user
    finally:
        shutil.rmtree(folder)
