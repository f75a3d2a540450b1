"""Which run `--resume` means: said, or refused, before anything slow is imported."""

from collections.abc import Callable
from typing import Any

from mlpop.experiment.resume.attempts import CONFIG_FILES, LAST, Config, resumable_run
from mlpop.tracking import connect_to_read, refuse_without_runs


def run_to_resume(
    kind: str,
    which: str,
    config: Config | None,
    parse: Callable[[dict[str, Any], str], Config],
    *,
    complete_too: bool = False,
) -> str:
    """Return the id of the run at the top that a launch goes on with.

    Args:
        kind: of the run: experiment, train_nn, study.
        which: a run id, or `last`.
        config: of this launch; None for the recorded one, which then must be readable.
        parse: makes a configuration of recorded values and of what messages call them.
        complete_too: whether a complete run that is named will do.

    Raises:
        TrackingError: there is none, it is complete, it is of another kind, or a living process
            works on it.
    """
    refuse_without_runs(f"--resume {which}")
    store, file = connect_to_read(), CONFIG_FILES[kind]
    complete_too &= which != LAST
    found = resumable_run(store, kind, which, file, config, parse, complete_too=complete_too)
    return found.run_id
