"""Pages of the documentation site that are made from the code, and links out of docs/.

A hook of mkdocs: `mkdocs build` writes the site into site/, `mkdocs serve` shows it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

import mlpop
from mlpop.cli.main import cli
from mlpop.config.files.schema import KINDS, schema_of

ROOT = Path(__file__).parents[1]
COPIED = {
    "start.md": ROOT / "README.md",
    "shipped-experiments.md": ROOT / "experiments" / "README.md",
    "changelog.md": ROOT / "CHANGELOG.md",
    "tutorials/index.md": ROOT / "tutorials" / "README.md",
}
"""Page of the site -> file elsewhere in the repository that it shows."""

NOTEBOOKS = {
    f"tutorials/{path.stem}.md": path for path in sorted((ROOT / "tutorials").glob("*.ipynb"))
}
"""Page of the site -> notebook that it shows, with the outputs that it ships with."""

SOURCES = COPIED | NOTEBOOKS

PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```\w+)[ \t].*$", re.MULTILINE)
FIRST_CELL = re.compile(r"(?<=<tr>\n<td><code>)[^<]+")
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    pages = {name: source.read_text() for name, source in COPIED.items()}
    pages["reference/commands.md"] = commands_page()
    pages["reference/configuration.md"] = configuration_page()
    pages["reference/python.md"] = python_page()
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for name, notebook in NOTEBOOKS.items():
        text, pictures = notebook_page(notebook)
        files.append(File.generated(config, name, content=text))
        for place, picture in pictures.items():
            files.append(File.generated(config, f"tutorials/{place}", content=picture))
    return files


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by their places beside the page."""
    folder = {"output_files_dir": f"{path.stem}_files", "unique_key": path.stem}
    text, resources = MarkdownExporter().from_filename(str(path), resources=folder)
    where = f"*This page is the notebook `tutorials/{path.name}` of the repository.*"
    # a table of pandas looks like any other
    text = text.replace('<table border="1" class="dataframe">', "<table>")
    # pictures are drawn wider than a page: each leads to itself
    text = PICTURE.sub(r"[\g<0>](\1)", text)
    title, _, rest = text.strip().partition("\n")
    return f"{title}\n\n{where}\n{rest}\n", resources["outputs"]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links between files of the repository to the pages that show them.

    Of a fence's words, which tell the tests what an example is, only the language is kept.
    """
    markdown = FENCE.sub(r"\1", markdown)
    uri = page.file.src_uri
    here = SOURCES.get(uri, ROOT / "docs" / uri).parent
    up = "../" * uri.count("/")
    return LINK.sub(lambda match: _link(match, here, up), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the names in the first column of a table break after their dots and underscores."""
    return FIRST_CELL.sub(lambda cell: re.sub(r"([._/])(?=\w)", r"\1<wbr>", cell[0]), html)


def _link(match: re.Match[str], here: Path, up: str) -> str:
    """Return a link as it is on the site; `up` leads from its page to the site's root."""
    text, target, anchor = match[1], match[2], match[3] or ""
    path = (here / target).resolve()
    if "://" in target or not path.is_relative_to(ROOT) or not path.exists():
        return match[0]
    shown = {source: name for name, source in SOURCES.items()}
    if path in shown:
        return f"[{text}]({up}{shown[path]}{anchor})"
    if path.is_relative_to(ROOT / "docs"):
        return f"[{text}]({up}{path.relative_to(ROOT / 'docs')}{anchor})"
    return f"{text} (`{path.relative_to(ROOT)}` of the repository)"


# --- commands -----------------------------------------------------------------------------------


