"""Which run a resume goes on with, and what it refuses (B8, S23)."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ConfigError, TrackingError
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.resume.start import (
    BRANCH_OF,
    BRANCH_ROUND,
    SIMULATOR,
    Beginning,
    lineage_of,
    recorded_launch,
    unfinished_launch,
)
from mlpop.tracking import Store, connect, open_run, tree
from mlpop.tracking.owner import HEARTBEAT_TAG, OWNER_TAG, Owner

Values = dict[str, Any]
ELSEWHERE = Owner("elsewhere", "boot", "namespace", 7, 0.0)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a store without runs: making one takes seconds, a copy nothing."""
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        connect()
    return database


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of this test's own."""
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    return connect()


@pytest.fixture
def values(vectors: Callable[..., Values], tmp_path: Path) -> Values:
    """An experiment of two rounds."""
    return vectors(tmp_path / "output", trainer__num_rounds=2)


@pytest.fixture
def recorded(store: Store, values: Values, tmp_path: Path) -> Callable[..., str]:
    """Leave the run of an experiment as a launch leaves it; return its id."""

    def make(
        status: str = "KILLED",
        *,
        kind: str = "experiment",
        rounds: int = 0,
        config: str | None = "as it is",
        tags: dict[str, str] | None = None,
        **changes: Any,
    ) -> str:
        document = SbiConfig.parse(values | changes).resolved()
        folders = [tmp_path / "output" / part / "vectors" / "stamp" for part in ("models", "logs")]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        shared = {
            "mlpop.root_seed": "7",
            "mlpop.save_dir": folders[0],
            "mlpop.log_dir": folders[1],
        }
        with open_run(kind, document["name"], tags=shared | (tags or {}), store=store) as run:
            if config is not None:
                text = json.dumps(document) if config == "as it is" else config
                store.client.log_text(run.run_id, text, "config_sbi.json")
            for number in range(rounds):
                place = {"mlpop.round": number}
                with open_run("round", f"round_{number:02d}", run.run_id, place) as round_:
                    with open_run("member", "member_00", round_.run_id, {"mlpop.member": 0}) as m:
                        m.commit()
                    round_.commit()
        store.client.set_terminated(run.run_id, status)
        store.client.set_tag(run.run_id, "mlpop.ended", status)
        return run.run_id

    return make


def left_running(store: Store, run_id: str, owner: Owner, age: float) -> None:
    """Make a run look as if `owner` worked on it, with a heartbeat of `age` [s]."""
    store.client.update_run(run_id, status="RUNNING")
    store.client.set_tag(run_id, OWNER_TAG, owner.to_tag())
    store.client.set_tag(run_id, HEARTBEAT_TAG, f"{time.time() - age:.0f}")


@pytest.fixture
def living() -> Iterator[Owner]:
    """A process of this machine that lives."""
    import psutil

    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    me = Owner.current()
    created = psutil.Process(process.pid).create_time()
    yield Owner(me.host, me.boot_id, me.namespace, process.pid, created)
    process.communicate(b"\n")


# --- which run ----------------------------------------------------------------------------------


def test_last_is_the_newest_that_is_neither_complete_nor_alive(
    store: Store, recorded: Callable[..., str], values: Values
) -> None:
    oldest, newer = recorded("FAILED"), recorded("KILLED")
    alive = recorded()
    left_running(store, alive, ELSEWHERE, age=10)
    recorded("FINISHED")
    recorded("KILLED", kind="dynamics")
    other = recorded("KILLED", name="other")
    config = SbiConfig.parse(values)

    def found(config: SbiConfig | None) -> str:
        run = unfinished_launch(store, "last", config).run
        assert run is not None
        return run.run_id

    assert found(config) == newer
    assert found(None) == other
    store.client.set_terminated(newer, "FINISHED")
    assert found(config) == oldest
    left_running(store, alive, ELSEWHERE, age=100)
    assert found(config) == alive


