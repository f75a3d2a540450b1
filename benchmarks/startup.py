"""How long commands take to answer: help, a mistake in a file, runs of a small and a full store.

    python benchmarks/startup.py [--runs 20000] [--repeats 5]

Every command is a process of its own; the store is made by SQL, as experiments of ten runs leave
it (three rounds of two members; tags, parameters and curves). The plain way to ask the same is
MLflow's client: its import, and all runs that are nested in no other. `--resume last` is asked
twice: of a store in which all is complete, and of one in which the very first experiment is not
(until its run is found; the launch itself then imports what trains). Compiled files are used, as
an installed mlpop has them: the first, untimed call writes them.
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from mlpop.tracking import connect

ROUNDS, MEMBERS, PARAMETERS, EPOCHS = 3, 2, 120, 100
RUNS_OF_ONE = 1 + ROUNDS * (1 + MEMBERS)
STARTED = 1_700_000_000_000  # [ms since 1970]

PLAIN = """
import mlflow
client = mlflow.MlflowClient()
places = [e.experiment_id for e in client.search_experiments()]
runs = client.search_runs(places, max_results=50000)
print(sum('mlflow.parentRunId' not in run.data.tags for run in runs))
"""
FIND = """
from mlpop.commands.resumable import run_to_resume
from mlpop.config.files.sbi import SbiConfig
print(run_to_resume('experiment', 'last', None, SbiConfig.parse))
"""

Row = tuple[str, str, str, dict[str, str]]


def experiment(number: int, name: str) -> Iterator[Row]:
    """Yield id, name, kind and tags of the runs of one experiment, its own first."""
    root = f"{number:026x}{0:06x}"
    shared = {"mlpop.name": name, "mlpop.schema": "1", "mlpop.root": root}
    shared |= {f"mlpop.more_{k}": "something that is recorded" for k in range(12)}

    def tags(kind: str, **more: str) -> dict[str, str]:
        return shared | {"mlpop.kind": kind, "mlpop.state": "complete"} | more

    yield root, name, "experiment", tags("experiment", **{"mlpop.root_seed": "42"})
    place = 1
    for round_ in range(ROUNDS):
        run_id = f"{number:026x}{place:06x}"
        above = {"mlflow.parentRunId": root, "mlpop.round": str(round_)}
        yield run_id, f"round_{round_:02d}", "round", tags("round", **above)
        place += 1
        for member in range(MEMBERS):
            above = {"mlflow.parentRunId": run_id, "mlpop.member": str(member)}
            member_id = f"{number:026x}{place:06x}"
            yield member_id, f"member_{member:02d}", "member", tags("member", **above)
            place += 1


def fill(folder: Path, runs: int, *, unfinished: bool = False) -> None:
    """Make a store with so many runs in a folder, all complete, or all but the first tree."""
    folder.mkdir(parents=True)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    place = int(connect(folder).experiment_id("startup"))
    artifacts = folder / "mlruns" / str(place)
    count = max(1, runs // RUNS_OF_ONE)
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        for number in range(count):
            died = unfinished and number == 0
            for run_id, name, kind, tags in experiment(number, f"SBI_{number}"):
                begun = STARTED + number * 60_000 + int(run_id[-6:], 16)
                connection.execute(
                    "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, "
                    "end_time, lifecycle_stage, artifact_uri, experiment_id) "
                    "VALUES (?, ?, 'LOCAL', '', ?, ?, ?, 'active', ?, ?)",
                    [
                        *(run_id, name, "FAILED" if died else "FINISHED", begun, begun + 50_000),
                        *(str(artifacts / run_id / "artifacts"), place),
                    ],
                )
                connection.executemany(
                    "INSERT INTO tags VALUES (?, ?, ?)",
                    [(key, value, run_id) for key, value in tags.items()],
                )
                if kind == "experiment":
                    connection.executemany(
                        "INSERT INTO params VALUES (?, ?, ?)",
                        [(f"cfg.field_{k}", "1.0", run_id) for k in range(PARAMETERS)],
                    )
                if kind == "member":
                    connection.executemany(
                        "INSERT INTO metrics (key, value, timestamp, run_uuid, step) "
                        "VALUES ('val/loss', ?, ?, ?, ?)",
                        [(1.0 / k, begun + k, run_id, k) for k in range(1, EPOCHS + 1)],
                    )
                    connection.execute(
                        "INSERT INTO latest_metrics VALUES ('val/loss', 0.01, ?, ?, 0, ?)",
                        [begun + EPOCHS, EPOCHS, run_id],
                    )
    if unfinished:
        first = artifacts / f"{0:032x}" / "artifacts"
        first.mkdir(parents=True)
        (first / "config_sbi.json").write_text(json.dumps(MAIN))


MAIN = json.loads((Path(__file__).parents[1] / "experiments" / "main.json").read_text())


def measured(command: Sequence[str], folder: Path, code: int, repeats: int) -> float:
    """Return the median wall time of a command [s]; it must end with this exit code."""
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        found.append(time.perf_counter() - started)
        if done.returncode != code:
            raise SystemExit(f"{command}: exit code {done.returncode}\n{done.stderr}")
    return statistics.median(found[1:])


def measure(runs: int, repeats: int) -> dict[str, float]:
    """Return what was asked -> median wall time [s]."""
    mlpop = [sys.executable, "-m", "mlpop"]
    with tempfile.TemporaryDirectory(prefix="mlpop-") as name:
        one, full, died = (Path(name, kind) for kind in ("one", "full", "died"))
        fill(one, 1)
        fill(full, runs)
        fill(died, runs, unfinished=True)
        (one / "wrong.json").write_text(json.dumps(MAIN | {"no_such_field": 1}))
        cases = {
            "python -c pass": ([sys.executable, "-c", "pass"], one, 0),
            "mlpop --help": ([*mlpop, "--help"], one, 0),
            "a wrong field": ([*mlpop, "sbi", "--configuration", "wrong.json"], one, 2),
            f"mlpop status, {RUNS_OF_ONE} runs": ([*mlpop, "status"], one, 0),
            f"mlpop status, {runs} runs": ([*mlpop, "status"], full, 0),
            f"--resume last, {runs} runs, all complete": (
                *([*mlpop, "sbi", "--resume", "last"], full, 2),
            ),
            f"--resume last, {runs} runs, the first is found": (
                *([sys.executable, "-c", FIND], died, 0),
            ),
            f"plain: MLflow's client, {RUNS_OF_ONE} runs": ([sys.executable, "-c", PLAIN], one, 0),
            f"plain: MLflow's client, {runs} runs": ([sys.executable, "-c", PLAIN], full, 0),
        }
        return {
            what: measured(command, folder, code, 1 if what.startswith("plain") else repeats)
            for what, (command, folder, code) in cases.items()
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for what, seconds in measure(options.runs, options.repeats).items():
        sys.stdout.write(f"{what:<50} {seconds:6.2f} s\n")


if __name__ == "__main__":
    main()