def commands_page() -> str:
    """Return every command with its options, as `--help` tells them."""
    lines = ["# Commands", "", "Every command of `mlpop`, as its `--help` tells it."]
    lines += ["[Configuration](configuration.md) tells what the fields mean.", ""]
    for name, command in sorted(cli.commands.items()):
        if command.hidden:
            continue
        context = click.Context(command, info_name=f"mlpop {name}")
        lines += [f"## `mlpop {name}`", "", command.help or "", ""]
        lines += [
            "```",
            " ".join([f"mlpop {name}", *command.collect_usage_pieces(context)]),
            "```",
            "",
        ]
        rows = [parameter.get_help_record(context) for parameter in command.params]
        if shown := [row for row in rows if row is not None]:
            lines += ["| option | does |", "|---|---|"]
            lines += [f"| `{_cell(option)}` | {_cell(text)} |" for option, text in shown]
            lines.append("")
    return "\n".join(lines)


# --- configuration ------------------------------------------------------------------------------


def configuration_page() -> str:
    """Return every field of every kind of configuration file, with type, default and meaning."""
    lines = ["# Configuration fields", ""]
    lines += ["Made from the schemas that `mlpop schema KIND` prints.", ""]
    for kind in sorted(KINDS):
        schema = schema_of(kind)
        lines += [f"## {kind}", "", f"`mlpop schema {kind}`", ""]
        lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
        for path, field in fields(schema, schema):
            default = "required" if "default" not in field else _json(field["default"])
            whole = (block.get("description", "") for place, block in _blocks(field, schema))
            meaning = field.get("description") or next(whole, "").partition("\n\n")[0]
            lines.append(
                f"| `{path}` | {_cell(type_of(field, schema))} | {default} | {_cell(meaning)} |"
            )
        lines.append("")
    return "\n".join(lines)


def fields(
    block: Mapping[str, Any], schema: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield path and schema of every field, those of blocks after the block itself."""
    for name, field in block.get("properties", {}).items():
        path = f"{above}{name}"
        yield path, field
        below: dict[str, Mapping[str, Any]] = {}
        for place, part in _blocks(field, schema):
            below |= dict(fields(part, schema, f"{path}{place}."))
        yield from below.items()


def _blocks(
    field: Mapping[str, Any], schema: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the blocks that a field may hold, and where in it."""
    field = _resolved(field, schema)
    if "properties" in field:
        yield "", field
    for option in (*field.get("anyOf", ()), *field.get("oneOf", ())):
        yield from _blocks(option, schema)
    for inner, place in (("items", "[]"), ("additionalProperties", ".<name>")):
        if isinstance(field.get(inner), Mapping):
            yield from ((place + further, part) for further, part in _blocks(field[inner], schema))


def _resolved(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a reference to a definition of the schema stands for."""
    if "$ref" not in field:
        return field
    found: Mapping[str, Any] = schema["$defs"][field["$ref"].rsplit("/", 1)[-1]]
    return found


def type_of(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return the type of a field in words, with its limits."""
    field = _resolved(field, schema)
    if "properties" in field:
        return "block"
    if options := field.get("anyOf", field.get("oneOf")):
        return " or ".join(dict.fromkeys(type_of(option, schema) for option in options))
    if "const" in field:
        return _json(field["const"])
    if "enum" in field:
        return " or ".join(_json(value) for value in field["enum"])
    if field.get("type") == "array":
        items = field.get("prefixItems") or [field.get("items", {})]
        return "list of " + ", ".join(dict.fromkeys(type_of(item, schema) for item in items))
    limits = [
        f"{sign} {field[name]}"
        for name, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if name in field
    ]
    return f"{field.get('type', 'any')} {', '.join(limits)}".strip()


def _json(value: Any) -> str:
    text = json.dumps(value)
    return f"`{_cell(text if len(text) <= 80 else text[:77] + '...')}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# --- Python -------------------------------------------------------------------------------------


def python_page() -> str:
    """Return what `import mlpop` shows, from its docstrings."""
    lines = ["# Python", "", "What `import mlpop` shows.", ""]
    for name in sorted(set(mlpop.__all__) - {"__version__"}):
        lines += [f"::: {mlpop._HOMES.get(name, mlpop._DOOR)}.{name}", ""]
    return "\n".join(lines)
