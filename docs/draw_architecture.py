"""Write the rooms of mlpop and their imports, read from the code, into docs/architecture.md.

    python docs/draw_architecture.py

An import is left out where a longer way leads there.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mlpop"
PAGE = ROOT / "docs" / "architecture.md"
START = "<!-- drawn by draw_architecture.py -->\n"
END = "<!-- end of the drawing -->\n"

sys.path.insert(0, str(ROOT / "tests"))
from test_layers import LAYERS, LEAVES, imported, modules, part  # noqa: E402

Graph = Mapping[str, set[str]]


def layers() -> list[list[str]]:
    """Return the rooms of each layer from the top; single modules are no rooms."""
    rooms = [sorted(name for name in layer if (PACKAGE / name).is_dir()) for layer in LAYERS]
    return [layer for layer in rooms if layer]


def imports() -> dict[str, set[str]]:
    """Return room -> rooms that its modules import, at any place in them."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in modules():
        for _, name in imported(ast.parse(path.read_text("utf-8")), path):
            if name.startswith("mlpop."):
                found[part(path)].add(name.split(".")[1])
    rooms = {room for layer in layers() for room in layer}
    return {room: found[room] & rooms - {room} for room in sorted(rooms)}


def reachable(room: str, graph: Graph) -> set[str]:
    """Return the rooms that one or more arrows lead to."""
    return graph[room].union(*(reachable(below, graph) for below in graph[room]))


def arrows(graph: Graph) -> list[tuple[str, str]]:
    """Return the imports that no longer way stands for."""
    found = []
    for room, direct in graph.items():
        behind = set().union(*(reachable(below, graph) for below in direct))
        found += [(room, below) for below in direct - behind]
    return sorted(found)


def about(room: str) -> str:
    """Return the first paragraph of a room's docstring."""
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8"))
    return " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())


def inner_rooms(room: str) -> list[str]:
    return sorted(path.parent.name for path in (PACKAGE / room).glob("*/__init__.py"))


def drawing() -> str:
    """Return the table of rooms, from the top layer to those that import nothing."""
    lines = ["| layer | room | what it is | rooms in it | imports |", "|---|---|---|---|---|"]
    below = arrows(imports())
    named = [(str(depth), layer) for depth, layer in enumerate(layers(), 1)]
    for depth, layer in (*named, ("leaf", sorted(LEAVES - {"errors"}))):
        for room in layer:
            inner, imported_ = (
                ", ".join(f"`{name}`" for name in names)
                for names in (inner_rooms(room), [end for start, end in below if start == room])
            )
            lines.append(f"| {depth} | `{room}` | {about(room)} | {inner} | {imported_} |")
    return "\n".join(lines) + "\n"


def with_drawing(page: str) -> str:
    """Return the page with the drawing of today between the marks.

    Raises:
        ValueError: the page has no marks.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{PAGE}: no marks {START.strip()} and {END.strip()}")
    return f"{before}{start}\n{drawing()}\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_drawing(PAGE.read_text("utf-8")), "utf-8")
