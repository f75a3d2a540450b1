"""Draw the picture of the README: a posterior, and the runs that it came from.

python docs/draw_readme.py RUN_ID        # of an experiment in the store of this folder
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from mlpop.plots.style import MUTED, SAMPLES, TRUTH, styled
from mlpop.tracking import StatusRow, connect, status
from mlpop.tracking.description import clock

PICTURE = Path(__file__).parent / "images" / "readme.png"
HEIGHT = 640
"""Of the picture [pixel]."""


def runs(rows: Sequence[StatusRow]) -> Figure:
    """Draw the tree of runs as `mlpop status` tells it."""
    with styled():
        figure = Figure(figsize=(5.2, 6.0))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, 1), ylim=(-len(rows) - 3.5, 2.5))
        axes.text(0.02, 0.6, "runs in MLflow", fontsize=13, weight="bold", color=TRUTH)
        for column, text in ((0.55, "state"), (0.8, "took")):
            axes.text(column, -0.4, text, color=MUTED, fontsize=10)
        for number, row in enumerate(rows):
            y, node = -1.5 - number, row.node
            axes.text(0.02 + 0.06 * row.depth, y, node.name, fontsize=11, color=SAMPLES)
            axes.text(0.55, y, node.tags.get("mlpop.state", ""), fontsize=10, color=TRUTH)
            axes.text(0.8, y, clock(row.duration or 0), fontsize=10, color=TRUTH)
        verdict = rows[0].node.tags.get("mlpop.calibration", "")
        axes.text(0.02, -len(rows) - 2.4, f"verdict: {verdict}", fontsize=12, color=TRUTH)
    return figure


def image(figure: Figure) -> Image.Image:
    """Return a figure as a picture of the height wanted."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=HEIGHT / figure.get_figheight())
    return Image.open(buffer).convert("RGB")


def main() -> None:
    """Draw the picture of the run of the command line."""
    rows = status(sys.argv[1], store=connect())
    folder = Path(rows[0].node.tags["mlpop.save_dir"])
    last = max(row.node.round or 0 for row in rows)
    corner = Image.open(folder / f"round_{last}" / "corner_plot_observed_sample.png")
    corner = corner.convert("RGB").resize((corner.width * HEIGHT // corner.height, HEIGHT))
    parts = [corner, image(runs(rows))]
    whole = Image.new("RGB", (sum(part.width for part in parts), HEIGHT), "white")
    left = 0
    for part in parts:
        whole.paste(part, (left, 0))
        left += part.width
    PICTURE.parent.mkdir(exist_ok=True)
    whole.quantize(128).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
