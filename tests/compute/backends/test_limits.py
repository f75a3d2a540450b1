import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlpop.compute.backends.limits import TimeLimitReached, call_within


def in_main_thread(body: Callable[[], object]) -> object:
    return body()


def in_other_thread(body: Callable[[], object]) -> object:
    box: list[object] = []
    thread = threading.Thread(target=lambda: box.append(body()))
    thread.start()
    thread.join()
    return box[0]


@pytest.fixture(params=[in_main_thread, in_other_thread])
def place(request: pytest.FixtureRequest) -> Callable[[Callable[[], object]], object]:
    return request.param


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(100))


def stopped(seconds: float, function: Callable[[], object]) -> bool:
    try:
        call_within(seconds, function)
    except TimeLimitReached as error:
        return str(error) == f"ran over its limit of {seconds:g} s"
    return False


def test_stops_python_code_in_time(place) -> None:
    started = time.monotonic()
    assert place(lambda: stopped(0.2, lambda: spin(30)))
    assert 0.2 <= time.monotonic() - started < 5


def test_code_that_swallows_errors_is_stopped(place) -> None:
    def stubborn() -> None:
        try:
            spin(30)
        except Exception:
            spin(30)

    assert place(lambda: stopped(0.1, stubborn))


def test_an_interruption_lost_in_a_destructor_is_repeated(place) -> None:
    def deaf_once() -> None:
        try:
            spin(30)
        except BaseException:
            spin(30)

    started = time.monotonic()
    assert place(lambda: stopped(0.1, deaf_once))
    assert time.monotonic() - started < 10


def test_values_and_errors_pass(place) -> None:
    assert place(lambda: call_within(5, lambda: "value")) == "value"
    assert place(lambda: call_within(None, lambda: "value")) == "value"

    def body() -> str:
        try:
            call_within(5, lambda: 1 // 0)
        except ZeroDivisionError as error:
            return str(error)
        return ""

    assert "zero" in str(place(body))


def test_fast_code_is_left_alone_for_good(place) -> None:
    def body() -> int:
        done = 0
        for _ in range(50):
            done += call_within(0.5, lambda: 1)
        spin(0.55)
        return done

    assert place(body) == 50


def test_race_of_end_and_limit_never_escapes_the_call(place) -> None:
    def body() -> int:
        count = 0
        for step in range(100):
            count += stopped(0.002, lambda step=step: spin(step * 3e-4))
            spin(1e-4)
        # A watch that was left behind would fire now.
        spin(1.2)
        return count

    assert 0 < place(body) < 100


def test_threads_are_stopped_each_at_its_own_limit_by_one_watch() -> None:
    limits = (1.2, 0.3, 0.6)
    took: dict[float, float] = {}

    def body(seconds: float) -> None:
        for _ in range(20):
            call_within(30, lambda: None)
        started = time.monotonic()
        assert stopped(seconds, lambda: spin(30))
        took[seconds] = time.monotonic() - started

    threads = [threading.Thread(target=body, args=(seconds,)) for seconds in limits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(took, key=took.__getitem__) == sorted(limits)
    assert all(seconds <= took[seconds] for seconds in limits)
    assert [t.name for t in threading.enumerate()].count("time-limits") == 1


FORKED = """
import os, sys, threading, time
from mlpop.compute.backends.limits import TimeLimitReached, call_within

def spin():
    while True:
        sum(range(100))

def stopped():
    try:
        call_within(0.1, spin)
    except TimeLimitReached:
        found.append(True)

def in_thread():
    thread = threading.Thread(target=stopped)
    thread.start()
    thread.join()

found = []
in_thread()
if os.fork() == 0:
    in_thread()
    os._exit(len(found))
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_limits_hold_in_a_forked_process() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], check=False, timeout=60)
    assert done.returncode == 2


def test_ends_a_blocking_call_in_the_main_thread() -> None:
    started = time.monotonic()
    assert stopped(0.1, lambda: time.sleep(30))
    assert time.monotonic() - started < 5


def test_nested_limits_each_end_their_own_call(place) -> None:
    def many_short_limits() -> None:
        for _ in range(300):
            assert stopped(0.1, lambda: spin(30))

    started = time.monotonic()
    assert place(lambda: stopped(0.45, many_short_limits))
    assert 0.45 <= time.monotonic() - started < 10


def test_the_former_signal_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    assert call_within(5, lambda: signal.getsignal(signal.SIGALRM)) is not before
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


SCRIPT = """
import ctypes, sys
from mlpop.compute.backends.limits import exit_after
with open(sys.argv[1], "w") as log:
    with exit_after(5.0, log):
        pass
    with exit_after(0.3, log):
        ctypes.PyDLL(None).usleep(20_000_000)  # keeps the interpreter's lock
"""


def test_exit_after_ends_compiled_code_and_tells_where(tmp_path: Path) -> None:
    log = tmp_path / "log"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(log)], check=False, timeout=15)
    assert done.returncode == 1
    assert time.monotonic() - started < 10
    assert log.read_text().startswith("Timeout (0:00:00.300000)!")
