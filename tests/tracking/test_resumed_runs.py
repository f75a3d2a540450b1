"""A run that is opened again: no number twice, no old reason, complete only with its curves."""

import json
from pathlib import Path

import pytest

from mlpop.errors import TrackingError
from mlpop.tracking import Store, TrackedRun, open_run, replay, verify
from mlpop.tracking.curves import CurveBuffer
from mlpop.tracking.owner import OWNER_TAG, Owner


def values(store: Store, run: TrackedRun, key: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in store.client.get_metric_history(run.run_id, key))


def test_number_of_a_resumed_run_is_not_logged_twice(store: Store) -> None:
    with open_run("round", "round_00", store=store, experiment="resumed") as run:
        run.log_metrics({"a": 1.0, "b": 2.0}, step=0)
    with open_run("round", "round_00", store=store, run_id=run.run_id) as again:
        again.log_metrics({"a": 1.0, "c": 3.0}, step=0)
        again.log_metrics({"a": 4.0}, step=1)
        again.log_metrics({}, step=2)
    assert values(store, run, "a") == [(0, 1.0), (1, 4.0)]
    assert values(store, run, "b") == [(0, 2.0)]
    assert values(store, run, "c") == [(0, 3.0)]


def test_resumed_run_forgets_why_it_was_stopped(store: Store) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        open_run("round", "round_00", store=store, experiment="resumed") as run,
    ):
        raise ZeroDivisionError
    assert store.client.get_run(run.run_id).data.tags["mlpop.error"]
    with open_run("round", "round_00", store=store, run_id=run.run_id):
        assert store.client.get_run(run.run_id).data.tags["mlpop.error"] == ""
    tags = store.client.get_run(run.run_id).data.tags
    assert (tags["mlpop.error"], tags["mlpop.ended"]) == ("", "FINISHED")
    assert tags["mlpop.attempt"] == "2"


def test_points_left_on_a_machine_do_not_double_those_of_a_resume_elsewhere(
    store: Store, tmp_path: Path
) -> None:
    with open_run("member", "member_00", store=store, experiment="resumed") as run:
        for epoch in (1, 2, 3):
            run.curves.append("val/loss", epoch, epoch)
    spill = tmp_path / f"{run.run_id}.jsonl"
    points = [["val/loss", float(epoch), 5, epoch] for epoch in (2, 3, 4)]
    spill.write_text("".join(f"{json.dumps(point)}\n" for point in points))
    assert replay(store.client, tmp_path) == []
    assert values(store, run, "val/loss") == [(e, float(e)) for e in (1, 2, 3, 4)]
    assert not spill.exists()


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the next attempts to send curves meet: True a store that is away; then one that is."""
    met: list[bool] = []
    flush = CurveBuffer.flush

    def sent(buffer: CurveBuffer) -> bool:
        return False if met and met.pop(0) else flush(buffer)

    monkeypatch.setattr(CurveBuffer, "flush", sent)
    monkeypatch.setattr(TrackedRun, "store_answers", lambda _: False)
    return met


def test_run_is_complete_only_when_its_curves_are_stored(store: Store, away: list[bool]) -> None:
    with open_run("member", "member_00", store=store, experiment="resumed") as run:
        run.curves.append("val/loss", 1.0, 1)
        away += [True, True]
        run.commit()
        assert values(store, run, "val/loss") == [(1, 1.0)]
    assert away == []
    assert verify(store.client, run.run_id) == []


def test_run_whose_curves_cannot_be_stored_is_not_complete(
    store: Store, away: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLPOP_STORE_DEADLINE", "0.3")
    away += [True] * 1000
    run_ids: list[str] = []

    def work() -> None:
        with open_run("member", "member_00", store=store, experiment="resumed") as run:
            run_ids.append(run.run_id)
            run.curves.append("val/loss", 1.0, 1)
            run.commit()

    with pytest.raises(TrackingError, match=r"curves of run .* not answer; tried for 0\.3 s"):
        work()
    assert verify(store.client, run_ids[0]) == ["COMPLETE.json is missing"]


def test_curve_that_the_store_refuses_does_not_end_the_run(
    store: Store, away: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrackedRun, "store_answers", lambda _: True)
    with open_run("member", "member_00", store=store, experiment="resumed") as run:
        run.curves.append("val/loss", 1.0, 1)
        away += [True]
        run.commit()
    assert verify(store.client, run.run_id) == []


def test_run_that_another_machine_took_over_is_not_completed_here(store: Store) -> None:
    other = Owner("elsewhere", "boot", "namespace", 7, 0.0)

    run_ids: list[str] = []

    def work() -> None:
        with open_run("member", "member_00", store=store, experiment="resumed") as run:
            run_ids.append(run.run_id)
            store.client.set_tag(run.run_id, OWNER_TAG, other.to_tag())
            run.commit()

    with pytest.raises(TrackingError, match="was taken over by process 7 on elsewhere"):
        work()
    run = store.client.get_run(run_ids[0])
    assert run.info.status == "RUNNING"
    assert "mlpop.error" not in run.data.tags
    store.client.set_terminated(run_ids[0])
