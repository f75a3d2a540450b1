"""The drawing of docs/architecture.md is that of the code."""

import runpy
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "draw_architecture.py"))


def test_drawing_is_that_of_the_imports(script: dict[str, Any]) -> None:
    page = (DOCS / "architecture.md").read_text("utf-8")
    assert page == script["with_drawing"](page), "run: python docs/draw_architecture.py"


def test_arrow_is_left_out_where_a_longer_way_leads(script: dict[str, Any]) -> None:
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert script["arrows"](graph) == [("a", "b"), ("b", "c")]


def test_page_without_marks_is_refused(script: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no marks"):
        script["with_drawing"]("# Architecture\n")
