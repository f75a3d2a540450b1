"""What every backend promises, checked on all of them."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from mlpop.compute.backends.base import Backend, Event
from mlpop.compute.seeds import Purpose, seed_sequence
from mlpop.errors import ComputeError, SimulationFailed

cloudpickle.register_pickle_by_value(sys.modules[__name__])

Emit = Callable[[Event], None]


def draw(index: int) -> np.ndarray:
    return np.random.default_rng(seed_sequence(7, Purpose.PRIOR, index)).standard_normal(1000)


def test_is_a_backend(backend: Backend) -> None:
    assert isinstance(backend, Backend)
    assert backend.workers >= 1


def test_same_values_as_a_plain_loop(backend: Backend) -> None:
    outcomes = {outcome.index: outcome for outcome in backend.run(draw, range(20))}
    assert sorted(outcomes) == list(range(20))
    for index, outcome in outcomes.items():
        assert (outcome.status, outcome.error, outcome.attempts) == ("ok", "", 1)
        np.testing.assert_array_equal(outcome.result(), draw(index))
        assert outcome.seconds >= 0


def test_closures_and_lambdas_travel(backend: Backend) -> None:
    offset = 10
    values = {o.index: o.result() for o in backend.run(lambda x: x + offset, [1, 2])}
    assert values == {0: 11, 1: 12}


def test_no_tasks_no_outcomes(backend: Backend) -> None:
    assert list(backend.run(draw, [])) == []


def test_streams_in_order_of_completion(pool: Backend) -> None:
    if pool.workers < 2:
        order = [o.index for o in pool.run(time.sleep, [0.01, 0.01, 0.01])]
        assert sorted(order) == [0, 1, 2]
        return
    started = time.monotonic()
    outcomes = pool.run(time.sleep, [1.0, 0.01, 0.01])
    first = next(outcomes)
    assert first.index != 0
    assert time.monotonic() - started < 0.9
    assert [outcome.index for outcome in outcomes][-1] == 0


def raise_for_odd(x: int) -> int:
    if x == 1:
        raise SimulationFailed("no pulsar\nseen")
    if x == 3:
        sys.exit("leaving")
    return x


def test_exceptions_are_outcomes_and_are_not_tried_again(pool: Backend) -> None:
    outcomes = {o.index: o for o in pool.run(raise_for_odd, range(5))}
    assert [outcomes[i].status for i in range(5)] == ["ok", "failed", "ok", "failed", "ok"]
    assert outcomes[1].error == "SimulationFailed: no pulsar seen"
    assert outcomes[3].error == "SystemExit: leaving"
    assert "raise_for_odd" in outcomes[1].traceback
    assert {o.attempts for o in outcomes.values()} == {1}
    assert not any(o.lost for o in outcomes.values())
    with pytest.raises(ComputeError, match="task 1: failed: SimulationFailed: no pulsar seen"):
        outcomes[1].result()


def test_serial_exceptions_are_outcomes(backend: Backend) -> None:
    outcomes = list(backend.run(raise_for_odd, [0, 1]))
    assert {o.index: o.status for o in outcomes} == {0: "ok", 1: "failed"}


def count_to(n: int, emit: Emit) -> int:
    for i in range(n):
        emit({"i": i, "array": np.full(3, i)})
    return n


def test_events_arrive_in_order_and_before_the_outcome(backend: Backend) -> None:
    heard: dict[int, list[int]] = {}

    def on_event(index: int, event: Event) -> None:
        assert event["array"].tolist() == [event["i"]] * 3
        heard.setdefault(index, []).append(event["i"])

    tasks = [200, 0, 7, 50, 200, 31]
    seen = 0
    for outcome in backend.run(count_to, tasks, on_event=on_event):
        assert heard.get(outcome.index, []) == list(range(tasks[outcome.index]))
        assert outcome.result() == tasks[outcome.index]
        seen += 1
    assert seen == len(tasks)


def wait_for_file(path: Path, emit: Emit) -> str:
    # a backend may gather events that follow each other closely, but not keep the last of them
    for number in range(3):
        emit({"last": number == 2})
    for _ in range(500):
        if path.exists():
            return "seen"
        time.sleep(0.01)
    return "never"


def test_events_arrive_while_the_task_runs(backend: Backend, tmp_path: Path) -> None:
    signal_file = tmp_path / f"{backend.name}-{backend.workers}"

    def on_event(_: int, event: Event) -> None:
        if event["last"]:
            signal_file.touch()

    [outcome] = backend.run(wait_for_file, [signal_file], on_event=on_event)
    assert outcome.result() == "seen"


def sleep_long(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def test_a_task_over_its_limit_is_stopped_and_the_pool_goes_on(backend: Backend) -> None:
    started = time.monotonic()
    outcomes = {o.index: o for o in backend.run(sleep_long, [60, 0, 0, 0], time_limit=0.5)}
    assert time.monotonic() - started < 20
    assert [outcomes[i].status for i in range(4)] == ["timeout", "ok", "ok", "ok"]
    assert outcomes[0].error == "ran over its limit of 0.5 s"
    assert outcomes[0].attempts == 1
    assert 0.5 <= outcomes[0].seconds < 5
    assert outcomes[0].value is None


def note(path: Path) -> int:
    time.sleep(0.05)
    path.touch()
    return os.getpid()


def test_at_most_max_in_flight_are_handed_out(pool: Backend) -> None:
    pids = {o.result() for o in pool.run(_pid, [0.05] * 6, max_in_flight=1)}
    assert os.getpid() not in pids
    if pool.name == "processes":
        assert len(pids) == 1


def _pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_both_workers_are_used(pool: Backend) -> None:
    pids = {o.result() for o in pool.run(_pid, [0.2] * 6)}
    assert len(pids) == pool.workers


def test_leaving_early_abandons_the_rest(backend: Backend, tmp_path: Path) -> None:
    tasks = [tmp_path / f"{backend.name}{backend.workers}-{i}" for i in range(50)]
    outcomes = backend.run(note, tasks)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    time.sleep(0.3)
    done = len(list(tmp_path.iterdir()))
    assert done < 25
    assert [o.result() for o in backend.run(abs, [-3])] == [3]


def thread_counts(_: object) -> dict[str, Any]:
    import numba
    import threadpoolctl
    import torch

    np.ones((2, 2)) @ np.ones((2, 2))
    return {
        "torch": torch.get_num_threads(),
        "numba": numba.get_num_threads(),
        "blas": [
            pool["num_threads"]
            for pool in threadpoolctl.threadpool_info()
            if pool["user_api"] == "blas"
        ],
    }


def test_one_thread_each(backend: Backend) -> None:
    import numba  # noqa: F401  (loaded, so that the serial backend has something to limit)
    import torch

    before = torch.get_num_threads()
    [outcome] = backend.run(thread_counts, [0])
    counts = outcome.result()
    assert counts["torch"] == 1
    assert counts["numba"] == 1
    assert counts["blas"]
    assert set(counts["blas"]) == {1}
    assert torch.get_num_threads() == before


def test_what_cannot_be_pickled_is_refused(pool: Backend) -> None:
    lock = __import__("threading").Lock()
    with pytest.raises(ComputeError, match="the function cannot be sent to a worker"):
        pool.run(lambda _: lock, [0])
    with pytest.raises(ComputeError, match="task 0 cannot be sent to a worker"):
        list(pool.run(str, [lock]))
    [outcome] = pool.run(lambda _: __import__("threading").Lock(), [0])
    assert outcome.status == "failed"
    assert "cannot pickle" in outcome.error


@pytest.mark.parametrize("name", ["max_in_flight", "time_limit", "max_attempts"])
def test_meaningless_arguments_are_refused(backend: Backend, name: str) -> None:
    with pytest.raises(ComputeError, match=f"{name} must be above 0, found 0"):
        backend.run(draw, [0], **{name: 0})  # type: ignore[arg-type]


def test_an_error_of_the_listener_reaches_the_caller(backend: Backend) -> None:
    def on_event(index: int, event: Event) -> None:
        raise ComputeError("listener broke")

    with pytest.raises(ComputeError, match="listener broke"):
        list(backend.run(count_to, [1], on_event=on_event))
    assert [o.result() for o in backend.run(abs, [-1])] == [1]
