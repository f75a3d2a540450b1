"""A tracking server that is away: for a minute, or for good."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from resume_checks import check_points, experiment_called, results
from tracking_server import TrackingServer

from mlpop.tracking import Store, connect, find, verify

AWAY_SECONDS = 60
EPOCHS = 300

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """A tracking server for all tests of this file: it takes long to start."""
    server = TrackingServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def process_environment(
    process_environment: dict[str, str], server: TrackingServer
) -> dict[str, str]:
    """Environment of processes that work with the tracking server."""
    return process_environment | {"MLFLOW_TRACKING_URI": server.uri}


@pytest.fixture
def play(
    vectors: Callable[..., dict[str, Any]], launch: Callable[..., Any], tmp_path: Path
) -> Callable[[str], Any]:
    """Start an experiment of two rounds and two members whose training takes its time."""

    def start(name: str) -> Any:
        values = vectors(
            tmp_path / name,
            name=name,
            n_processes=2,
            training_data_loader__num_sim=200,
            trainer__batch_size=10,
            trainer__num_rounds=2,
            trainer__truncated_prior=True,
            trainer__append_simulations=True,
            trainer__ensemble=True,
            trainer__size_ensemble=2,
            trainer__max_num_epochs=EPOCHS,
            trainer__stop_after_epochs=EPOCHS,
            trainer__checkpoint_seconds=1,
            trainer__num_posterior_samples=500,
        )
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(values))
        return launch("sbi", "--configuration", str(file))

    return start


def is_training(store: Store, name: str) -> bool:
    """Whether a member of the first round has a curve, and is not at its end."""
    for run in find(store, {"mlpop.kind": "member"}):
        root = store.client.get_run(run.data.tags["mlpop.root"])
        if root.info.run_name == name and run.info.status == "RUNNING":
            points = store.client.get_metric_history(run.info.run_id, "val/loss")
            return 0 < len(points) < EPOCHS / 2
    return False


def check_complete(store: Store, name: str) -> dict[str, str]:
    """All is complete and whole, and no curve has a gap; return the results."""
    root = experiment_called(store, name)
    kinds = [node.kind for _, node in root.walk()]
    assert kinds == ["experiment", *["round", "member", "member"] * 2]
    for _, node in root.walk():
        assert (node.status, node.state, node.error) == ("FINISHED", "complete", ""), node.name
        assert verify(store.client, node.run_id) == []
        check_points(store, node, epochs=EPOCHS)
    return results(store, root)


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, dict[str, str]]:
    """The results of the first experiment that was complete: all must have the same."""
    return {}


def same_as_others(undisturbed: dict[str, dict[str, str]], found: dict[str, str]) -> None:
    assert undisturbed.setdefault("first", found) == found


def test_server_that_is_there(
    server: TrackingServer,
    play: Callable[[str], Any],
    undisturbed: dict[str, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    started = play("quiet")
    assert started.process.wait(timeout=500) == 0, started.log.read_text()
    same_as_others(undisturbed, check_complete(connect(), "quiet"))


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_server_that_is_away_for_a_minute_in_the_middle_of_a_training(
    how: str,
    server: TrackingServer,
    play: Callable[[str], Any],
    undisturbed: dict[str, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    store = connect()
    started = play(how)
    started.wait_for(lambda: is_training(store, how), "training", 300)
    if how == "frozen":
        server.freeze()
    else:
        server.kill()
    time.sleep(AWAY_SECONDS)
    assert started.process.poll() is None, started.log.read_text()
    if how == "frozen":
        server.thaw()
    else:
        server.start()
    assert started.process.wait(timeout=900) == 0, started.log.read_text()
    assert "Traceback" not in started.log.read_text()
    same_as_others(undisturbed, check_complete(store, how))


def test_server_that_stays_away_ends_the_launch_and_a_resume_goes_on(
    server: TrackingServer,
    play: Callable[[str], Any],
    launch: Callable[..., Any],
    process_environment: dict[str, str],
    undisturbed: dict[str, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    store = connect()
    short = {
        "MLPOP_STORE_DEADLINE": "10",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    }
    with monkeypatch.context() as patch:
        for key, value in short.items():
            patch.setitem(process_environment, key, value)
        started = play("gone")
    started.wait_for(lambda: is_training(store, "gone"), "training", 300)
    server.kill()
    left = time.monotonic()
    assert started.process.wait(timeout=500) == 2, started.log.read_text()
    seconds = time.monotonic() - left
    output = started.log.read_text()
    assert "Traceback" not in output
    (message,) = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert "--resume" in message
    assert "kept" in message
    assert seconds < 400
    server.start()
    root = experiment_called(store, "gone")
    assert (root.status, root.life) == ("RUNNING", "dead")
    again = launch("sbi", "--resume", root.run_id)
    assert again.process.wait(timeout=500) == 0, again.log.read_text()
    same_as_others(undisturbed, check_complete(store, "gone"))