@pytest.mark.parametrize("config", [None, "", "{", "[1]", "{}", '{"name": 3}'])
def test_last_passes_over_what_cannot_be_resumed_and_says_so(
    store: Store,
    recorded: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
    config: str | None,
) -> None:
    """The newest was killed in its first second, or its record is torn."""
    older = recorded("KILLED")
    newest = recorded("KILLED", config=config)
    run = unfinished_launch(store, "last", None).run
    assert run is not None
    assert run.run_id == older
    assert f"run {newest} is passed over: " in caplog.text


@pytest.mark.parametrize("round_", ["0", "-1", "one", ""])
@pytest.mark.parametrize("cycle", [1, 2])
def test_branch_of_itself_does_its_first_rounds_again(
    store: Store,
    recorded: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
    cycle: int,
    round_: str,
) -> None:
    runs = [recorded("KILLED", rounds=1) for _ in range(cycle)]
    for run_id, origin in zip(runs, [*runs[1:], runs[0]], strict=True):
        store.client.set_tag(run_id, BRANCH_OF, origin)
        store.client.set_tag(run_id, BRANCH_ROUND, round_)
    beginning = unfinished_launch(store, runs[0], None)
    assert "is a branch of run" in caplog.text
    assert beginning.run is not None
    assert beginning.run.run_id == runs[0]


def test_last_without_any_says_what_there_is(
    store: Store, recorded: Callable[..., str], values: Values
) -> None:
    done = recorded("FINISHED")
    with pytest.raises(TrackingError, match="no unfinished experiment run named 'vectors'") as e:
        unfinished_launch(store, "last", SbiConfig.parse(values))
    assert f"{done[:8]} FINISHED" in str(e.value)
    with pytest.raises(TrackingError, match="there are: none"):
        unfinished_launch(store, "last", SbiConfig.parse(values | {"name": "unheard"}))


def test_any_run_of_a_tree_will_do(
    store: Store, recorded: Callable[..., str], values: Values
) -> None:
    root = recorded(rounds=1)
    (round_,) = tree(store, root).children
    (member,) = round_.children
    for run_id in (root, round_.run_id, member.run_id):
        beginning = unfinished_launch(store, run_id, None)
        assert beginning.run is not None
        assert beginning.run.run_id == root
        assert beginning.root_seed == 7
        assert beginning.config == SbiConfig.parse(values)


# --- refusals -----------------------------------------------------------------------------------


def test_unknown_run_is_refused(store: Store) -> None:
    with pytest.raises(TrackingError, match=r"run 0123abc in sqlite:.*: no such run"):
        unfinished_launch(store, "0123abc", None)


def test_run_of_another_kind_is_refused(store: Store, recorded: Callable[..., str]) -> None:
    run_id = recorded(kind="simulate")
    with pytest.raises(TrackingError, match="is a run of kind 'simulate', not 'experiment'"):
        unfinished_launch(store, run_id, None)
    foreign = store.client.create_run("0").info.run_id
    with pytest.raises(TrackingError, match="is a run of kind 'unknown', not 'experiment'"):
        unfinished_launch(store, foreign, None)


def test_complete_run_is_refused_unless_it_gets_more_rounds(
    store: Store, recorded: Callable[..., str], values: Values
) -> None:
    run_id = recorded("FINISHED", rounds=2)
    same = SbiConfig.parse(values)
    for config in (None, same):
        with pytest.raises(TrackingError, match=r"is complete; a larger trainer\.num_rounds adds"):
            unfinished_launch(store, run_id, config)
    trainer = values["trainer"] | {"num_rounds": 3}
    beginning = unfinished_launch(store, run_id, SbiConfig.parse(values | {"trainer": trainer}))
    assert beginning.config.trainer.num_rounds == 3
    trainer = values["trainer"] | {"num_rounds": 1}
    with pytest.raises(ConfigError, match=r"trainer\.num_rounds: 2 in the run, 1 now"):
        unfinished_launch(store, run_id, SbiConfig.parse(values | {"trainer": trainer}))


