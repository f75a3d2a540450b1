"""The documented record of a training: `training_statistics.json`."""

from collections.abc import Sequence
from typing import Any

from mlpop.inference.checkpoint import EpochRecord


def training_statistics(
    history: Sequence[EpochRecord], *, best_loss: float, round_: int
) -> dict[str, dict[str, Any]]:
    """Return the curves of one training under sbi's names, old and new.

    The log probabilities of the old names are the negative losses of the new ones.

    Args:
        history: records of all epochs.
        best_loss: lowest validation loss.
        round_: the round, from 0; `step` of the two summary tags is `round_` + 1.

    Returns:
        `{tag: {"step": [..], "value": [..], "wall_time": [..], "round": ..}}`.
    """
    steps = [record.epoch for record in history]
    times = [record.wall_time for record in history]
    curves: dict[str, Sequence[float]] = {
        "training_loss": [record.train_loss for record in history],
        "validation_loss": [record.val_loss for record in history],
        "training_log_probs": [-record.train_loss for record in history],
        "validation_log_probs": [-record.val_loss for record in history],
        "epoch_durations_sec": [record.seconds for record in history],
    }
    summaries = {
        "epochs_trained": len(history),
        "best_validation_loss": best_loss,
        "best_validation_log_prob": -best_loss,
    }
    statistics: dict[str, dict[str, Any]] = {
        tag: {"step": steps, "value": list(values), "wall_time": times, "round": round_}
        for tag, values in curves.items()
    }
    statistics |= {
        tag: {"step": [round_ + 1], "value": [value], "wall_time": times[-1:], "round": round_}
        for tag, value in summaries.items()
    }
    return statistics
