"""Faults from outside, on real launches: first-second kills, S3 away, moved projects, limits."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from object_store import BUCKET, Gateway, ObjectStoreServer
from resume_checks import experiment_called, results

from mlpop.tracking import Store, connect, find, tree

pytestmark = pytest.mark.slow

Values = dict[str, Any]
SHORT = {
    "training_data_loader__num_sim": 40,
    "compute__simulations_per_task": 10,
    "test_data_loader__testing": False,
    "trainer__max_num_epochs": 2,
    "trainer__num_posterior_samples": 200,
}


@pytest.fixture
def start(
    vectors: Callable[..., Values],
    launch: Callable[..., Any],
    tmp_path: Path,
) -> Callable[..., Any]:
    """Start a short experiment of this name."""

    def begin(name: str, **changes: Any) -> Any:
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(vectors(tmp_path / name, name=name, **(SHORT | changes))))
        return launch("sbi", "--configuration", str(file))

    return begin


def runs_of(store: Store, name: str) -> list[Any]:
    return find(store, {"mlpop.kind": "experiment", "mlpop.name": name})


def left_running(store: Store, name: str) -> list[str]:
    return [
        node.name
        for run in runs_of(store, name)
        for _, node in tree(store, run.info.run_id).walk()
        if node.status == "RUNNING"
    ]


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.5])
def test_launch_killed_in_its_first_second_hides_no_older_one(
    start: Callable[..., Any],
    launch: Callable[..., Any],
    mlpop: Callable[..., Any],
    at_work: Path,
    delay: float,
) -> None:
    name = f"first_second_{round(1000 * delay)}"
    older = start(
        name, simulator={"type": "slow_simulator:SlowGaussian", "args": {"seconds": 0.3}}
    )
    store = connect()
    older.wait_for(lambda: "round_00" in left_running(store, name), "simulations")
    older.stop(signal.SIGTERM, group=False)
    (first,) = runs_of(store, name)
    newer = start(name)
    newer.wait_for(lambda: len(runs_of(store, name)) == 2, "second run")
    time.sleep(delay)
    newer.stop(signal.SIGKILL, group=False)
    newest = runs_of(store, name)[0].info.run_id
    assert newest != first.info.run_id
    outlook = mlpop("status", newest).out.splitlines()[-1]
    recorded = "nothing to resume" not in outlook
    # a process, which finds slow_simulator
    again = launch("sbi", "--resume", "last")
    assert again.process.wait(timeout=300) == 0, again.log.read_text()
    resumed, other = (newest, first.info.run_id) if recorded else (first.info.run_id, newest)
    assert store.client.get_run(resumed).info.status == "FINISHED"
    assert store.client.get_run(other).info.status != "FINISHED"


@pytest.mark.parametrize("end", ["exit", "segfault"])
def test_simulator_that_ends_the_driver_leaves_runs_that_are_told_dead_and_resumed(
    vectors: Callable[..., Values],
    launch: Callable[..., Any],
    mlpop: Callable[..., Any],
    tmp_path: Path,
    at_work: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    name = f"ends_{end}"
    flag = tmp_path / "end_it"
    flag.touch()
    simulator = {"type": "slow_simulator:EndsItsProcess", "args": {"flag": str(flag), "how": end}}
    file = tmp_path / "sbi.json"
    file.write_text(json.dumps(vectors(tmp_path / name, name=name, simulator=simulator, **SHORT)))
    this = launch("sbi", "--configuration", str(file))
    assert this.process.wait(timeout=300) in (3, -signal.SIGSEGV), this.log.read_text()
    store = connect()
    (run,) = runs_of(store, name)
    assert left_running(store, name) == [name, "round_00"]
    table = mlpop("status", run.info.run_id).out
    assert " dead " in table
    assert f"mlpop sbi --resume {run.info.run_id}" in table
    flag.unlink()
    mlpop("sbi", "--resume", "last")
    assert left_running(store, name) == []
    assert store.client.get_run(run.info.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("cut", ["start", "end"])
def test_object_store_that_is_away_while_the_database_is_there(
    start: Callable[..., Any],
    object_store: ObjectStoreServer,
    gateway: Gateway,
    at_work: Path,
    cut: str,
    process_environment: dict[str, str],
) -> None:
    store = connect()
    name = f"away_{cut}"
    store.client.create_experiment(name, artifact_location=f"s3://{BUCKET}/{name}")
    process_environment |= object_store.environment | {
        "MLFLOW_S3_ENDPOINT_URL": gateway.endpoint,
        "MLPOP_STORE_DEADLINE": "5",
    }
    if cut == "start":
        gateway.cut()
    this = start(name)
    if cut == "end":
        this.wait_for(lambda: "member_00" in left_running(store, name), "training")
        gateway.cut()
    assert this.process.wait(timeout=300) == 2, this.log.read_text()
    assert "Traceback" not in this.log.read_text()
    assert "credentials" not in this.log.read_text()
    assert left_running(store, name) == []
    for run in runs_of(store, name):
        assert run.info.status == "FAILED"
        assert "sqlite" not in run.data.tags["mlpop.error"]


@pytest.mark.parametrize("name", ["project", "my project", "projet_é"])
def test_project_that_was_moved_goes_on_in_its_new_place(
    tmp_path: Path, vectors: Callable[..., Values], name: str
) -> None:
    before, after = tmp_path / name, tmp_path / "moved"
    before.mkdir()
    (before / "MLproject").write_text("name: moved\n")
    values = vectors(Path("output"), name="sky", **SHORT)
    (before / "sky.json").write_text(json.dumps(values))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}

    def command(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "mlpop", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    done = command(before, "sbi", "-c", "sky.json")
    assert done.returncode == 0, done.stderr
    run_id = next(line.split()[1] for line in done.stderr.splitlines() if line.startswith("Run "))
    before.rename(after)
    again = command(after, "sbi", "-c", "sky.json")
    assert again.returncode == 0, again.stderr
    assert "the project was moved or copied" in again.stderr
    more = command(
        after, "sbi", "--resume", run_id, "-c", "sky.json", "--set", "trainer.num_rounds=2"
    )
    assert more.returncode == 0, more.stderr
    assert not before.exists()


@pytest.mark.parametrize("length", [80, 200])
def test_launch_with_workers_and_a_long_tmpdir(
    start: Callable[..., Any], process_environment: dict[str, str], tmp_path: Path, length: int
) -> None:
    folder = tmp_path
    while len(str(folder)) < length:
        folder /= "scheduler.example"
    folder.mkdir(parents=True)
    process_environment["TMPDIR"] = str(folder)
    this = start(f"tmpdir_{length}", n_processes=2)
    assert this.process.wait(timeout=300) == 0, this.log.read_text()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own of 60 MB."""
    folder = tmp_path / "mlruns"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs the right to mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(folder: Path) -> Path:
    """Leave no room on the disk of a folder; return the file to be deleted."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))
    return path


@pytest.mark.parametrize("place", ["artifacts", "database too"])
def test_disk_that_fills_up_is_told_in_a_sentence_and_the_run_goes_on_when_there_is_room(
    start: Callable[..., Any],
    launch: Callable[..., Any],
    small_disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    process_environment: dict[str, str],
    place: str,
) -> None:
    folder = tmp_path if place == "artifacts" else small_disk
    uri = process_environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    store = connect()
    epochs = {"trainer__max_num_epochs": 400, "trainer__stop_after_epochs": 400}
    assert start("roomy", **epochs).process.wait(timeout=300) == 0
    this = start("fills", **epochs)
    this.wait_for(lambda: "member_00" in left_running(store, "fills"), "training")
    filler = fill_up(small_disk)
    assert this.process.wait(timeout=300) == 2
    told = this.log.read_text()
    assert "Traceback" not in told
    assert str(folder if place == "database too" else small_disk) in told.splitlines()[-1]
    assert "make room: " in told.splitlines()[-1]
    if place == "artifacts":
        assert left_running(store, "fills") == []
    filler.unlink()
    again = launch("sbi", "--resume", "last")
    assert again.process.wait(timeout=300) == 0, again.log.read_text()
    roomy, filled = (results(store, experiment_called(store, name)) for name in ("roomy", "fills"))
    assert filled == roomy


@pytest.mark.parametrize("state", ["simulating", "training", "testing"])
def test_output_folder_that_fills_up(
    start: Callable[..., Any],
    launch: Callable[..., Any],
    small_disk: Path,
    at_work: Path,
    state: str,
) -> None:
    """The dataset, a checkpoint or the predictions cannot be written; then there is room."""
    store = connect()
    changes = {
        "simulator": {"type": "slow_simulator:SlowGaussian", "args": {"seconds": 0.15}},
        "trainer__max_num_epochs": 400,
        "trainer__stop_after_epochs": 400,
        "trainer__checkpoint_seconds": 0,
        "test_data_loader__testing": True,
        "test_data_loader__num_predictive": 30,
    }
    assert start(f"roomy_{state}", **changes).process.wait(timeout=300) == 0
    name = f"output_{state}"
    this = start(name, trainer__save_dir=str(small_disk), **changes)

    def reached() -> bool:
        return any(
            node.state == state and node.status == "RUNNING"
            for run in runs_of(store, name)
            for _, node in tree(store, run.info.run_id).walk()
            if node.kind == "round"
        )

    this.wait_for(reached, state)
    filler = fill_up(small_disk)
    assert this.process.wait(timeout=300) == 2
    told = this.log.read_text()
    assert "Traceback" not in told
    assert str(small_disk) in told.splitlines()[-1]
    assert left_running(store, name) == []
    filler.unlink()
    again = launch("sbi", "--resume", "last")
    assert again.process.wait(timeout=300) == 0, again.log.read_text()
    roomy, filled = (
        results(store, experiment_called(store, one)) for one in (f"roomy_{state}", name)
    )
    assert filled == roomy


def test_launch_with_more_shards_than_files_may_be_open(
    start: Callable[..., Any], process_environment: dict[str, str], at_work: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        this = start(
            "many_shards", training_data_loader__num_sim=300, compute__simulations_per_task=1
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert this.process.wait(timeout=600) == 0, this.log.read_text()


def test_store_of_twenty_thousand_runs(
    start: Callable[..., Any], process_environment: dict[str, str], tmp_path: Path, at_work: Path
) -> None:
    """`status` shows the newest and `--resume last` finds none, however many runs there are."""
    store = connect()
    this = start("many_runs", trainer__max_num_epochs=10**6, trainer__stop_after_epochs=10**6)
    this.wait_for(lambda: "member_00" in left_running(store, "many_runs"), "training")
    this.stop(signal.SIGTERM, group=False)
    assert store.database is not None
    database = tmp_path / "many.db"
    shutil.copyfile(store.database, database)
    fill(database, "many_runs", 20_000)
    process_environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
    for arguments, code in ((("status",), 0), (("sbi", "--resume", "last", "-c", "none.json"), 2)):
        done = subprocess.run(
            [sys.executable, "-m", "mlpop", *arguments],
            env=process_environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr


def fill(database: Path, name: str, count: int) -> None:
    """Copy the finished run of an experiment until there are `count` runs more."""
    with closing(sqlite3.connect(database)) as connection, connection:
        (like,) = connection.execute(
            "SELECT run_uuid FROM tags WHERE key = 'mlpop.name' AND value = ? LIMIT 1", (name,)
        ).fetchone()
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        run = dict(
            zip(
                columns,
                connection.execute("SELECT * FROM runs WHERE run_uuid = ?", (like,)).fetchone(),
                strict=True,
            )
        )
        tags = connection.execute(
            "SELECT key, value FROM tags WHERE run_uuid = ?", (like,)
        ).fetchall()
        marks = ", ".join("?" * len(columns))
        for number in range(count):
            run_id = f"{number:032x}"
            nested = number % 4 != 0
            other = run | {
                "run_uuid": run_id,
                "status": "FINISHED",
                "start_time": run["start_time"] + number + 1,
            }
            connection.execute(f"INSERT INTO runs VALUES ({marks})", [other[c] for c in columns])
            own = dict(tags) | {
                "mlpop.root": run_id,
                "mlpop.state": "complete",
                "mlpop.ended": "FINISHED",
            }
            if nested:
                own |= {
                    "mlflow.parentRunId": f"{number - number % 4:032x}",
                    "mlpop.root": f"{number - number % 4:032x}",
                    "mlpop.kind": "member",
                }
            connection.executemany(
                "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
                [(key, value, run_id) for key, value in own.items()],
            )
