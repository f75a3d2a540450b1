import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from mlpop.errors import TrackingError
from mlpop.experiment.output_tree import create_output_tree
from mlpop.experiment.point import trial

RESULT = {
    "trial": 1,
    "monitor": None,
    "distance": None,
    "losses": {},
    "converged": False,
    "failed": True,
    "best_epoch": 0,
    "epochs": 1,
    "stopped": "nan",
    "seconds": 1.0,
}


def test_a_store_that_fails_while_a_trial_is_taken_over_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def fetched(*_: Any) -> Iterator[Path]:
        path = tmp_path / "trial.json"
        path.write_text(json.dumps(RESULT))
        yield path

    def refuse(*_: Any) -> None:
        raise MlflowException("the bucket is gone")

    monkeypatch.setattr(trial, "fetched", fetched)
    monkeypatch.setattr(trial, "_broken", lambda *_: [])
    parent: Any = SimpleNamespace(
        store=SimpleNamespace(client=SimpleNamespace(list_artifacts=refuse))
    )
    earlier: Any = SimpleNamespace(run_id="a", state="complete")
    problem: Any = None
    with pytest.raises(TrackingError, match="the bucket is gone"):
        trial.run_trial(
            problem, 1, parent, create_output_tree(tmp_path, "points"), {}, earlier=earlier
        )
