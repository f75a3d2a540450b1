"""Two resumes of one experiment at once: exactly one goes on, the other refuses clearly."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from resume_checks import check_points, experiment_called
from tracking_server import TrackingServer

from mlpop.config.files.sbi import SbiConfig
from mlpop.tracking import connect, open_run

EPOCHS = 6


@pytest.fixture
def begun(vectors: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[[str], str]:
    """Leave an experiment as a launch does that is killed at once; return its run."""

    def make(name: str) -> str:
        values = vectors(
            tmp_path / name,
            name=name,
            training_data_loader__num_sim=60,
            test_data_loader__testing=False,
            # the one that goes on must still be at work when the other one asks
            simulator={"type": "slow_simulator:SlowGaussian", "args": {"seconds": 0.1}},
            trainer__max_num_epochs=EPOCHS,
            trainer__stop_after_epochs=EPOCHS,
            trainer__num_posterior_samples=100,
        )
        document = json.dumps(SbiConfig.parse(values).resolved())
        with open_run("experiment", name, tags={"mlpop.root_seed": 7}) as run:
            run.store.client.log_text(run.run_id, document, "config_sbi.json")
        run.store.client.set_terminated(run.run_id, "KILLED")
        run.store.client.set_tag(run.run_id, "mlpop.ended", "KILLED")
        return run.run_id

    return make


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def race(launch: Callable[..., Any], begun: Callable[[str], str], name: str) -> None:
    run_id = begun(name)
    both = [launch("sbi", "--resume", run_id) for _ in range(2)]
    codes = [this.process.wait(timeout=500) for this in both]
    said = "\n".join(this.log.read_text() for this in both)
    assert sorted(codes) == [0, 2], said
    (loser,) = [this for this, code in zip(both, codes, strict=True) if code == 2]
    (winner,) = [this for this, code in zip(both, codes, strict=True) if code == 0]
    (message,) = [s for s in loser.log.read_text().splitlines() if s.startswith("Error: ")]
    assert "end it first" in message
    assert f"process {winner.process.pid} on " in message
    assert "Traceback" not in loser.log.read_text()
    store = connect()
    root = experiment_called(store, name)
    nodes = [node for _, node in root.walk()]
    assert [node.kind for node in nodes] == ["experiment", "round", "member"]
    assert [(node.status, node.state, node.error) for node in nodes] == [
        ("FINISHED", "complete", "")
    ] * 3
    for node in nodes:
        check_points(store, node, epochs=EPOCHS)


def test_of_two_resumes_at_once_one_goes_on(
    launch: Callable[..., Any], begun: Callable[[str], str], at_work: Path
) -> None:
    race(launch, begun, "race")


@pytest.mark.slow
def test_of_two_resumes_at_once_one_goes_on_again_and_again(
    launch: Callable[..., Any], begun: Callable[[str], str], at_work: Path
) -> None:
    for number in range(3):
        race(launch, begun, f"race-{number}")


@pytest.fixture
def server(tmp_path: Path, at_work: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A tracking server instead of a database."""
    (tmp_path / "server").mkdir()
    server = TrackingServer(tmp_path / "server")
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield
    server.kill()


@pytest.fixture
def process_environment(
    process_environment: dict[str, str], request: pytest.FixtureRequest
) -> Mapping[str, str]:
    """Environment of the processes, with the tracking server where there is one."""
    if "server" not in request.fixturenames:
        return process_environment
    request.getfixturevalue("server")
    return process_environment | {"MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"]}


@pytest.mark.slow
def test_of_two_resumes_at_once_one_goes_on_with_a_tracking_server(
    server: None, launch: Callable[..., Any], begun: Callable[[str], str]
) -> None:
    race(launch, begun, "race-server")
