"""Processes of their own: started, waited for, and searched for what they leave behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest


@dataclass
class Launch:
    """A `python -m mlpop ...` in a process group of its own."""

    process: "subprocess.Popen[str]"
    log: Path
    family: list[psutil.Process] = field(default_factory=list)

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
        """Wait until `condition` holds; fail if it does not, or the process ends."""
        deadline = time.monotonic() + seconds
        while not condition():
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                how = f"ended with {self.process.returncode}" if ended else "took too long"
                pytest.fail(f"{what}: the process {how}:\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self, number: int, *, group: bool) -> float:
        """Send a signal, wait for the end, and return the seconds it took."""
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        started = time.monotonic()
        if group:
            os.killpg(self.process.pid, number)
        else:
            os.kill(self.process.pid, number)
        self.process.wait(timeout=40)
        return time.monotonic() - started

    def left_alive(self, seconds: float = 5) -> list[psutil.Process]:
        """Return the processes of the launch that are still there.

        A zombie has ended: the machine's first process has not come round to it yet.
        """
        there = psutil.wait_procs(self.family, timeout=seconds)[1]
        return [each for each in there if each.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def launch(process_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Launch]]:
    """Start `mlpop` with these arguments."""
    launches: list[Launch] = []
    # under nohup, tests would be deaf to it and so would be all that they start
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def start(*arguments: str) -> Launch:
        log = tmp_path / f"output_{len(launches)}.txt"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "mlpop", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=process_environment,
                text=True,
                start_new_session=True,
            )
        launches.append(Launch(process, log))
        return launches[-1]

    yield start
    signal.signal(signal.SIGHUP, former)
    for this in launches:
        if this.process.poll() is None:
            os.killpg(this.process.pid, signal.SIGKILL)
            this.process.wait()
        for child in this.family:
            if child.is_running():
                child.kill()
