"""The documented `training_statistics[_<member>].json`: the curves of one training."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlpop.io.files import write_json
from mlpop.training.events import EpochRecord


def write_training_statistics(
    path: Path,
    epochs: Sequence[EpochRecord],
    round_index: int,
    *,
    first_step: int,
    summary_step: int,
) -> dict[str, dict[str, Any]]:
    """Write the curves of one training under the tags of sbi, old and new.

    `*_log_prob*` are the losses with their sign changed, for likelihood-ratio classifiers too.

    Args:
        epochs: the epochs of this round in order, at least one.
        first_step: epochs that earlier rounds trained the same network for; steps go on from it.
        summary_step: step of the two summary tags: round + 1, or 1 in every round if the proposal
            is a truncated prior.

    Returns:
        What is written: tag -> `step`, `value` and `wall_time` (lists of equal length) and
        `round`. Values that are not finite are None.

    Raises:
        DataError: the file cannot be written.
    """
    steps = [first_step + record.epoch - 1 for record in epochs]
    times = [record.wall_time for record in epochs]
    training = [record.train_loss for record in epochs]
    validation = [record.val_loss for record in epochs]
    best = min((value for value in validation if math.isfinite(value)), default=math.nan)

    def curve(
        values: Sequence[float], steps: list[int] = steps, times: list[float] = times
    ) -> dict[str, Any]:
        numbers = [value if math.isfinite(value) else None for value in values]
        steps, times = list(steps), list(times)
        return {"step": steps, "value": numbers, "wall_time": times, "round": round_index}

    def summary(value: float) -> dict[str, Any]:
        return curve([value], [summary_step], times[-1:])

    statistics = {
        "epochs_trained": summary(len(epochs)),
        "best_validation_log_prob": summary(-best),
        "validation_log_probs": curve([-value for value in validation]),
        "training_log_probs": curve([-value for value in training]),
        "epoch_durations_sec": curve([record.seconds for record in epochs]),
        "best_validation_loss": summary(best),
        "validation_loss": curve(validation),
        "training_loss": curve(training),
    }
    write_json(path, statistics)
    return statistics


def epochs_of(statistics: Mapping[str, Mapping[str, Any]]) -> tuple[EpochRecord, ...]:
    """Return the epochs that `training_statistics` was made of."""
    train, val, seconds = (
        [math.nan if value is None else float(value) for value in statistics[tag]["value"]]
        for tag in ("training_loss", "validation_loss", "epoch_durations_sec")
    )
    ends = [float(end) for end in statistics["training_loss"]["wall_time"]]
    numbers = range(1, len(ends) + 1)
    return tuple(map(EpochRecord, numbers, train, val, seconds, ends))
