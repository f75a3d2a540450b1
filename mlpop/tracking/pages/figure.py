"""Figures as files: for people, and for MLflow's pages."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpop.io.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_DPI = 120


def save_figure(figure: "Figure", pdf: Path) -> tuple[Path, Path]:
    """Write a figure as the documented PDF and, for MLflow's pages, as PNG beside it.

    The same figure gives the same bytes: the PDF carries no date.

    Returns:
        The PDF and the PNG file.
    """
    png = pdf.with_suffix(".png")
    options: dict[str, dict[str, Any]] = {
        "pdf": {"metadata": {"CreationDate": None}},
        "png": {"dpi": FIGURE_DPI},
    }
    for path in (pdf, png):
        kind = path.suffix.removeprefix(".")
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, bbox_inches="tight", **options[kind])
        write_atomically(path, buffer.getvalue())
    return pdf, png
