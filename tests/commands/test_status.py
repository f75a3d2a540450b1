"""`mlpop status` of one tree: what a resume would keep and do, at each stage."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mlpop.commands.status import status_table
from mlpop.experiment.resume.attempts import CONFIG_FILES
from mlpop.experiment.resume.outlook import RESUMED_BY, outlook
from mlpop.tracking import Store, TrackedRun, connect, open_run, tree
from mlpop.tracking.artifacts import local_path
from mlpop.tracking.owner import HEARTBEAT_TAG, OWNER_TAG, Owner

DEAD = Owner("elsewhere", "boot", "namespace", 7, 0.0).to_tag()


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def store(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store for the tests of this file."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store_folder / 'mlflow.db'}")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(store_folder)
    return connect()


class Experiment:
    """Runs as an experiment of two rounds and two members leaves them."""

    def __init__(self, store: Store, stack: ExitStack, tags: Mapping[str, Any] | None = None):
        self._store, self._stack = store, stack
        self.run = self._open("experiment", "sky", None, tags or {})
        config = json.dumps({"trainer": {"num_rounds": 2}})
        store.client.log_text(self.run.run_id, config, "config_sbi.json")

    def _open(self, kind: str, name: str, parent: str | None, tags: Mapping[str, Any]) -> Any:
        opened = open_run(kind, name, parent, tags, store=self._store)
        return self._stack.enter_context(opened)

    def round(self, number: int, state: str) -> TrackedRun:
        run = self._open("round", f"round_{number:02d}", self.run.run_id, {"round": number})
        run.set_state(state)
        return run

    def member(self, round_: TrackedRun, number: int, epochs: int) -> TrackedRun:
        run = self._open("member", f"member_{number:02d}", round_.run_id, {"member": number})
        for epoch in range(1, epochs + 1):
            run.curves.append("val/loss", 1.0, epoch)
        run.curves.flush()
        return run

    def complete(self, run: TrackedRun) -> None:
        run.commit()
        self._store.client.set_terminated(run.run_id, "FINISHED")

    def shards(self, run: TrackedRun, kind: str, count: int) -> None:
        for number in range(count):
            self._store.client.log_text(run.run_id, "zip", f"{kind}/shards/shard-{number:05d}.zip")

    def outlook(self) -> list[str]:
        return outlook(self._store, tree(self._store, self.run.run_id))

    def dies(self) -> None:
        """Leave the runs that are open as SIGKILL does."""
        for _, node in tree(self._store, self.run.run_id).walk():
            if node.status == "RUNNING":
                self._store.client.set_tag(node.run_id, OWNER_TAG, DEAD)
                self._store.client.set_tag(node.run_id, HEARTBEAT_TAG, "0")


@pytest.fixture
def begin(store: Store) -> Any:
    """Begin an experiment whose runs stay open until the end of the test."""
    with ExitStack() as stack:
        yield lambda **tags: Experiment(store, stack, tags)


def test_alive(begin: Callable[..., Experiment]) -> None:
    sky = begin()
    (line,) = sky.outlook()
    assert line.startswith("process ")
    assert line.endswith(" works on it: nothing to resume")


def test_nothing_begun(begin: Callable[..., Experiment]) -> None:
    sky = begin()
    sky.dies()
    command = f"mlpop sbi --resume {sky.run.run_id}"
    assert sky.outlook() == [command, "  begins round 0"]


def test_simulating(begin: Callable[..., Experiment]) -> None:
    sky = begin()
    sky.shards(sky.round(0, "simulating"), "training", 3)
    sky.dies()
    assert sky.outlook()[1:] == [
        "  goes on with round 0, which was simulating",
        "    keeps 3 training shards",
    ]


def test_training(begin: Callable[..., Experiment]) -> None:
    sky = begin()
    sky.complete(sky.round(0, "testing"))
    second = sky.round(1, "training")
    sky.shards(second, "training", 3)
    sky.shards(second, "test", 1)
    sky.complete(sky.member(second, 0, 9))
    sky.member(second, 1, 7)
    sky.dies()
    assert sky.outlook()[1:] == [
        "  keeps round 0",
        "  goes on with round 1, which was training",
        "    keeps 3 training shards",
        "    keeps 1 test shards",
        "    keeps member_00",
        "    trains member_01 on, of which 7 epochs are recorded",
    ]


def test_testing(begin: Callable[..., Experiment]) -> None:
    sky = begin()
    first = sky.round(0, "testing")
    for number in (0, 1):
        sky.complete(sky.member(first, number, 5))
    sky.dies()
    assert sky.outlook()[1:] == [
        "  goes on with round 0, which was testing",
        "    keeps member_00",
        "    keeps member_01",
    ]


def test_between_rounds_and_after_the_last(begin: Callable[..., Experiment]) -> None:
    sky = begin()
    sky.complete(sky.round(0, "testing"))
    sky.dies()
    assert sky.outlook()[1:] == ["  keeps round 0", "  begins round 1"]
    sky.complete(sky.round(1, "testing"))
    assert sky.outlook()[1:] == ["  keeps round 0", "  keeps round 1", "  completes the run"]


def test_round_without_its_manifest_is_not_kept(
    begin: Callable[..., Experiment], store: Store
) -> None:
    sky = begin()
    first = sky.round(0, "testing")
    store.client.set_terminated(first.run_id, "FINISHED")
    sky.dies()
    assert sky.outlook()[1:] == ["  goes on with round 0, which was testing"]


def test_complete(begin: Callable[..., Experiment]) -> None:
    sky = begin()
    sky.complete(sky.run)
    assert sky.outlook() == [
        "complete: nothing to resume; a larger trainer.num_rounds adds rounds"
    ]


def test_branch_keeps_the_rounds_that_it_shares(begin: Callable[..., Experiment]) -> None:
    trunk = begin()
    for number in (0, 1):
        trunk.complete(trunk.round(number, "testing"))
    trunk.complete(trunk.run)
    branch = begin(**{"mlpop.branch_of": trunk.run.run_id, "mlpop.branch_round": 0})
    branch.round(1, "simulating")
    branch.dies()
    assert branch.outlook()[1:] == [
        "  keeps round 0",
        "  goes on with round 1, which was simulating",
    ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("train_nn", ["mlpop train-nn --resume {}"]),
        ("study", ["mlpop study --resume {}"]),
        ("simulate", []),
    ],
)
def test_other_kinds(store: Store, kind: str, expected: list[str]) -> None:
    with open_run(kind, "other", store=store) as run:
        pass
    store.client.set_tag(run.run_id, "mlpop.ended", "KILLED")
    found = outlook(store, tree(store, run.run_id))
    assert len(found) == len(expected)
    assert all(line.startswith("nothing to resume: ") for line in found)
    for name in set(CONFIG_FILES.values()):
        store.client.log_text(run.run_id, "{}", name)
    found = outlook(store, tree(store, run.run_id))
    assert found == [line.format(run.run_id) for line in expected]


@pytest.mark.parametrize("text", [None, "", "[1]", '{"trainer": {"num_'])
def test_what_cannot_be_resumed_is_not_recommended(
    begin: Callable[..., Experiment], store: Store, text: str | None
) -> None:
    """It was killed before its configuration was stored, or that is torn."""
    sky = begin()
    if text is None:
        (local_path(store.client, sky.run.run_id, "config_sbi.json") or Path()).unlink()
    else:
        store.client.log_text(sky.run.run_id, text, "config_sbi.json")
    sky.dies()
    (line,) = sky.outlook()
    assert line.startswith("nothing to resume: artifact config_sbi.json of run ")
    assert line.endswith("cannot be resumed; start it again")


def test_commands_know_their_configuration() -> None:
    from mlpop.commands import study, train_nn
    from mlpop.experiment.output_tree import CONFIG_FILE

    assert set(RESUMED_BY) == set(CONFIG_FILES)
    assert CONFIG_FILES == {
        "experiment": CONFIG_FILE,
        train_nn.KIND: train_nn.CONFIG,
        study.KIND: study.CONFIG,
    }


def test_table_shows_the_newest_and_says_that_there_are_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlpop.commands.status.SHOWN", 2)
    for number in range(4):
        with (
            open_run("simulate", f"table_{number}", store=store) as run,
            open_run("round", "in", run.run_id),
        ):
            pass
    shown = status_table().splitlines()
    assert [line.split()[0] for line in shown[1:3]] == ["table_3", "table_2"]
    assert shown[3:] == ["the newest 2; `mlpop status --all` shows every run"]
    every = status_table(every=True).splitlines()
    assert len(every) > 4
    assert not any(line.split()[0] == "in" for line in every)


def test_table_shows_the_tree_from_any_of_its_runs(
    begin: Callable[..., Experiment], store: Store
) -> None:
    sky = begin()
    first = sky.round(0, "training")
    member = sky.member(first, 0, 2)
    sky.dies()
    for run in (sky.run, first, member):
        head, *lines = status_table(run.run_id).splitlines()
        assert head.split() == ["run", "state", "status", "life", "age", "took", "id"]
        rows = [line.split() for line in lines[:3]]
        assert [row[0] for row in rows] == ["sky", "round_00", "member_00"]
        assert [row[-1] for row in rows] == [r.run_id for r in (sky.run, first, member)]
        assert rows[1][1:4] == ["training", "RUNNING", "dead"]
        assert lines[3] == ""
        assert lines[4] == f"mlpop sbi --resume {sky.run.run_id}"
