"""Jobs of HTCondor (S25): what is submitted, and whole campaigns through a stand-in for it."""

import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest
from campaigns import GOLDEN_DIGEST, MIXED, Campaign, digest_of
from click.testing import CliRunner
from distributed import Client
from queue_standin import read_description, split_arguments, wait_until

from mlpop.cli.main import cli
from mlpop.compute import make_backend
from mlpop.compute.backends import htcondor
from mlpop.compute.backends.base import Backend, Event
from mlpop.config.base import apply_overrides, read_json
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ComputeError

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ROOT = Path(__file__).parents[3]


def backend_of(folder: Path, workers: int = 1, **compute: Any) -> Backend:
    options = {"host": "127.0.0.1", "queue_timeout": 60, **compute.pop("htcondor", {})}
    values = {"cluster": "htcondor", "htcondor": options, **compute}
    return make_backend(
        enable_dask=True,
        workers_dask=workers,
        compute=ComputeConfig.parse(values),
        logs=folder,
    )


def test_the_documented_job_S25(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    workers = htcondor.HTCondorWorkers(4, ComputeConfig().htcondor, logs=tmp_path)
    script = workers.job_script()
    description = read_description(script)
    output = tmp_path / "htcondor_output"
    assert description["logdirectory"] == str(output)
    assert description["output"] == "$(LogDirectory)/$(ClusterId)_$(ProcId)-out.txt"
    assert description["error"] == "$(LogDirectory)/$(ClusterId)_$(ProcId)-err.txt"
    assert description["universe"] == "vanilla"
    assert description["getenv"] == "true"
    assert description["+flavour"] == '"long"'
    assert description["my.daskworkercores"] == "1"
    assert description["my.daskworkermemory"] == "2000000000"
    assert description["my.daskworkerdisk"] == "2000000000"
    assert description["executable"] == "/bin/sh"
    assert script.splitlines()[-1] == "Queue"
    flag, command = split_arguments(description["arguments"])
    assert flag == "-c"
    words = shlex.split(command)
    assert words[words.index("-m") - 1] == sys.executable
    given = dict(zip(words, words[1:], strict=False))
    assert given["--nthreads"] == "1"
    assert "--nanny" in given
    assert given["--death-timeout"] == "60"
    assert given["--dashboard-address"] == "127.0.0.1:0"
    assert given["--protocol"] == "tls://"
    assert "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP=120s" in words
    assert "OMP_NUM_THREADS=1" in words
    assert words[words.index("unset") + 1] == "MLFLOW_RUN_ID;"
    assert not output.exists(), "nothing is written for a look at the script"


def test_every_option_reaches_the_job_S25(tmp_path: Path) -> None:
    options = {
        "cores": 4,
        "memory": "8GB",
        "disk": "4GB",
        "flavour": None,
        "export_environment": False,
        "death_timeout": 30,
        "log_directory": str(tmp_path / "elsewhere"),
        "python": "/nfs/venv/bin/python",
        "host": "ui01",
        "port": 9001,
        "local_directory": "/scratch",
        "job_script_prologue": ["cd '/nfs/my run'", 'echo "started"'],
        "job_extra_directives": {"+MaxRuntime": 86400, "want_graceful_removal": True},
        "worker_extra_args": ["--resources", "GPU=1"],
    }
    block = ComputeConfig.parse({"htcondor": options}).htcondor
    workers = htcondor.HTCondorWorkers(8, block, lifetime=3300.0, lifetime_stagger=240.0)
    description = read_description(workers.job_script())
    assert description["+maxruntime"] == "86400"
    assert description["want_graceful_removal"] == "true"
    assert "+flavour" not in description
    assert "getenv" not in description
    assert description["my.daskworkermemory"] == "8000000000"
    assert description["logdirectory"] == str(tmp_path / "elsewhere" / "htcondor_output")
    command = split_arguments(description["arguments"])[1]
    words = shlex.split(command)
    assert "; cd '/nfs/my run'; echo \"started\"; /nfs/venv/bin/python -m " in command
    given = dict(zip(words, words[1:], strict=False))
    assert words[words.index("distributed.cli.dask_worker") + 1] == "tls://ui01:9001"
    assert given["--nworkers"] == "4"
    assert given["--nthreads"] == "1"
    assert given["--death-timeout"] == "30"
    assert given["--local-directory"] == "/scratch"
    assert given["--lifetime"] == "3300s"
    assert given["--lifetime-stagger"] == "240s"
    assert given["--resources"] == "GPU=1"


def test_a_machine_without_condor_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ComputeError, match="no command condor_submit here"):
        backend_of(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ComputeError, match=r"pip install 'mlpop\[cluster\]'"):
        backend_of(tmp_path).__enter__()


