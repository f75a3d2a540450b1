import json
import math

import torch

from mlpop.training.checkpoint import TrainingState, load_state, save_state
from mlpop.training.events import EpochRecord


def refuse(name):
    raise AssertionError(f"{name} is not JSON")


def test_checkpoint_before_any_finite_loss_is_json_and_comes_back(tmp_path):
    """A density may be 0 at a validation row: the loss is infinite, and training goes on."""
    history = [EpochRecord(1, math.inf, 2.0, 0.1, 3.0), EpochRecord(2, 1.0, -math.inf, 0.1, 4.0)]
    weights = {"w": torch.ones(2)}
    scheduler = {"best": -math.inf, "mode_worse": math.inf, "mode": "min", "last_epoch": 2}
    state = TrainingState(
        2,
        0,
        math.inf,
        weights,
        {},
        {"state": {}, "param_groups": []},
        torch.get_rng_state(),
        scheduler=scheduler,
        history=history,
    )
    save_state(tmp_path, state, "same")
    text = (tmp_path / "checkpoint.json").read_text()
    json.loads(text, parse_constant=refuse)
    loaded = load_state(tmp_path, "same")
    assert (loaded.history, loaded.best_value) == (history, math.inf)
    assert loaded.scheduler == scheduler
