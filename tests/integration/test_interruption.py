"""Ctrl-C and SIGTERM end a real launch in good order, and the next one goes on from there."""

import itertools
import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlpop.tracking import connect, find, tree, verify

BACKENDS: Mapping[str, Mapping[str, Any]] = {
    "processes": {"n_processes": 2},
    "dask": {"enable_dask": True, "workers_dask": 2},
}
SIGNALS = {
    "SIGINT": (signal.SIGINT, 130),
    "SIGTERM": (signal.SIGTERM, 143),
    "SIGHUP": (signal.SIGHUP, 129),
}
FAST = ("processes", "SIGINT", "simulating")
CASES = [
    pytest.param(*case, marks=() if case == FAST else pytest.mark.slow, id="-".join(case))
    for case in itertools.product(BACKENDS, SIGNALS, ("simulating", "training"))
]
SIMULATIONS, PER_TASK = 24, 2


@pytest.fixture
def values(
    vectors: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """An experiment that simulates slowly, and trains until it is stopped."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return vectors(
        tmp_path / "output",
        name=f"interrupted-{tmp_path.name}",
        training_data_loader__num_sim=SIMULATIONS,
        test_data_loader__testing=False,
        simulator={"type": "slow_simulator:SlowGaussian", "args": {"seconds": 0.1}},
        trainer__max_num_epochs=10**7,
        trainer__stop_after_epochs=10**7,
        trainer__ensemble=True,
        trainer__size_ensemble=2,
        compute__simulations_per_task=PER_TASK,
    )


def shards(save_dir: Path) -> dict[Path, int]:
    found = save_dir.glob("data/training_dataset/generated_dataset/*/shards/shard-*/shard.json")
    return {path: path.stat().st_mtime_ns for path in found}


def is_training(name: str) -> bool:
    members = [
        run
        for run in find(connect(), {"mlpop.kind": "member"})
        if "train/loss" in run.data.metrics
    ]
    return any(tree_name(run.data.tags["mlpop.root"]) == name for run in members)


def tree_name(root_id: str) -> str:
    return tree(connect(), root_id).name


def go_on(launch: Callable[..., Any], file: Path, values: dict[str, Any]) -> str:
    """Launch a short one of the same name and simulations; return its run."""
    short = values | {"trainer": values["trainer"] | {"max_num_epochs": 2}}
    file.write_text(json.dumps(short))
    again = launch("sbi", "--configuration", str(file))
    assert again.process.wait(timeout=300) == 0, again.log.read_text()
    (run,) = [
        run
        for run in find(connect(), {"mlpop.kind": "experiment", "mlpop.name": values["name"]})
        if run.info.status == "FINISHED"
    ]
    return str(run.info.run_id)


@pytest.mark.parametrize(("backend", "signal_name", "phase"), CASES)
def test_stopped_launch(
    launch: Callable[..., Any],
    values: dict[str, Any],
    tmp_path: Path,
    backend: str,
    signal_name: str,
    phase: str,
) -> None:
    number, code = SIGNALS[signal_name]
    save_dir, name = tmp_path / "output", values["name"]
    file = tmp_path / "sbi.json"
    file.write_text(json.dumps(values | BACKENDS[backend]))
    first = launch("sbi", "--configuration", str(file))
    if phase == "simulating":
        first.wait_for(lambda: len(shards(save_dir)) >= 2, "simulations")
    else:
        first.wait_for(lambda: is_training(name), "training")
    seconds = first.stop(number, group=signal_name == "SIGINT")
    output = first.log.read_text()
    assert first.process.returncode == code, output
    assert seconds < 10
    assert len(first.family) >= 2
    assert first.left_alive() == []
    assert "Traceback" not in output

    store = connect()
    (root,) = find(store, {"mlpop.kind": "experiment", "mlpop.name": name})
    nodes = [node for _, node in tree(store, root.info.run_id).walk()]
    assert len(nodes) == (2 if phase == "simulating" else 4)
    for node in nodes:
        assert (node.status, node.life, node.state) == ("KILLED", "ended", "stopped"), node.name
        assert node.error == f"stopped by {signal_name}"
        assert verify(store.client, node.run_id) == ["COMPLETE.json is missing"]

    finished = shards(save_dir)
    if phase == "simulating":
        assert 2 <= len(finished) < SIMULATIONS // PER_TASK
    else:
        assert len(finished) == SIMULATIONS // PER_TASK
    run_id = go_on(launch, file, values)
    now = shards(save_dir)
    assert len(now) == SIMULATIONS // PER_TASK
    assert {path: now[path] for path in finished} == finished
    assert not list(save_dir.rglob(".shard-*"))
    assert {node.status for _, node in tree(store, run_id).walk()} == {"FINISHED"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_killed_launch_is_seen_to_be_dead_and_its_shards_are_used(
    launch: Callable[..., Any], values: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    save_dir = tmp_path / "output"
    file = tmp_path / "sbi.json"
    file.write_text(json.dumps(values | BACKENDS[kind]))
    first = launch("sbi", "--configuration", str(file))
    first.wait_for(lambda: len(shards(save_dir)) >= 2, "simulations")
    first.stop(signal.SIGKILL, group=False)
    assert first.left_alive(10) == []
    (root,) = find(connect(), {"mlpop.kind": "experiment", "mlpop.name": values["name"]})
    node = tree(connect(), root.info.run_id)
    assert (node.status, node.life) == ("RUNNING", "dead")
    finished = shards(save_dir)
    go_on(launch, file, values)
    now = shards(save_dir)
    assert {path: now[path] for path in finished} == finished
    assert len(now) == SIMULATIONS // PER_TASK
