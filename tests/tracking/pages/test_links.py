from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlpop.tracking import Store, compare_link, run_link, ui_command, where_to_look
from mlpop.tracking.pages.links import charts_link, runs_link, view_link


@pytest.fixture
def embedded(tmp_path: Path) -> Store:
    nothing: Any = None
    return Store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, nothing)


def test_links_go_past_the_overview_page(embedded: Store) -> None:
    base = "http://127.0.0.1:5000/#"
    mode = "workflowType=machine_learning"
    assert runs_link(embedded, "1") == f"{base}/experiments/1/runs?{mode}"
    assert charts_link(embedded, "1") == f"{base}/experiments/1/runs?{mode}&compareRunsMode=CHART"
    assert run_link(embedded, "1", "abc") == f"{base}/experiments/1/runs/abc?{mode}"
    assert view_link(embedded, "1", "rounds") == (
        f"{base}/experiments/1/runs?{mode}&viewStateShareKey=rounds"
    )
    assert compare_link(embedded, "1", ["a", "b"]) == (
        f"{base}/compare-runs?runs=%5B%22a%22%2C%22b%22%5D&experiments=%5B%221%22%5D&{mode}"
    )


def test_command_opens_the_store_that_was_used(embedded: Store, tmp_path: Path) -> None:
    assert ui_command(embedded, tmp_path) == "mlflow ui"
    assert ui_command(embedded, tmp_path / "deep") == f"cd {tmp_path} && mlflow ui"
    other = replace(embedded, uri="sqlite:////other/my%20runs.db")
    assert ui_command(other) == "mlflow ui --backend-store-uri sqlite:////other/my%20runs.db"
    database = replace(embedded, uri="postgresql://me:secret@host/runs")
    assert "secret" not in (ui_command(database) or "")


def test_server_shows_its_own_pages_without_the_password(embedded: Store) -> None:
    server = replace(embedded, uri="https://me:secret@host:8443/mlflow/")
    assert ui_command(server) is None
    assert (
        run_link(server, "1", "a")
        == "https://host:8443/mlflow/#/experiments/1/runs/a?workflowType=machine_learning"
    )
    others = {"experiments": [], "rounds": ["b", "c"], "members": ["d"], "trials": ["e"] * 31}
    text = where_to_look(server, "1", "a", others)
    assert "secret" not in text
    assert "mlflow ui" not in text
    lines = text.splitlines()
    assert lines[0] == "Run     a"
    # one run, or very many, are not compared
    assert [line.split()[0] for line in lines[1:]] == [
        "run",
        "table",
        "charts",
        "experiments",
        "rounds",
        "compare",
        "members",
        "trials",
    ]
    assert lines[6].endswith(compare_link(server, "1", ["b", "c"]))
