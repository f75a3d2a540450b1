"""Execute tutorials and keep what they show: `python docs/run_tutorials.py tutorials/01*.ipynb`.

With --in FOLDER they work there (default: the folder of the notebook). Outputs are the only thing
that changes. Tests execute them with short settings by `executed`.
"""

import argparse
import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

SETTINGS = "parameters"
"""Tag of the cell whose values may be replaced; papermill knows it too."""


def executed(
    path: Path, folder: Path, settings: Mapping[str, Any] | None = None, seconds: int = 7200
) -> NotebookNode:
    """Return the notebook of `path` with the outputs of a fresh run in `folder`.

    Args:
        path: of the notebook.
        folder: working directory of its kernel.
        settings: name -> value, set behind the cell with the tag `parameters`.
        seconds: time for each cell [s].

    Raises:
        CellExecutionError: a cell raised an error; the message has its traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    injected = None
    if settings:
        (place,) = (n for n, cell in enumerate(notebook.cells) if is_settings(cell))
        lines = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
        injected = nbformat.v4.new_code_cell(lines)
        notebook.cells.insert(place + 1, injected)
    client = NotebookClient(
        notebook,
        timeout=seconds,
        resources={"metadata": {"path": str(folder)}},
        kernel_name="python3",
        coalesce_streams=True,
        record_timing=False,
    )
    client.execute()
    if injected is not None:
        notebook.cells.remove(injected)
    return notebook


def shrink(notebook: NotebookNode) -> None:
    """Give the pictures of a notebook 256 colours: a third of the bytes, and no other look."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                whole = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
                small = io.BytesIO()
                whole.convert("RGB").quantize(256).save(small, "png", optimize=True)
                output["data"]["image/png"] = base64.b64encode(small.getvalue()).decode() + "\n"


def is_settings(cell: NotebookNode) -> bool:
    """Whether a cell holds the settings of its notebook."""
    return SETTINGS in cell.metadata.get("tags", ())


def main() -> None:
    """Execute the notebooks of the command line in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--in", dest="folder", type=Path)
    asked = parser.parse_args()
    for path in asked.notebooks:
        folder = asked.folder or path.parent
        folder.mkdir(parents=True, exist_ok=True)
        notebook = executed(path, folder)
        shrink(notebook)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
