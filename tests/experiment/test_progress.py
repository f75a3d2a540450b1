"""Progress in a log: when a line comes, and what it says of rate and rest."""

import logging

import pytest

from mlpop.experiment.progress import Ticker, TrainingProgress, counted
from mlpop.training.events import EpochRecord


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "mlpop")
    return caplog


def epoch(number: int, loss: float, at: float) -> EpochRecord:
    return EpochRecord(number, loss + 0.1, loss, 0.5, at)


def test_a_line_is_due_after_two_seconds_and_every_thirty() -> None:
    ticker = Ticker()
    assert [second for second in range(100) if ticker.due(second)] == [2, 32, 62, 92]


def test_counted_work_tells_rate_and_time_left(told: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with counted("tests", 100, "test", now=clock) as tell:
        for done in range(1, 101):
            clock.time += 0.5
            tell(done)
    assert [record.message for record in told.records] == [
        "tests: 4 of 100, 2 a second, 0:00:48 left",
        "tests: 64 of 100, 2 a second, 0:00:18 left",
    ]


def test_short_work_is_quiet(told: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with counted("tests", 3, "test", now=clock) as tell:
        for done in range(1, 4):
            clock.time += 0.5
            tell(done)
    assert not told.records


def test_training_tells_losses_rate_and_bounds_of_what_is_left(
    told: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    with TrainingProgress("round 0: training", 2, patience=20, most=100, now=clock) as progress:
        for number in range(1, 5):
            clock.time += 0.5
            # the first network gets better, the second one only in its first epoch
            progress.add(0, [epoch(number, -number, clock.time)])
            progress.add(1, [epoch(number, number, clock.time)])
    (record,) = told.records
    # 7 epochs in 2 s; 20 + 18 at least of the next ones, 96 + 97 at most
    assert record.message == (
        "round 0: training: epoch 4, 3, validation loss -4.000, 3.000, 3.5 epochs a second, "
        "0:00:11 to 0:00:55 left"
    )


def test_a_network_that_waits_for_a_worker_has_no_loss_yet() -> None:
    clock = Clock()
    with TrainingProgress("training", 2, patience=20, now=clock) as progress:
        progress.add(0, [epoch(1, 2.0, clock.time)])
        assert progress.line(1.0).startswith("training: epoch 1, 0, validation loss 2.000, none, ")


def test_without_a_last_epoch_there_is_only_a_lower_bound() -> None:
    clock = Clock()
    with TrainingProgress("training", 1, patience=20, now=clock) as progress:
        progress.add(0, [epoch(1, 2.0, clock.time), epoch(2, 3.0, clock.time)])
        assert progress.line(1.0).endswith("2 epochs a second, at least 0:00:10 left")


def test_epochs_of_an_earlier_launch_do_not_make_it_faster() -> None:
    clock = Clock()
    with TrainingProgress("training", 1, patience=20, most=100, now=clock) as progress:
        progress.add(0, [epoch(n, -n, clock.time - 60) for n in range(1, 51)])
        progress.add(0, [epoch(51, -51, clock.time + 1)])
        assert progress.line(1.0) == (
            "training: epoch 51, validation loss -51.000, 1 epochs a second, "
            "0:00:20 to 0:00:49 left"
        )


def test_a_network_that_has_ended_takes_no_time() -> None:
    clock = Clock()
    with TrainingProgress("training", 2, patience=20, most=100, now=clock) as progress:
        for network in range(2):
            progress.add(network, [epoch(1, 0.0, clock.time)])
        progress.end(1)
        assert progress.line(1.0).endswith("0:00:10 to 0:00:50 left")
