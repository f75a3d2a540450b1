"""A stand-in for the commands of HTCondor, Slurm and PBS: jobs are processes of this machine.

`condor_submit FILE`, `condor_rm ID` and `condor_q [ID...] -af:j JobStatus HoldReason`, `sbatch
FILE` and `scancel ID`, `qsub FILE` and `qdel ID`, as their manuals have them, as far as
dask-jobqueue and mlpop use them. What there is lies in the folder QUEUE_STANDIN: a file
`<id>.pid` for each job that was started, with what was submitted in `<id>.sub`. Files that a test
may write there: `refuse` (submitting fails and says its text) and `hold` (jobs are held for that
reason instead of being started).
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

HOME = Path(os.environ.get("QUEUE_STANDIN", ""))


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def read_description(text: str) -> dict[str, str]:
    """Parse a submit description; keys in lower case."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")]
    return {key.strip().lower(): value.strip() for key, value in pairs}


def split_arguments(quoted: str) -> list[str]:
    """Parse the "new" syntax of arguments: all in double quotes, some in single quotes."""
    assert quoted[0] == quoted[-1] == '"', quoted
    inner = quoted[1:-1].replace('""', '"')
    parts = re.findall(r"((?:[^\s']|'(?:[^']|'')*')+)", inner)
    return [
        re.sub(r"'((?:[^']|'')*)'", lambda found: found[1].replace("''", "'"), part)
        for part in parts
    ]


def condor_submit(file: str) -> int:
    text = Path(file).read_text(encoding="utf-8")
    number = _submit(text, lambda job: _start_condor(job, read_description(text), Path(file)))
    if number:
        sys.stdout.write(f"Submitting job(s).\n1 job(s) submitted to cluster {number}.\n")
    return 0 if number else 1


def submit_script(directive: str, answer: str, file: str) -> int:
    """Submit a script whose lines `directive -o PATH` say where its output goes."""
    text = Path(file).read_text(encoding="utf-8")
    number = _submit(text, lambda job: _start_script(job, directive, text))
    if number:
        sys.stdout.write(answer.format(number))
    return 0 if number else 1


def _submit(text: str, start: Callable[[str], None]) -> str:
    """Return the number of the new job, nothing if it is refused."""
    refusal = HOME / "refuse"
    if refusal.exists():
        sys.stderr.write(f"ERROR: {refusal.read_text()}\n")
        return ""
    job = _new_id()
    (HOME / f"{job}.sub").write_text(text, encoding="utf-8")
    if not (HOME / "hold").exists():
        start(job)
    return job.split(".")[0]


def _new_id() -> str:
    number = 1
    while True:
        with suppress(FileExistsError):
            (HOME / f"{number}.0.id").open("x").close()
            return f"{number}.0"
        number += 1


def _start_condor(job: str, description: dict[str, str], file: Path) -> None:
    cluster, process = job.split(".")
    macros = {"ClusterId": cluster, "ProcId": process}
    macros["LogDirectory"] = description.get("logdirectory", "")
    place = Path(description.get("initialdir", "."))

    def path(key: str) -> Path:
        return place / re.sub(r"\$\((\w+)\)", lambda found: macros[found[1]], description[key])

    command = [
        str(file.parent / description["executable"]),
        *split_arguments(description["arguments"]),
    ]
    environment = os.environ if description.get("getenv", "false") == "true" else {}
    _start(job, command, environment, path("output"), path("error"), place)


def _start_script(job: str, directive: str, text: str) -> None:
    options = [line.removeprefix(directive).split() for line in text.splitlines()]
    where = next(words[1] for words in options if words[:1] == ["-o"])
    number = job.split(".")[0]
    output = Path(f"{where}{number}.OU" if where.endswith("/") else where.replace("%J", number))
    script = HOME / f"{job}.sh"
    script.write_text(text)
    script.chmod(0o755)
    exported = ["--export=ALL"] in options or ["-V"] in options
    _start(job, [str(script)], os.environ if exported else {}, output, output, HOME)


def _start(
    job: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    output: Path,
    error: Path,
    place: Path,
) -> None:
    with output.open("w") as out, error.open("a") as err:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], **environment},
            cwd=place,
            start_new_session=True,
        )
    (HOME / f"{job}.pid").write_text(str(process.pid))


def remove(*jobs: str) -> int:
    for job in jobs:
        if "." not in job:
            job += ".0"
        (HOME / f"{job}.sub").unlink(missing_ok=True)
        with suppress(FileNotFoundError, ProcessLookupError):
            os.killpg(int((HOME / f"{job}.pid").read_text()), signal.SIGTERM)
    return 0


def queue(*arguments: str) -> int:
    hold = HOME / "hold"
    for job in arguments[: arguments.index("-af:j")]:
        if hold.exists():
            sys.stdout.write(f"{job} 5 {hold.read_text()}\n")
        elif _alive(job):
            sys.stdout.write(f"{job} 2 undefined\n")
    return 0


def _alive(job: str) -> bool:
    try:
        os.kill(int((HOME / f"{job}.pid").read_text()), 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


COMMANDS: dict[str, Callable[..., int]] = {
    "condor_submit": condor_submit,
    "condor_rm": remove,
    "condor_q": queue,
    "sbatch": partial(submit_script, "#SBATCH", "Submitted batch job {}\n"),
    "scancel": remove,
    "qsub": partial(submit_script, "#PBS", "{}.server\n"),
    "qdel": remove,
}

if __name__ == "__main__":
    sys.exit(COMMANDS[sys.argv[1]](*sys.argv[2:]))
