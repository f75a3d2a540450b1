"""What `mlpop infer` finds out before it starts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from mlpop.errors import TrackingError
from mlpop.experiment.infer import setup
from mlpop.tracking import connect, open_run, tree


def test_store_that_fails_while_a_recorded_test_set_is_looked_up(
    at_work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect()
    with (
        open_run("experiment", "recorded", store=store) as run,
        open_run("round", "round_00", run.run_id, {"mlpop.round": 0}, store=store),
    ):
        pass
    root = tree(store, run.run_id)
    trained: Any = SimpleNamespace(origin=lambda _: root)

    def fails(run_id: str) -> None:
        raise MlflowException("the database is gone")

    assert setup._recorded_test_set(trained, 0) is None
    monkeypatch.setattr(setup, "connect", lambda: store)
    monkeypatch.setattr(store.client, "get_run", fails)
    with pytest.raises(TrackingError, match="inputs of run .*: the database is gone"):
        setup._recorded_test_set(trained, 0)
