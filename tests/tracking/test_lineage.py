import time
from dataclasses import replace

import pytest

from mlpop.errors import TrackingError
from mlpop.experiment.resume.attempts import LAST, unfinished_run
from mlpop.tracking import Store, find, open_run, root_of, status, tree
from mlpop.tracking.owner import (
    BEATS_MISSED,
    HEARTBEAT_SECONDS,
    HEARTBEAT_TAG,
    OWNER_TAG,
    Heartbeat,
    Owner,
    is_alive,
)

NOBODY = 2**22 + 1  # above the largest pid of Linux


def test_tree_holds_every_depth_in_order(store: Store) -> None:
    with open_run("experiment", "tree", store=store) as root:
        for r in range(2):
            with open_run("round", f"round_{r:02d}", root.run_id, {"round": r}) as inner:
                for j in range(2):
                    with open_run("member", f"member_{j:02d}", inner.run_id, {"member": j}):
                        pass
                inner.set_state("complete")
    node = tree(store, root.run_id)
    assert [(depth, n.kind, n.round, n.member, n.state) for depth, n in node.walk()] == [
        (0, "experiment", None, None, ""),
        (1, "round", 0, None, "complete"),
        (2, "member", None, 0, ""),
        (2, "member", None, 1, ""),
        (1, "round", 1, None, "complete"),
        (2, "member", None, 0, ""),
        (2, "member", None, 1, ""),
    ]
    assert {n.life for _, n in node.walk()} == {"ended"}
    leaf = node.children[1].children[0]
    assert root_of(store, leaf.run_id) == root.run_id
    rows = status(leaf.run_id, store=store, now=node.started + 100)
    assert [row.depth for row in rows] == [0, 1, 2, 2, 1, 2, 2]
    assert rows[0].age == pytest.approx(100)
    assert rows[0].duration == pytest.approx(node.ended - node.started)


def test_dead_and_living_runs_are_told_apart(store: Store) -> None:
    with open_run("experiment", "lives", store=store) as root:
        with open_run("round", "round_00", root.run_id) as lost:
            pass
        dead = replace(Owner.current(), pid=NOBODY)
        store.client.set_tag(lost.run_id, OWNER_TAG, dead.to_tag())
        store.client.update_run(lost.run_id, status="RUNNING")
        node = tree(store, root.run_id)
        assert (node.life, node.children[0].life) == ("alive", "dead")
        assert node.ended is None
        with pytest.raises(TrackingError, match=r"no unfinished experiment .* RUNNING"):
            unfinished_run(store, "experiment", LAST, "lives")
    store.client.update_run(root.run_id, status="RUNNING")
    store.client.set_tag(root.run_id, OWNER_TAG, dead.to_tag())
    assert unfinished_run(store, "experiment", LAST, "lives").run_id == root.run_id


def test_last_unfinished_is_the_newest_that_did_not_finish(store: Store) -> None:
    ids = []
    for k, error in enumerate([KeyboardInterrupt, ValueError, None]):
        try:
            with open_run("experiment", "it's", store=store) as run:
                ids.append(run.run_id)
                if error is not None:
                    raise error
        except (KeyboardInterrupt, ValueError):
            assert k < 2
        time.sleep(0.005)
    assert unfinished_run(store, "experiment", LAST, "it's").run_id == ids[1]
    assert [r.info.run_id for r in find(store, {"mlpop.name": "it's"})] == ids[::-1]
    assert [r.info.run_id for r in find(store, {"mlpop.name": "it's"}, status="KILLED")] == ids[:1]
    top = [row.node.run_id for row in status(store=store)]
    assert [run_id for run_id in top if run_id in ids] == ids[::-1]
    with pytest.raises(TrackingError, match="named 'other'.*there are: none"):
        unfinished_run(store, "experiment", LAST, "other")


def test_unknown_run_is_a_tracking_error(store: Store) -> None:
    for call in (lambda: tree(store, "f" * 32), lambda: status("f" * 32, store=store)):
        with pytest.raises(TrackingError, match="run ffff"):
            call()


def test_same_machine_decides_by_the_process_table() -> None:
    me = Owner.current()
    stale = {HEARTBEAT_TAG: "0"}
    assert is_alive(stale | {OWNER_TAG: me.to_tag()})
    fresh = {HEARTBEAT_TAG: str(time.time())}
    assert not is_alive(fresh | {OWNER_TAG: replace(me, pid=NOBODY).to_tag()})
    # the number was given to a later process
    assert not is_alive(fresh | {OWNER_TAG: replace(me, created=me.created - 60).to_tag()})


@pytest.mark.parametrize("field", ["host", "boot_id", "namespace"])
def test_another_machine_is_judged_by_its_heartbeat(field: str) -> None:
    other = {OWNER_TAG: replace(Owner.current(), **{field: "elsewhere"}).to_tag()}
    limit = BEATS_MISSED * HEARTBEAT_SECONDS
    assert is_alive(other | {HEARTBEAT_TAG: "1000"}, now=1000 + limit - 1)
    assert not is_alive(other | {HEARTBEAT_TAG: "1000"}, now=1000 + limit + 1)
    assert not is_alive(other, now=1000)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"host": "a"}', "3"])
def test_owner_that_cannot_be_read_is_nobody(text: str | None) -> None:
    assert Owner.from_tag(text) is None


def test_heart_goes_on_after_a_failed_beat_and_stops_when_told() -> None:
    beats = []

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) == 1:
            raise ConnectionError("server away")

    heart = Heartbeat(beat, interval=0.01)
    deadline = time.monotonic() + 10
    while len(beats) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    heart.stop()
    time.sleep(0.05)
    count = len(beats)
    assert count >= 3
    time.sleep(0.1)
    assert len(beats) == count
