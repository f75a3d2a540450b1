"""The documentation agrees with the code: schemas, configurations, fields, commands, links."""

import ast
import importlib
import json
import re
import shlex
import types
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click
import pytest
from pydantic import BaseModel, TypeAdapter

from mlpop.cli.main import cli
from mlpop.config.base import StrictModel, read_json
from mlpop.config.blocks.training import PulsarArgs
from mlpop.config.files.schema import KINDS, schema_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (
    ROOT / "README.md",
    *(ROOT / folder / "README.md" for folder in ("experiments", "tutorials")),
    *sorted(DOCS.glob("*.md")),
)
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.json"))
TABLED_KINDS = ("compare", "dynamics", "observe", "sbi", "simulate")
"""Kinds of configuration file whose every field stands in a table of docs/."""

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```\s*$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^### `([^`]+)`", re.MULTILINE)
MISSING = object()


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the fields of `change` in it, block by block."""
    result = dict(base)
    for key, value in change.items():
        below = result.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def json_blocks() -> Iterator[tuple[str, str, list[str], str]]:
    for page in PAGES:
        for number, (info, body) in enumerate(FENCE.findall(page.read_text())):
            words = info.split()
            if words[:1] == ["json"]:
                yield f"{page_name(page)}#{number}", page_name(page), words[1:], body


# --- schemas ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_schema_file_is_that_of_the_code(kind: str) -> None:
    path = DOCS / "schema" / f"{kind}.json"
    written = json.loads(path.read_text()) if path.is_file() else None
    assert written == schema_of(kind), (
        f"{page_name(path)} is not the schema of the code any more; write it again with: "
        f"mlpop schema {kind} > {page_name(path)}"
    )


def test_no_schema_file_without_a_kind() -> None:
    assert {path.stem for path in (DOCS / "schema").iterdir()} == set(KINDS)


# --- configurations -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "body"),
    [pytest.param(words, body, id=name) for name, _, words, body in json_blocks()],
)
def test_json_block_is_a_configuration(mark: list[str], body: str) -> None:
    """`json sbi` is a whole file, `json sbi part` changes experiments/main.json."""
    values = json.loads(body)
    assert mark, "mark the block: ```json <kind>, or ```json <kind> part, or ```json other"
    if mark == ["other"]:
        return
    kind = mark[0]
    assert kind in KINDS
    if mark[1:] == ["part"]:
        values = merged(read_json(ROOT / "experiments" / f"{base_of(kind)}.json"), values)
    else:
        assert mark[1:] == []
    KINDS[kind].parse(values, "block")


def base_of(kind: str) -> str:
    return "main" if kind == "sbi" else kind


def test_docs_show_configurations() -> None:
    kinds = [words[0] for _, _, words, _ in json_blocks() if words]
    assert {"sbi", "simulate", "observe"} <= set(kinds)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_experiment_parses_and_is_listed(path: Path) -> None:
    """The table of experiments/README.md says which command reads the file."""
    text = (ROOT / "experiments" / "README.md").read_text()
    found = re.search(rf"mlpop ([\w-]+) --configuration experiments/{path.name}`", text)
    row = re.search(
        rf"^\| (?:`[\w.]+`, )*`{re.escape(path.name)}`(?:, `[\w.]+`)* \| `mlpop ([\w-]+)",
        text,
        re.MULTILINE,
    )
    listed = found or row
    assert listed, f"experiments/README.md has no row of {path.name} with its command"
    kind = listed[1] if listed[1] in KINDS else listed[1].replace("-", "_")
    KINDS[kind].parse(read_json(path), page_name(path))


PYTHON = [
    pytest.param(body, id=f"{page_name(page)}#{number}")
    for page in PAGES
    for number, (info, body) in enumerate(FENCE.findall(page.read_text()))
    if info.split()[:1] == ["python"]
]


@pytest.mark.parametrize("body", PYTHON)
def test_python_block_imports_what_exists(body: str) -> None:
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlpop"):
            module = importlib.import_module(str(node.module))
            assert {alias.name for alias in node.names} <= set(dir(module))


# --- every field --------------------------------------------------------------------------------


def models(kind: type[StrictModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield path and model of a block and of all blocks in it."""
    yield path, kind
    hints = get_type_hints(kind, include_extras=True)
    for name in kind.model_fields:
        for below in models_of(hints[name]):
            yield from models(below, f"{path}.{name}")


def models_of(hint: Any) -> Iterator[type[StrictModel]]:
    if isinstance(hint, type) and issubclass(hint, StrictModel):
        yield hint
    elif get_origin(hint) is not Literal:
        for part in get_args(hint):
            if isinstance(part, type | types.GenericAlias | types.UnionType) or get_args(part):
                yield from models_of(part)


@cache
def blocks() -> Mapping[str, type[BaseModel]]:
    """Path -> model; the arguments of the pulsar simulator are a plain object in the schema."""
    found = dict(models(PulsarArgs, "sbi.simulator.args"))
    for kind in TABLED_KINDS:
        found |= dict(models(KINDS[kind], kind))
    return {path.removeprefix("sbi."): model for path, model in found.items()}


@cache
def tables() -> Mapping[str, Mapping[str, tuple[str, str]]]:
    """Path of a block -> field -> (default, page) of all tables below `### `path``."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for page in PAGES:
        text = page.read_text()
        starts = [(match.start(), match[1]) for match in HEADING.finditer(text)]
        for start, path in starts:
            rows = found.setdefault(path, {})
            section = text[start:].split("\n#", 1)[0]
            for line in section.splitlines():
                cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
                if len(cells) != 4 or not cells[0].startswith("`"):
                    continue
                for name in re.findall(r"`([^`]+)`", cells[0]):
                    assert name not in rows, f"{page_name(page)}: {path}.{name} is there twice"
                    rows[name] = cells[2], page_name(page)
    return found


def default_of(model: type[BaseModel], name: str) -> Any:
    field = model.model_fields[name]
    if field.is_required():
        return MISSING
    return field.get_default(call_default_factory=True)


def test_every_table_is_of_a_block() -> None:
    assert set(tables()) <= set(blocks())


@pytest.mark.parametrize("model", sorted({m.__name__ for m in blocks().values()}))
def test_every_field_is_in_a_table_with_its_default(model: str) -> None:
    paths = [path for path, found in blocks().items() if found.__name__ == model]
    (cls,) = {found for found in blocks().values() if found.__name__ == model}
    documented = [path for path in paths if path in tables()]
    assert len(documented) == 1, f"{model}: one heading of {paths} is wanted, found {documented}"
    rows = tables()[documented[0]]
    own = set(cls.model_fields) & set(vars(cls).get("__annotations__", {}))
    assert own <= set(rows), f"{documented[0]}: no row of {sorted(own - set(rows))}"
    assert set(rows) <= set(cls.model_fields), f"{documented[0]}: rows without a field"
    for name, (written, page) in rows.items():
        default = default_of(cls, name)
        place = f"{page}: {documented[0]}.{name}"
        written = written.strip("`")
        if written == "required":
            assert default is MISSING, place
        elif written == "block":
            assert isinstance(default, BaseModel), place
        elif written == "by model":
            assert default is None, place
        else:
            assert default is not MISSING, place
            plain = TypeAdapter(Any).dump_python(default, mode="json")
            assert json.loads(written) == plain, place


# --- commands and links -------------------------------------------------------------------------


def command_lines() -> Iterator[tuple[str, str]]:
    """Yield page and text of every `mlpop ...` in a span of code, a shell block or the README."""
    start = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*(?:python -m )?(mlpop [a-z].*)$")
    for page in PAGES:
        text = page.read_text()
        for info, body in FENCE.findall(text):
            if info.split()[:1] in (["sh"], ["console"]):
                for line in body.replace("\\\n", " ").splitlines():
                    if match := start.match(line.strip()):
                        yield page_name(page), match[1]
        outside = FENCE.sub("", text)
        spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", outside)
        indented = re.findall(r"^    (.+)$", outside, re.MULTILINE)
        for line in (*spans, *indented):
            if match := start.match(line.strip()):
                yield page_name(page), match[1]


def test_commands_are_named() -> None:
    assert {line.split()[1] for _, line in command_lines()} >= {"sbi", "observe", "status"}


@pytest.mark.parametrize(("page", "line"), sorted(set(command_lines())))
def test_command_and_its_options_exist(page: str, line: str) -> None:
    words = shlex.split(line.split("  #")[0].replace("…", ""), comments=True)
    name = words[1]
    assert name in cli.commands, f"{page}: there is no command `mlpop {name}`"
    options = {o for p in cli.commands[name].params for o in (*p.opts, *p.secondary_opts)}
    options |= {"-h", "--help"}
    for word in words[2:]:
        if word in ("|", ">", "&&", "2>&1", "2>"):
            break
        if word.startswith("-") and not re.fullmatch(r"-\d.*", word):
            option = word.split("=")[0]
            assert option in options, f"{page}: `mlpop {name}` has no option {option}"


def test_every_command_is_documented() -> None:
    assert isinstance(cli, click.Group)
    visible = {name for name, command in cli.commands.items() if not command.hidden}
    assert visible - {line.split()[1] for _, line in command_lines()} == set()


def links() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"[a-z]+:", target):
                yield page_name(page), target


@pytest.mark.parametrize(("page", "target"), sorted(set(links())))
def test_link_leads_to_a_file(page: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    assert file.exists(), f"{page}: {target} does not exist"
    if anchor:
        titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
        assert anchor in {slug(title) for title in titles}, f"{page}: {target} has no such heading"


def slug(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def test_every_page_is_linked_from_the_index() -> None:
    index = (DOCS / "index.md").read_text()
    pages = {path.name for path in DOCS.glob("*.md")} - {"index.md"}
    assert {name for name in pages if f"({name})" not in index} == set()


# --- names of the code --------------------------------------------------------------------------

PATH = re.compile(r"(?<![\w./-])(?:mlpop|tests|benchmarks|experiments|tutorials|docs)/[\w./-]*\w")
NAME = re.compile(r"(?<![\w./-])mlpop(?:\.[A-Za-z_]\w*)+")
YOURS = {"experiments/my.json"}
"""Files that the pages tell the reader to write."""


def found_on_pages(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    return sorted({(page_name(p), name) for p in PAGES for name in pattern.findall(p.read_text())})


@cache
def strings_of_the_code() -> str:
    """All source text of the package: tags of MLflow are strings in it."""
    texts = [path.read_text("utf-8") for path in (ROOT / "mlpop").rglob("*.py")]
    return "\n".join([*texts, (ROOT / "pyproject.toml").read_text("utf-8")])


def exists(name: str) -> bool:
    """Whether a dotted name is a module, something in one, or a tag or group of entry points."""
    if re.search(rf"""["']{re.escape(name)}["']""", strings_of_the_code()):
        return True
    place: Any = importlib.import_module("mlpop")
    for part in name.split(".")[1:]:
        if not hasattr(place, part):
            try:
                importlib.import_module(f"{place.__name__}.{part}")
            except (AttributeError, ImportError):
                return False
        place = getattr(place, part)
    return True


@pytest.mark.parametrize(("page", "path"), found_on_pages(PATH))
def test_path_on_a_page_exists(page: str, path: str) -> None:
    assert path in YOURS or (ROOT / path).exists(), f"{page}: there is no {path}"


@pytest.mark.parametrize(("page", "name"), found_on_pages(NAME))
def test_name_on_a_page_exists(page: str, name: str) -> None:
    assert exists(name), f"{page}: there is no {name}"


def test_names_that_do_not_exist_would_be_found() -> None:
    assert not exists("mlpop.nothing")
    assert not exists("mlpop.tracking.nothing")
    assert not exists("mlpop.errors.MlpopError.nothing")
    assert exists("mlpop.errors.MlpopError")
