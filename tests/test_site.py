"""The documentation site builds without a warning, and its reference is whole."""

import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import click
import pytest

import mlpop
from mlpop.cli.main import cli
from mlpop.config.files.schema import KINDS, schema_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def shown(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def names(schema: object) -> set[str]:
    """Return the names of all fields of a schema, at any depth."""
    if isinstance(schema, list):
        return {name for item in schema for name in names(item)}
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {}))
    return own | {name for value in schema.values() for name in names(value)}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_field_is_in_the_reference(site: Path, kind: str) -> None:
    text = (site / "reference" / "configuration.html").read_text().replace("<wbr>", "")
    cells = {unescape(cell) for cell in re.findall(r"<td><code>([^<]+)</code></td>", text)}
    found = {cell.rpartition(".")[2] for cell in cells}
    assert names(schema_of(kind)) <= found


def test_every_field_has_a_meaning(site: Path) -> None:
    text = (site / "reference" / "configuration.html").read_text().replace("<wbr>", "")
    rows = re.findall(r"<tr>\s*<td><code>([^<]+)</code></td>(.*?)</tr>", text, re.DOTALL)
    assert len(rows) > 300
    silent = [field for field, row in rows if not re.findall(r"<td>(.*?)</td>", row)[-1].strip()]
    assert silent == []


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    text = shown(site / "reference" / "commands.html")
    for name, command in cli.commands.items():
        if command.hidden:
            continue
        assert f"mlpop {name}" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(option in text for option in parameter.opts)


def test_what_import_mlpop_shows_is_in_the_reference(site: Path) -> None:
    text = (site / "reference" / "python.html").read_text()
    for name in set(mlpop.__all__) - {"__version__"}:
        assert f".{name}" in text


def test_search_finds_every_question_of_an_astronomer(site: Path) -> None:
    pages = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    found = {page["title"]: page["location"] for page in pages}
    page = (ROOT / "docs" / "how-do-i.md").read_text()
    asked = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert len(asked) >= 8
    assert all(found[title].startswith("how-do-i.html#") for title in asked)


@pytest.mark.parametrize(
    "notebook", sorted((ROOT / "tutorials").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_every_tutorial_is_a_page_with_its_pictures(site: Path, notebook: Path) -> None:
    page = site / "tutorials" / f"{notebook.stem}.html"
    pictures = re.findall(r"<img[^>]+src=\"([^\"]+\.png)\"", page.read_text())
    shipped = notebook.read_text().count('"image/png"')
    assert len(pictures) == shipped
    assert all((page.parent / picture).is_file() for picture in pictures)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    address = re.compile(r"<(?:script|link|img)[^>]+(?:src|href)=\"([^\"]+)\"")
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not [source for source in address.findall(text) if "://" in source], page
        # the theme draws these with a script of a server
        assert 'class="mermaid"' not in text, page
