import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from mlpop.tracking.signals import _OrphanWatch, graceful_signals, shielded, stopping


def send(number: int) -> None:
    """Send this process a signal and give Python the moment it needs to handle it."""
    os.kill(os.getpid(), number)
    time.sleep(0.01)


def test_sigterm_becomes_an_exit_and_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as caught, graceful_signals():
        send(signal.SIGTERM)
    assert caught.value.code == 143
    assert not stopping()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.fixture
def hangups() -> Iterator[None]:
    """Tests that were started by `nohup` ignore closed terminals, and so would their children."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no terminals to close")
def test_closed_terminal_is_an_exit_unless_it_is_ignored(hangups: None) -> None:
    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(SystemExit) as caught, graceful_signals():
        send(signal.SIGHUP)
    assert caught.value.code == 129
    assert signal.getsignal(signal.SIGHUP) == before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with graceful_signals():
            send(signal.SIGHUP)  # nohup
            assert not stopping()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_gone_is_not_written_to(hangups: None) -> None:
    """What is written to it would be an error, and hide why the process ends."""
    program = (
        "import os, signal, sys, time\n"
        "from mlpop.tracking.signals import graceful_signals\n"
        "with graceful_signals():\n"
        "    print('ready', flush=True)\n"
        "    try:\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('closing', flush=True)\n"
        "        print('closing', file=sys.stderr, flush=True)\n"
    )
    above, below = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=below,
        stdout=below,
        stderr=below,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(below)
    assert b"ready" in os.read(above, 100)
    os.close(above)
    assert process.wait(timeout=60) == 129


def test_shielded_block_is_finished_first() -> None:
    steps = []

    def work() -> None:
        with graceful_signals():
            with shielded():
                with shielded():
                    send(signal.SIGINT)
                    steps.append("inner")
                assert stopping()
                steps.append("outer")
            steps.append("after")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["inner", "outer"]


def test_shielded_block_that_fails_does_not_lose_the_signal() -> None:
    def work() -> None:
        with graceful_signals(), shielded():
            send(signal.SIGTERM)
            raise ValueError("store away")

    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == 143


def test_both_signals_of_one_ctrl_c_under_mlflow_run_are_one_stop() -> None:
    done = []

    def work() -> None:
        with graceful_signals():
            try:
                send(signal.SIGINT)
            finally:
                send(signal.SIGTERM)
                done.append("closed")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["closed"]


def test_second_signal_of_a_kind_ends_at_once() -> None:
    code = (
        "import os, signal, time; from mlpop.tracking.signals import graceful_signals\n"
        "with graceful_signals():\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)\n"
        "    finally:\n"
        "        os.kill(os.getpid(), signal.SIGTERM); time.sleep(9); print('too late')\n"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (143, b"")
    assert time.monotonic() - start < 9


def test_other_threads_and_inner_blocks_change_nothing() -> None:
    seen = []

    def use() -> None:
        with graceful_signals(), shielded():
            seen.append(signal.getsignal(signal.SIGTERM))

    with graceful_signals():
        handler = signal.getsignal(signal.SIGTERM)
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        use()
        assert signal.getsignal(signal.SIGTERM) == handler
    assert seen == [handler, handler]


def test_orphan_stops_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlpop.tracking.signals.ORPHAN_POLL_SECONDS", 0.02)
    starter = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    def work() -> None:
        with graceful_signals():
            watch = _OrphanWatch(psutil.Process(starter.pid))
            try:
                time.sleep(0.2)
                starter.kill()  # and not waited for: a zombie is as dead
                time.sleep(10)
            finally:
                watch.stop()

    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == 143
    assert starter.stdin is not None
    starter.stdin.close()
    starter.wait()
