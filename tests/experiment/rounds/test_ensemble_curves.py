from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlpop.experiment.rounds.ensemble_curves import EnsembleCurves
from mlpop.tracking import TrackedRun
from mlpop.training.events import EpochRecord


class Curves:
    def __init__(self) -> None:
        self.points: dict[int, dict[str, float]] = {}

    def extend(self, values: dict[str, float], step: int) -> None:
        point = self.points.setdefault(step, {})
        assert not point.keys() & values.keys(), f"step {step} is told twice"
        point.update(values)


@pytest.fixture
def curves() -> Curves:
    return Curves()


def ensemble(curves: Curves, members: int) -> EnsembleCurves:
    return EnsembleCurves(cast(TrackedRun, SimpleNamespace(curves=curves)), members)


def history(*losses: float, first: int = 1) -> list[EpochRecord]:
    """Epochs with these validation losses; those of training are one higher."""
    fields: dict[str, Any] = {"seconds": 0.1, "wall_time": 0.0}
    return [
        EpochRecord(epoch=first + i, train_loss=loss + 1, val_loss=loss, **fields)
        for i, loss in enumerate(losses)
    ]


def test_epoch_is_told_when_every_network_has_reached_it(curves: Curves) -> None:
    both = ensemble(curves, 2)
    both.add(0, history(3.0, 2.0))
    assert curves.points == {}
    both.add(1, history(5.0))
    assert curves.points.keys() == {1}
    assert curves.points[1] == {
        "train/loss_mean": 5.0,
        "train/loss_spread": pytest.approx(2**0.5),
        "val/loss_mean": 4.0,
        "val/loss_spread": pytest.approx(2**0.5),
    }


def test_network_that_has_ended_counts_with_its_last_epoch(curves: Curves) -> None:
    both = ensemble(curves, 2)
    both.end(0, history(3.0, 2.0))
    both.add(1, history(5.0, 4.0))
    both.add(1, history(3.0, first=3))
    assert {n: point["val/loss_mean"] for n, point in curves.points.items()} == {
        1: 4.0,
        2: 3.0,
        3: 2.5,
    }
    both.end(1, history(5.0, 4.0, 3.0, 6.0))
    assert curves.points[4]["val/loss_mean"] == 4.0


def test_curves_do_not_depend_on_the_order_of_the_networks(curves: Curves) -> None:
    first, second = history(3.0, 2.0, 1.5), history(5.0, 4.0)
    one = ensemble(curves, 2)
    one.end(0, first)
    one.end(1, second)
    other_curves = Curves()
    other = ensemble(other_curves, 2)
    for record in second:
        other.add(1, [record])
    other.end(1, second)
    for record in first:
        other.add(0, [record])
    other.end(0, first)
    assert other_curves.points == curves.points


def test_single_network_has_no_spread(curves: Curves) -> None:
    one = ensemble(curves, 1)
    one.add(0, history(3.0))
    assert curves.points == {1: {"train/loss_mean": 4.0, "val/loss_mean": 3.0}}
