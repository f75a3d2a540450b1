"""MLflow's pages show the columns that runs are compared by."""

import json
from pathlib import Path

import pytest

from mlpop.errors import TrackingError
from mlpop.tracking import connect, prepare_pages
from mlpop.tracking.pages.views import EXPERIMENT_KIND, MODEL_TRAINING, VIEW_TAG, VIEWS


@pytest.fixture
def place(at_work: Path) -> str:
    return connect().experiment_id("pages")


def test_experiment_gets_its_mode_and_its_tables(place: str) -> None:
    store = connect()
    prepare_pages(store, place)
    prepare_pages(store, place)
    tags = store.client.get_experiment(place).tags
    assert tags[EXPERIMENT_KIND] == MODEL_TRAINING
    state = json.loads(tags[f"{VIEW_TAG}rounds"])
    assert state["searchFilter"] == "tags.`mlpop.kind` = 'round'"
    assert "metrics.`val/best_loss`" in state["selectedColumns"]
    assert "params.`cfg.proposal`" in state["selectedColumns"]
    # MLflow's server takes the filter
    assert store.client.search_runs([place], state["searchFilter"]) == []


def test_store_that_refuses_does_not_end_a_launch(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect()

    def refuse(*_: object) -> None:
        raise TrackingError("read only")

    monkeypatch.setattr(store.client, "set_experiment_tag", refuse)
    prepare_pages(store, connect().experiment_id("others"))


@pytest.mark.parametrize("name", VIEWS)
def test_tables_fit_into_a_tag_of_an_experiment(name: str) -> None:
    assert len(json.dumps(VIEWS[name].state())) < 5000
