import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlpop.compute.limits import TimeLimitReached, time_limit


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


def test_stops_python_code_in_time(place) -> None:
    def body() -> float:
        started = time.monotonic()
        try:
            with time_limit(0.2):
                spin(20)
        except TimeLimitReached:
            return time.monotonic() - started
        return float("inf")

    assert 0.2 <= place(body) < 1.0


def test_code_that_swallows_errors_is_stopped(place) -> None:
    def stubborn() -> None:
        try:
            spin(20)
        except Exception:
            spin(20)

    def body() -> bool:
        try:
            with time_limit(0.1):
                stubborn()
        except TimeLimitReached:
            return True
        return False

    assert place(body)


def test_an_interruption_lost_in_a_destructor_is_repeated(place) -> None:
    def body() -> bool:
        try:
            with time_limit(0.1):
                try:
                    spin(20)
                except BaseException:
                    spin(20)
        except TimeLimitReached:
            return True
        return False

    assert place(body)


def test_fast_code_is_left_alone_for_good(place) -> None:
    def body() -> int:
        done = 0
        for _ in range(50):
            with time_limit(0.05):
                done += 1
        spin(0.15)
        return done

    assert place(body) == 50


def test_race_of_end_and_limit_never_escapes_the_block(place) -> None:
    def body() -> int:
        caught = 0
        for step in range(100):
            try:
                with time_limit(0.002):
                    spin(0.0019 + step * 2e-6)
            except TimeLimitReached:
                caught += 1
            spin(1e-4)
        return caught

    assert place(body) <= 100


def test_no_limit_is_no_limit(place) -> None:
    def body() -> bool:
        with time_limit(None):
            spin(0.01)
        return True

    assert place(body)


def test_ends_a_blocking_call_in_the_main_thread() -> None:
    started = time.monotonic()
    with pytest.raises(TimeLimitReached), time_limit(0.1):
        time.sleep(20)
    assert time.monotonic() - started < 1


def many_short_limits() -> None:
    for _ in range(100):
        try:
            with time_limit(0.1):
                spin(20)
        except TimeLimitReached:
            continue


def test_nested_limits_each_end_their_own_block(place) -> None:
    def body() -> float:
        started = time.monotonic()
        try:
            with time_limit(0.45):
                many_short_limits()
        except TimeLimitReached:
            return time.monotonic() - started
        return float("inf")

    assert 0.45 <= place(body) < 1.5


def test_the_former_signal_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(5):
        assert signal.getsignal(signal.SIGALRM) is not before
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


SCRIPT = """
import ctypes, sys
from mlpop.compute.limits import exit_after
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
