"""Jobs of every queue that dask-jobqueue knows; Slurm and PBS through stand-ins."""

import sys
from pathlib import Path
from typing import Any

import dask_jobqueue
import pytest
from campaigns import GOLDEN_DIGEST, MIXED, Campaign, digest_of
from click.testing import CliRunner
from dask_jobqueue.core import JobQueueCluster

from mlpop.cli.main import cli
from mlpop.compute import make_backend
from mlpop.compute.backends.base import Backend
from mlpop.compute.backends.factory import job_script
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.errors import ComputeError

MAIN = Path(__file__).parents[3] / "experiments" / "main.json"
EXPORTED = [getattr(dask_jobqueue, name) for name in dir(dask_jobqueue) if "Cluster" in name]
QUEUES = sorted(c.job_cls.config_name for c in EXPORTED if c is not JobQueueCluster)
# Without it dask-jobqueue warns that OAR may end jobs for their memory.
MORE_ARGS = {"oar": {"memory_per_core_property_name": "not_applicable"}}
EXTRA = {"htcondor": ("+MaxRuntime = 86400", "job_extra_directives", {"+MaxRuntime": 86400})}


def backend_of(folder: Path, queue: str, workers: int = 1, **jobs: Any) -> Backend:
    values = {"cluster": queue, "jobs": {"host": "127.0.0.1", "queue_timeout": 60, **jobs}}
    compute = ComputeConfig.parse(values)
    return make_backend(enable_dask=True, workers_dask=workers, compute=compute, logs=folder)