def test_complete_run_with_a_damaged_round_goes_on(
    store: Store, recorded: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    run_id = recorded("FINISHED", rounds=2)
    second = tree(store, run_id).children[1]
    store.client.log_text(second.run_id, "{", "COMPLETE.json")
    beginning = unfinished_launch(store, run_id, None)
    assert beginning.lineage.complete_rounds(beginning.config) == 1
    assert "round_01 is done again: COMPLETE.json" in caplog.text


@pytest.mark.parametrize("age", [0.0, 1e6])
def test_run_of_a_living_process_is_refused(
    store: Store, recorded: Callable[..., str], living: Owner, age: float
) -> None:
    run_id = recorded()
    left_running(store, run_id, living, age)
    message = f"process {living.pid} on {living.host} works on run 'vectors'; end it first"
    with pytest.raises(TrackingError, match=message):
        unfinished_launch(store, run_id, None)


def test_on_another_machine_the_heartbeat_decides(
    store: Store, recorded: Callable[..., str]
) -> None:
    run_id = recorded()
    left_running(store, run_id, ELSEWHERE, age=80)
    with pytest.raises(TrackingError, match="process 7 on elsewhere works on run"):
        unfinished_launch(store, run_id, None)
    left_running(store, run_id, ELSEWHERE, age=100)
    assert unfinished_launch(store, run_id, None).run is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"artifact config_sbi\.json of run \w+: No such artifact"),
        ("{", r"artifact config_sbi\.json of run \w+: Expecting"),
        ("[1]", r"artifact config_sbi\.json of run \w+: is no JSON object.*start it again"),
    ],
)
def test_run_without_its_configuration_is_refused(
    store: Store, recorded: Callable[..., str], text: str | None, message: str
) -> None:
    run_id = recorded(config=text)
    with pytest.raises(TrackingError, match=message):
        unfinished_launch(store, run_id, None)


def test_run_without_its_seed_is_refused(store: Store, recorded: Callable[..., str]) -> None:
    run_id = recorded(tags={"mlpop.root_seed": "none"})
    with pytest.raises(TrackingError, match="has no root seed recorded"):
        unfinished_launch(store, run_id, None)


def test_every_changed_field_is_named_with_both_values(
    store: Store,
    recorded: Callable[..., str],
    values: Values,
    changed: Callable[[Values, Values], Values],
) -> None:
    run_id = recorded()
    now = changed(
        values,
        {
            "trainer.lr": 0.01,
            "training_data_loader.num_sim": 500,
            "prior_ranges.low": [-1, -2],
            "compute.simulations_per_task": 50,
        },
    )
    with pytest.raises(ConfigError) as caught:
        unfinished_launch(store, run_id, SbiConfig.parse(now))
    assert str(caught.value) == (
        "--resume: the configuration has changed: "
        "compute.simulations_per_task: 100 in the run, 50 now; "
        "prior_ranges.low: [-1.0, -1.0] in the run, [-1.0, -2.0] now; "
        "trainer.lr: 0.005 in the run, 0.01 now; "
        "training_data_loader.num_sim: 400 in the run, 500 now"
    )


def test_fields_that_say_where_and_how_fast_may_change(
    store: Store,
    recorded: Callable[..., str],
    values: Values,
    changed: Callable[[Values, Values], Values],
    tmp_path: Path,
) -> None:
    run_id = recorded()
    now = changed(
        values,
        {
            "n_processes": 2,
            "enable_dask": True,
            "workers_dask": 3,
            "compute.max_in_flight": 5,
            "compute.time_limit": 100,
            "trainer.save_dir": str(tmp_path / "new"),
            "trainer.checkpoint_seconds": 5,
            "trainer.num_rounds": 4,
            "show_profiling": True,
            "infer.num_posterior_samples": 3,
            "training_data_loader.dataset_path": str(tmp_path / "data"),
        },
    )
    config = SbiConfig.parse(now)
    assert unfinished_launch(store, run_id, config).config == config


