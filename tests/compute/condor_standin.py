"""A stand-in for HTCondor's commands: jobs are processes of this machine.

`condor_submit FILE`, `condor_rm ID` and `condor_q [ID...] -af:j JobStatus HoldReason` as their
manuals have them, as far as dask-jobqueue and mlpop use them. What there is lies in the folder
CONDOR_STANDIN: a file `<id>.pid` for each job that was started, with its submit description in
`<id>.sub`. Files that a test may write there: `refuse` (condor_submit fails and says its text)
and `hold` (jobs are held for that reason instead of being started).
"""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

HOME = Path(os.environ.get("CONDOR_STANDIN", ""))


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


def submit(file: str) -> int:
    refusal = HOME / "refuse"
    if refusal.exists():
        sys.stderr.write(f"ERROR: {refusal.read_text()}\n")
        return 1
    text = Path(file).read_text(encoding="utf-8")
    job = _new_id()
    (HOME / f"{job}.sub").write_text(text, encoding="utf-8")
    if not (HOME / "hold").exists():
        _start(job, read_description(text), Path(file).parent)
    sys.stdout.write(f"Submitting job(s).\n1 job(s) submitted to cluster {job.split('.')[0]}.\n")
    return 0


def _new_id() -> str:
    number = 1
    while True:
        with suppress(FileExistsError):
            (HOME / f"{number}.0.id").open("x").close()
            return f"{number}.0"
        number += 1


def _start(job: str, description: dict[str, str], submitted_from: Path) -> None:
    cluster, process = job.split(".")
    macros = {"ClusterId": cluster, "ProcId": process}
    macros["LogDirectory"] = description.get("logdirectory", "")
    place = Path(description.get("initialdir", "."))

    def path(key: str) -> Path:
        return place / re.sub(r"\$\((\w+)\)", lambda found: macros[found[1]], description[key])

    command = [
        str(submitted_from / description["executable"]),
        *split_arguments(description["arguments"]),
    ]
    kept = os.environ if description.get("getenv", "false") == "true" else {}
    with path("output").open("w") as out, path("error").open("w") as err:
        started = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], **kept},
            cwd=place,
            start_new_session=True,
        )
    (HOME / f"{job}.pid").write_text(str(started.pid))


def remove(*jobs: str) -> int:
    for job in jobs:
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


COMMANDS = {"condor_submit": submit, "condor_rm": remove, "condor_q": queue}

if __name__ == "__main__":
    sys.exit(COMMANDS[sys.argv[1]](*sys.argv[2:]))