@pytest.mark.parametrize("queue", QUEUES)
def test_the_script_of_every_queue_is_printed(
    queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python, scheduler, threads, memory, TLS, environment and the user's own lines are in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    block = "htcondor" if queue == "htcondor" else "jobs"
    line, field, directives = EXTRA.get(
        queue, ("--my-directive", "args.job_extra_directives", ["--my-directive"])
    )
    settings = {
        "cores": 2,
        "memory": '"6GB"',
        "host": "ui01",
        "port": 9001,
        "job_script_prologue": '["module load python"]',
        "worker_extra_args": '["--resources", "GPU=1"]',
        field: str(directives).replace("'", '"'),
    }
    settings |= {f"args.{name}": value for name, value in MORE_ARGS.get(queue, {}).items()}
    changes = [f"compute.{block}.{name}={value}" for name, value in settings.items()]
    changes += ["enable_dask=true", f"compute.cluster={queue}", "compute.worker_lifetime=3300"]
    sets = [word for change in changes for word in ("--set", change)]
    done = CliRunner().invoke(cli, ["sbi", "-c", str(MAIN), "--print-job-script", *sets])
    assert done.exit_code == 0, done.output
    script = done.stdout
    for wanted in (
        f"{sys.executable} -m distributed.cli.dask_worker tls://ui01:9001 ",
        "--nthreads 1 --memory-limit 2.79GiB --nworkers 2 --nanny --death-timeout 60 ",
        "--protocol tls://",
        f"--tls-key {tmp_path / f'{queue}_output'}/.tls/key.pem",
        "--lifetime 3300s",
        "--resources GPU=1",
        "unset MLFLOW_RUN_ID",
        "OMP_NUM_THREADS=1",
        "module load python",
        line,
    ):
        assert wanted in script
    assert list(tmp_path.iterdir()) == [], "nothing is written for a look at the script"


def script_of(queue: str, **jobs: Any) -> str:
    return job_script(ComputeConfig.parse({"cluster": queue, "jobs": jobs}), 1, Path("/shared"))


def test_slurm_and_pbs_are_asked_by_their_own_names() -> None:
    args = {"queue": "normal", "account": "astro", "walltime": "12:00:00"}
    slurm = script_of("slurm", cores=4, memory="8GiB", args=args).splitlines()
    pbs = script_of("pbs", cores=4, memory="8GiB", args=args).splitlines()
    assert {
        "#SBATCH -J mlpop",
        "#SBATCH -p normal",
        "#SBATCH -A astro",
        "#SBATCH -t 12:00:00",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=8G",
        "#SBATCH --export=ALL",
        "#SBATCH -o /shared/slurm_output/mlpop-%J.out",
    } <= set(slurm)
    assert {
        "#PBS -N mlpop",
        "#PBS -q normal",
        "#PBS -A astro",
        "#PBS -l walltime=12:00:00",
        "#PBS -l select=1:ncpus=4:mem=8192MB",
        "#PBS -V",
        "#PBS -o /shared/pbs_output/",
    } <= set(pbs)


def test_the_environment_stays_here_if_it_shall() -> None:
    assert "#SBATCH --export=NONE" in script_of("slurm", export_environment=False)
    assert "-V" not in script_of("pbs", export_environment=False).split()


@pytest.mark.parametrize(
    ("queue", "jobs", "message"),
    [
        (
            "slum",
            {},
            "compute.cluster: must be one of 'local', 'htcondor', 'lsf', 'moab', 'oar', 'pbs', "
            "'sge', 'slurm', found 'slum'; did you mean 'slurm'?",
        ),
        (
            "slurm",
            {"args": {"waltime": "1:00"}},
            "compute.jobs.args.waltime: unknown field; did you mean 'walltime'?",
        ),
        (
            "pbs",
            {"args": {"cores": 2}},
            "compute.jobs.args.cores: mlpop sets it, by fields beside args or itself",
        ),
        (
            "pbs",
            {"args": {"security": None}},
            "compute.jobs.args.security: unknown field; allowed: ",
        ),
        (
            "pbs",
            {"args": {"job_extra_directives": "-m e"}},
            "compute.jobs.args.job_extra_directives: must be a list, found '-m e'",
        ),
        (
            "slurm",
            {"args": {"job_cpu": "four"}},
            "compute.jobs: SLURM refuses the options: TypeError: %d format",
        ),
    ],
)
def test_what_no_queue_knows_is_told_in_one_line(
    queue: str, jobs: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ComputeError) as caught:
        backend_of(tmp_path, queue, **jobs)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_arguments_of_htcondor_are_checked_likewise() -> None:
    block = ComputeConfig.parse({"htcondor": {"args": {"job_extra_directives": {}}}})
    with pytest.raises(ComputeError, match=r"htcondor\.args\.job_extra_directives: mlpop sets"):
        job_script(block, 1)


def test_a_machine_without_the_queue_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ComputeError, match="'slurm', but there is no command sbatch here"):
        backend_of(tmp_path, "slurm").__enter__()


@pytest.mark.parametrize("queue", ["slurm", "pbs"])
def test_a_campaign_through_the_queue(queue: str, standin: Path, tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    with backend_of(tmp_path, queue, workers=2, args={"walltime": "00:10:00"}) as backend:
        records = campaign.run(backend, MIXED)
        assert sorted(path.name for path in standin.glob("*.sub")) == ["1.0.sub", "2.0.sub"]
    assert digest_of(campaign, MIXED, records) == GOLDEN_DIGEST
    assert not list(standin.glob("*.sub")), "all jobs are removed"
    output = tmp_path / f"{queue}_output"
    assert len(list(output.iterdir())) == 2
    assert "Start worker at" in "".join(path.read_text() for path in output.iterdir())


def test_a_refusal_is_told(standin: Path, tmp_path: Path) -> None:
    (standin / "refuse").write_text("invalid account")
    with pytest.raises(ComputeError, match="SLURM refuses the job: .*invalid account"):
        backend_of(tmp_path, "slurm").__enter__()


def test_a_queue_that_is_too_long_is_told(standin: Path, tmp_path: Path) -> None:
    (standin / "hold").write_text("x")
    with pytest.raises(ComputeError, match=r"compute.jobs.queue_timeout \(1 s\); see the queue"):
        backend_of(tmp_path, "pbs", queue_timeout=1).__enter__()
    assert not list(standin.glob("*.sub"))
