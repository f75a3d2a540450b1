"""What is special about HTCondor among the job queues: its submit description and its queue."""

import logging
import shutil
import subprocess
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, ClassVar

from mlpop.compute.backends.base import describe
from mlpop.compute.backends.job_queue import JobQueueWorkers
from mlpop.compute.backends.queued_jobs import COMMAND_SECONDS
from mlpop.config.blocks.compute import HTCondorConfig
from mlpop.errors import ComputeError

logger = logging.getLogger(__name__)

HELD = "5"


@dataclass(frozen=True)
class HTCondorWorkers(JobQueueWorkers):
    """Workers that HTCondor runs.

    Attributes:
        options: the `compute.htcondor` block.
    """

    options: HTCondorConfig
    queue: str = "htcondor"

    block: ClassVar[str] = "compute.htcondor"
    queue_hint: ClassVar[str] = "condor_q"
    free_arguments: ClassVar[Set[str]] = frozenset()

    def _own_options(self) -> dict[str, Any]:
        """See `JobQueueWorkers`."""
        return super()._own_options() | {
            "disk": self.options.disk,
            # `_directives` has the folder
            "log_directory": None,
            "submit_command_extra": list(self.options.submit_command_extra),
            "cancel_command_extra": list(self.options.cancel_command_extra),
        }

    def _directives(self) -> dict[str, str]:
        """Return the lines that are added to dask-jobqueue's submit description."""
        lines: dict[str, str] = {"Universe": "vanilla"}
        if self.options.export_environment:
            lines["getenv"] = "true"
        if self.options.flavour is not None:
            lines["+flavour"] = f'"{self.options.flavour}"'
        lines |= {
            "LogDirectory": str(self.output),
            "Output": "$(LogDirectory)/$(ClusterId)_$(ProcId)-out.txt",
            "Error": "$(LogDirectory)/$(ClusterId)_$(ProcId)-err.txt",
            "Log": "$(LogDirectory)/$(ClusterId).log",
            # A job is ended by removing it, and its output would not be brought back.
            "Stream_Output": "true",
            "Stream_Error": "true",
        }
        for name, value in self.options.job_extra_directives.items():
            lines[name] = str(value).lower() if isinstance(value, bool) else str(value)
        return lines

    def _look_into_queue(self, jobs: Sequence[str]) -> None:
        """See `JobQueueWorkers`."""
        states = queue_states(jobs)
        if states is None:
            return
        if not states:
            raise ComputeError(
                "all HTCondor jobs have ended before their workers came; see what they printed "
                f"in {self.output}"
            )
        if all(state == HELD for state, _ in states.values()):
            reason = next(iter(states.values()))[1]
            raise ComputeError(f"all HTCondor jobs are held: {reason}")


def queue_states(jobs: Sequence[str]) -> Mapping[str, tuple[str, str]] | None:
    """Ask `condor_q` about jobs.

    Args:
        jobs: their ids, `cluster.process`.

    Returns:
        (JobStatus, HoldReason) of those that are in the queue; None: it cannot be asked.
    """
    if shutil.which("condor_q") is None:
        return None
    command = ["condor_q", *jobs, "-af:j", "JobStatus", "HoldReason"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.debug("condor_q: %s", describe(error))
        return None
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines() if line.strip()]
    return {line[0]: (line[1], line[2] if len(line) > 2 else "") for line in lines}
