"""Draw the rooms of mlpop from its imports, into docs/architecture.md.

    python docs/draw_architecture.py

An arrow goes from a room to one that it imports; it is left out where a longer way leads there.
"""

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mlpop"
PAGE = ROOT / "docs" / "architecture.md"
MARKS = "<!-- drawn by draw_architecture.py -->\n", "<!-- end of the drawing -->\n"

sys.path.insert(0, str(ROOT / "tests"))
from test_layers import LAYERS, LEAVES, imported, modules, part  # noqa: E402


def imports() -> dict[str, set[str]]:
    """Return room -> rooms that its modules import, at any place in them."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in modules():
        for _, name in imported(ast.parse(path.read_text("utf-8")), path):
            if name.startswith("mlpop."):
                found[part(path)].add(name.split(".")[1])
    rooms = set().union(*LAYERS)
    return {room: {there for there in found[room] & rooms if there != room} for room in rooms}


def reachable(room: str, graph: dict[str, set[str]]) -> set[str]:
    """Return the rooms that one or more arrows lead to."""
    return graph[room].union(*(reachable(there, graph) for there in graph[room]))


def arrows(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports that no longer way stands for."""
    found = []
    for room, direct in graph.items():
        behind = set().union(*(reachable(there, graph) for there in direct))
        found += [(room, there) for there in direct - behind]
    return sorted(found)


def about(folder: Path) -> str:
    """Return the first sentence of a package's docstring."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    return re.split(r"[.:;]\s|\.$", " ".join(text.split()), maxsplit=1)[0]


def folders(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/__init__.py"))


def drawing() -> str:
    """Return the picture, in the language mermaid that GitHub draws, and the list of rooms."""
    lines = ["```mermaid", "flowchart TB"]
    for layer in LAYERS:
        for room in sorted(layer):
            inner = ", ".join(path.name for path in folders(PACKAGE / room))
            lines.append(f'    {room}["<b>{room}</b>{f"<br/>{inner}" if inner else ""}"]')
    lines += [f"    {room} --> {there}" for room, there in arrows(imports())]
    lines += ["```", "", "| layer | room | what it is | rooms in it |", "|---|---|---|---|"]
    for depth, layer in enumerate((*LAYERS, LEAVES), 1):
        number = str(depth) if layer != LEAVES else "leaf"
        for folder in (PACKAGE / room for room in sorted(layer)):
            if folder.is_dir():
                inner = ", ".join(f"`{path.name}`" for path in folders(folder))
                lines.append(f"| {number} | `{folder.name}` | {about(folder)} | {inner} |")
    return "\n".join(lines) + "\n"


def with_drawing(page: str) -> str:
    """Return the page with the drawing of today between the marks."""
    start, end = MARKS
    before, _, rest = page.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}{drawing()}{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_drawing(PAGE.read_text("utf-8")), "utf-8")