def test_the_seed_of_the_run_is_used_and_another_one_is_told(
    store: Store,
    recorded: Callable[..., str],
    values: Values,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_id = recorded()
    same = unfinished_launch(store, run_id, SbiConfig.parse(values | {"manual_seed": 7}))
    assert same.root_seed == 7
    assert caplog.text == ""
    other = unfinished_launch(store, run_id, SbiConfig.parse(values | {"manual_seed": 8}))
    assert other.root_seed == 7
    assert "manual_seed: is 8; the run goes on with its own, 7" in caplog.text


def test_another_simulator_or_database_is_refused(
    store: Store, recorded: Callable[..., str], values: Values
) -> None:
    run_id = recorded(tags={SIMULATOR: "a" * 64})
    beginning = unfinished_launch(store, run_id, None)
    beginning.check_simulator("a" * 64)
    with pytest.raises(ConfigError, match=r"stellar database are not those .* bbbbbbbbbbbb… now"):
        beginning.check_simulator("b" * 64)
    new = Beginning(SbiConfig.parse(values), 7, Lineage(store))
    new.check_simulator("b" * 64)
    branch = recorded(tags={BRANCH_OF: run_id, BRANCH_ROUND: "0"})
    with pytest.raises(ConfigError, match="begin a new experiment"):
        unfinished_launch(store, branch, None).check_simulator("b" * 64)


def test_command_line_says_it_in_one_line_and_changes_nothing(
    store: Store, recorded: Callable[..., str], mlpop: Callable[..., Any], values: Values
) -> None:
    run_id = recorded("FINISHED", rounds=2)
    before = store.client.get_run(run_id)
    for arguments in (("--resume", run_id), ("--resume", "last"), ("--resume", "0123abc")):
        ended = mlpop("sbi", *arguments)
        assert ended.code == 2
        assert len(ended.err.splitlines()) == 1
        assert ended.err.startswith("Error: ")
    Path("changed.json").write_text(json.dumps(values | {"show_profiling": True}))
    ended = mlpop("sbi", "--resume", run_id, "-c", "changed.json", "--set", "trainer.lr=1")
    assert ended.code == 2
    assert "trainer.lr: 0.005 in the run, 1.0 now" in ended.err
    assert "show_profiling" not in ended.err
    assert store.client.get_run(run_id).to_dictionary() == before.to_dictionary()


# --- the block resume_training ------------------------------------------------------------------


@pytest.fixture
def block(values: Values, tmp_path: Path) -> Callable[..., SbiConfig]:
    """The experiment with a block `resume_training`."""

    def make(last_round: int, **changes: Any) -> SbiConfig:
        folder = tmp_path / "output"
        named = {
            "resume": True,
            "last_round": last_round,
            "save_dir": str(folder / "models" / "vectors" / "stamp"),
            "log_dir": str(folder / "logs" / "vectors" / "stamp"),
        }
        return SbiConfig.parse(values | {"resume_training": named | changes})

    return make


def test_block_with_the_newest_complete_round_goes_on_with_the_run_S23(
    store: Store, recorded: Callable[..., str], block: Callable[..., SbiConfig]
) -> None:
    run_id = recorded(rounds=1)
    beginning = recorded_launch(store, block(0))
    assert beginning.run is not None
    assert beginning.run.run_id == run_id
    assert beginning.tags == {}


def test_block_finds_folders_by_another_way_of_writing_them_S23(
    store: Store, recorded: Callable[..., str], block: Callable[..., SbiConfig], tmp_path: Path
) -> None:
    run_id = recorded(rounds=1)
    (tmp_path / "link").symlink_to("output")
    inside = os.path.relpath(tmp_path / "link" / "models" / "vectors" / "stamp")
    beginning = recorded_launch(store, block(0, save_dir=inside))
    assert beginning.run is not None
    assert beginning.run.run_id == run_id


def test_block_with_an_earlier_round_makes_a_branch_S23(
    store: Store, recorded: Callable[..., str], block: Callable[..., SbiConfig]
) -> None:
    run_id = recorded("FINISHED", rounds=2, tags={SIMULATOR: "a" * 64})
    beginning = recorded_launch(store, block(0))
    assert beginning.run is None
    assert beginning.tags == {BRANCH_OF: run_id, BRANCH_ROUND: "0"}
    rounds = tree(store, run_id).children
    kept = beginning.lineage.round(0)
    assert kept is not None
    assert kept.run_id == rounds[0].run_id
    assert beginning.lineage.round(1) is None
    assert beginning.lineage.tag(SIMULATOR) == "a" * 64


def test_branch_of_a_branch_takes_each_round_from_where_it_was_made(
    store: Store, recorded: Callable[..., str]
) -> None:
    first = recorded("FINISHED", rounds=2)
    second = recorded("FINISHED", tags={BRANCH_OF: first, BRANCH_ROUND: "0"})
    for number in (1, 2):
        with open_run("round", f"round_{number:02d}", second, {"mlpop.round": number}):
            pass
    third = recorded("KILLED", tags={BRANCH_OF: second, BRANCH_ROUND: "1"})
    lineage = lineage_of(store, tree(store, third))
    origins = [
        node and store.client.get_run(node.run_id).data.tags["mlpop.root"]
        for node in map(lineage.round, range(3))
    ]
    assert origins == [first, second, None]


def test_block_with_the_last_of_all_rounds_says_that_there_is_nothing_to_train_B8(
    store: Store,
    recorded: Callable[..., str],
    block: Callable[..., SbiConfig],
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorded("FINISHED", rounds=2)
    caplog.set_level(logging.WARNING)
    recorded_launch(store, block(1))
    assert "round 1 is the last of trainer.num_rounds: nothing to train" in caplog.text


@pytest.mark.parametrize(("rounds", "said"), [(0, "no round is"), (1, "rounds 0 to 0 are")])
def test_block_with_a_later_round_than_the_last_complete_one_is_refused_B8(
    store: Store,
    recorded: Callable[..., str],
    block: Callable[..., SbiConfig],
    rounds: int,
    said: str,
) -> None:
    run_id = recorded(rounds=rounds)
    with pytest.raises(ConfigError, match=f"is 1, but {said} complete in run {run_id}") as caught:
        recorded_launch(store, block(1))
    assert f"mlpop sbi --resume {run_id}" in str(caught.value)


def test_block_with_more_rounds_than_the_experiment_has_is_refused_B8(
    block: Callable[..., SbiConfig],
) -> None:
    with pytest.raises(ConfigError, match=r"resume_training\.last_round"):
        block(2)


@pytest.mark.parametrize("field", ["save_dir", "log_dir"])
def test_block_with_unknown_folders_is_refused_B8(
    store: Store, recorded: Callable[..., str], block: Callable[..., SbiConfig], field: str
) -> None:
    recorded(rounds=1)
    with pytest.raises(ConfigError, match="no experiment in sqlite:.* was recorded with") as e:
        recorded_launch(store, block(0, **{field: "/nowhere/vectors/stamp"}))
    assert "/nowhere/vectors/stamp" in str(e.value)


def test_block_refuses_the_run_of_a_living_process_but_not_a_branch_of_it(
    store: Store, recorded: Callable[..., str], block: Callable[..., SbiConfig], living: Owner
) -> None:
    run_id = recorded(rounds=2)
    left_running(store, run_id, living, age=0)
    with pytest.raises(TrackingError, match="works on run"):
        recorded_launch(store, block(1))
    assert recorded_launch(store, block(0)).run is None


def test_branch_may_change_what_its_kept_rounds_do_not_depend_on(
    store: Store,
    recorded: Callable[..., str],
    block: Callable[..., SbiConfig],
    changed: Callable[[Values, Values], Values],
) -> None:
    recorded("FINISHED", rounds=2)

    def branch(**changes: Any) -> Beginning:
        dotted = {path.replace("__", "."): value for path, value in changes.items()}
        values = block(0).resolved()
        return recorded_launch(store, SbiConfig.parse(changed(values, dotted)))

    new = branch(trainer__lr=0.1, trainer__num_rounds=5, training_data_loader__num_sim=20)
    assert new.config.trainer.lr == 0.1
    assert new.root_seed == 7
    with pytest.raises(ConfigError, match=r"density_estimator\.args\.hidden_features: 16 in the"):
        branch(density_estimator__args__hidden_features=8)
    anew = {"trainer__retrain_from_scratch": True}
    assert branch(manual_seed=8, **anew).root_seed == 8
    assert branch(trainer__validation_fraction=0.3, **anew).run is None
    with pytest.raises(ConfigError, match="manual_seed: 7 in the run, 8 now: .*validated on what"):
        branch(manual_seed=8)
    with pytest.raises(ConfigError, match=r"trainer\.validation_fraction: 0\.1 in the run, 0\.3"):
        branch(trainer__validation_fraction=0.3)