def test_print_job_script_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mlpop sbi --print-job-script`: no condor, no scheduler, no run, no folder."""
    main = ROOT / "experiments" / "main.json"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'never.db'}")
    arguments = ["sbi", "-c", str(main), "--print-job-script"]
    done = CliRunner().invoke(cli, [*arguments, "--set", 'compute.htcondor.memory="3GB"'])
    assert done.exit_code == 0, done.output
    description = read_description(done.stdout)
    assert description["my.daskworkermemory"] == "3000000000"
    assert description["+flavour"] == '"long"'
    assert split_arguments(description["arguments"])[0] == "-c"
    assert list(tmp_path.iterdir()) == []


def test_the_documented_main_job_S25(standin: Path, tmp_path: Path) -> None:
    """docs/htcondor: the submit file and its wrapper, in a run folder as docs/compute.md says."""
    run = tmp_path / "run"
    (run / "htcondor_output").mkdir(parents=True)
    venv = run / ".venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "activate").write_text("PATH=$PWD/.venv/bin:$PATH\n")
    (venv / "mlpop").write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@"\n')
    (venv / "mlpop").chmod(0o755)
    documented = ROOT / "docs" / "htcondor"
    shutil.copy(documented / "wrapper.sh", run)
    text = (documented / "job.submit").read_text()
    description = read_description(text)
    submit = run / "job.submit"
    submit.write_text(text.replace(description["initialdir"], str(run)))
    done = subprocess.run(["condor_submit", str(submit)], capture_output=True, text=True)
    assert done.stdout.endswith("1 job(s) submitted to cluster 1.\n"), done.stderr
    output = run / "htcondor_output" / "1_0-out.txt"
    wait_until(lambda: output.read_text().count("\n") > 1)
    place, *arguments = output.read_text().splitlines()
    assert place == str(run)
    assert arguments == ["sbi", *split_arguments(description["arguments"])]
    assert description["+flavour"] == '"long"'
    # The arguments are ones that mlpop takes, with a cluster of HTCondor as their outcome.
    changes = arguments[4::2]
    values = apply_overrides(read_json(ROOT / arguments[2]), changes)
    config = SbiConfig.parse(values)
    assert (config.enable_dask, config.compute.cluster) == (True, "htcondor")


@pytest.mark.slow
def test_a_killed_driver_leaves_no_job(standin: Path, tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.Popen(
        [sys.executable, "-P", str(script), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert driver.stdout is not None
        worker = int(driver.stdout.readline())
    finally:
        driver.kill()
        driver.wait()
    # Dask gives the task half a minute to end.
    wait_until(lambda: not psutil.pid_exists(worker), seconds=60)


DRIVER = """
import os, sys, time
from pathlib import Path
from mlpop.compute.backends.dask_backend import DaskBackend
from mlpop.compute.backends.htcondor import HTCondorWorkers
from mlpop.config.blocks.compute import HTCondorConfig

def work(seconds, emit):
    emit({"pid": os.getpid()})
    time.sleep(seconds)

workers = HTCondorWorkers(1, HTCondorConfig(host="127.0.0.1"), logs=Path(sys.argv[1]))
with DaskBackend(workers) as backend:
    for outcome in backend.run(work, [60], on_event=lambda _, e: print(e["pid"], flush=True)):
        print(outcome)
"""


def test_a_campaign_through_htcondor_S25(
    standin: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    campaign = Campaign(tmp_path)
    caplog.set_level(logging.INFO, logger="mlpop")
    with backend_of(tmp_path, workers=2) as backend:
        assert backend.workers == 2
        records = campaign.run(backend, MIXED)
        jobs = sorted(path.name for path in standin.glob("*.sub"))
        keys = list((tmp_path / "htcondor_output").glob(".tls-*/key.pem"))
        assert backend.dashboard_link.startswith("http://127.0.0.1:")
        assert backend.dashboard_link in caplog.text
        dashboard = int(backend.dashboard_link.split(":")[2].split("/")[0])
        assert f"127.0.0.1:{dashboard}" in addresses(psutil.Process())
        # What a node gets to know is its owner's secret, and is gone with the cluster.
        assert [path.stat().st_mode & 0o777 for path in keys] == [0o600]
        assert keys[0].parent.stat().st_mode & 0o777 == 0o700
    assert digest_of(campaign, MIXED, records) == GOLDEN_DIGEST
    assert jobs == ["1.0.sub", "2.0.sub"]
    assert not keys[0].exists()
    assert not list(standin.glob("*.sub")), "all jobs are removed"
    outputs = sorted(path.name for path in (tmp_path / "htcondor_output").iterdir())
    assert outputs == ["1_0-err.txt", "1_0-out.txt", "2_0-err.txt", "2_0-out.txt"]


def addresses(process: psutil.Process) -> set[str]:
    return {
        f"{found.laddr.ip}:{found.laddr.port}"
        for found in process.net_connections(kind="inet")
        if found.status == psutil.CONN_LISTEN
    }


def test_nobody_else_can_talk_to_the_scheduler(standin: Path, tmp_path: Path) -> None:
    with backend_of(tmp_path) as backend:
        address = backend._client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        with pytest.raises((OSError, TimeoutError)):
            Client(address.replace("tls", "tcp"), timeout=1, set_as_default=False)


def pid_slowly(seconds: float, emit: Callable[[Event], None]) -> int:
    emit({"pid": os.getpid()})
    time.sleep(seconds)
    return os.getpid()


def test_a_lost_job_is_replaced_and_its_task_runs_again(standin: Path, tmp_path: Path) -> None:
    killed = []

    def on_event(index: int, event: Event) -> None:
        if not killed:
            job = int((standin / "1.0.pid").read_text())
            killed.append(event["pid"])
            os.killpg(job, signal.SIGKILL)
            # The nanny has its worker in the job's session, not in its process group.
            with suppress(ProcessLookupError):
                os.kill(event["pid"], signal.SIGKILL)

    with backend_of(tmp_path) as backend:
        outcomes = {o.index: o for o in backend.run(pid_slowly, [0.5, 0.1], on_event=on_event)}
        assert (standin / "2.0.pid").exists()
    assert {o.status for o in outcomes.values()} == {"ok"}
    assert killed
    assert killed[0] not in {o.value for o in outcomes.values()}


@pytest.mark.slow
def test_retired_workers_are_replaced(standin: Path, tmp_path: Path) -> None:
    with backend_of(tmp_path, worker_lifetime=6.0) as backend:
        outcomes = list(backend.run(time.sleep, [0.5] * 20))
        assert (standin / "2.0.pid").exists()
    assert {o.status for o in outcomes} == {"ok"}


@pytest.mark.slow
def test_the_number_of_jobs_follows_the_work(standin: Path, tmp_path: Path) -> None:
    adaptive = {"minimum": 1, "maximum": 3}
    with backend_of(tmp_path, workers=3, adaptive=adaptive) as backend:
        assert [path.name for path in standin.glob("*.pid")] == ["1.0.pid"]
        pids = {o.result() for o in backend.run(_pid, [1.0] * 15)}
    assert len(pids) == 3


def _pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_a_refusal_is_told(standin: Path, tmp_path: Path) -> None:
    (standin / "refuse").write_text("no such flavour")
    with pytest.raises(ComputeError, match="HTCondor refuses the job: .*no such flavour"):
        backend_of(tmp_path).__enter__()


def test_a_held_job_is_told(standin: Path, tmp_path: Path) -> None:
    (standin / "hold").write_text("Disk quota exceeded")
    with pytest.raises(ComputeError, match="all HTCondor jobs are held: Disk quota exceeded"):
        backend_of(tmp_path).__enter__()
    assert not list(standin.glob("*.sub"))


def test_jobs_that_end_before_their_workers_come_are_told(standin: Path, tmp_path: Path) -> None:
    with pytest.raises(ComputeError, match="ended before their workers came; see .*output"):
        backend_of(tmp_path, htcondor={"python": shutil.which("false")}).__enter__()


def test_a_queue_that_is_too_long_is_told(standin: Path, tmp_path: Path) -> None:
    (standin / "hold").write_text("x")
    (Path(os.environ["PATH"].split(":")[0]) / "condor_q").unlink()
    with pytest.raises(ComputeError, match=r"queue_timeout \(1 s\)"):
        backend_of(tmp_path, htcondor={"queue_timeout": 1}).__enter__()
