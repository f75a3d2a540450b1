import logging

import pytest

from mlpop.compute import Progress
from mlpop.datasets.shards import ShardRecord
from mlpop.experiment.simulations.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def shard(number: int) -> ShardRecord:
    return ShardRecord(f"shard-{number:05d}", number, ("x",), (), {}, {})


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "mlpop")
    return caplog


def test_line_after_two_seconds_and_every_thirty_with_rate_and_time_left(
    told: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    pace = Pace("round 0: training simulations", lines=True, now=clock)
    for done in range(1, 201):
        clock.time += 0.5
        pace.hear(Progress(done, 1000, {"ok": done}))
    assert pace.rate == pytest.approx(2.0)
    assert pace.seconds == 100
    assert [record.message for record in told.records] == [
        "round 0: training simulations: 4 of 1000, 2 a second, 0:08:18 left",
        "round 0: training simulations: 64 of 1000, 2 a second, 0:07:48 left",
        "round 0: training simulations: 124 of 1000, 2 a second, 0:07:18 left",
        "round 0: training simulations: 184 of 1000, 2 a second, 0:06:48 left",
    ]


def test_shards_of_earlier_launches_do_not_make_it_faster() -> None:
    clock = Clock()
    pace = Pace("simulations", lines=True, now=clock)
    for number in range(50):
        pace.hear(Progress(16 * (number + 1), 1000, {}, shard(number)))
    assert pace.rate == 0
    for done in range(801, 811):
        clock.time += 4.0
        pace.hear(Progress(done, 1000, {}))
    assert pace.rate == pytest.approx(0.25)


def test_workers_that_start_slowly_do_not_foretell_hours(
    told: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    pace = Pace("simulations", lines=True, now=clock)
    clock.time += 60
    for done in range(1, 22):
        pace.hear(Progress(done, 400, {}))
        clock.time += 0.125
    assert [record.message for record in told.records] == [
        "simulations: 9 of 400, 8 a second, 0:00:49 left"
    ]


def test_terminal_has_a_bar_and_no_lines(told: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    pace = Pace("simulations", lines=False, now=clock)
    for done in range(1, 5):
        clock.time += 60
        pace.hear(Progress(done, 10, {}))
    assert not told.records
    assert pace.rate == pytest.approx(1 / 60)
