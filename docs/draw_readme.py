"""Draw the picture of the README: a posterior, and the runs that it came from.

python docs/draw_readme.py output/models/NAME/STAMP        # of a complete experiment
"""

import io
import json
import sys
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

PICTURE = Path(__file__).parent / "images" / "readme.png"
HEIGHT = 640
"""Of the picture [pixel]."""
INK, BLUE, SOFT = "#1b1b1e", "#30638e", "#5c6873"


def runs(launch: Path) -> list[tuple[int, str, str]]:
    """Return depth, name and what came of every run of a launch, as MLflow nests them."""
    rows = [(0, launch.parent.name, "")]
    for round_ in sorted(launch.glob("round_*")):
        verdict = json.loads((round_ / "calibration.json").read_text())["verdict"]
        rows.append((1, f"round_{round_.name.removeprefix('round_'):0>2}", verdict))
        rows += [(2, member.name, "network") for member in sorted(round_.glob("member_*"))]
    return rows


def tree(rows: list[tuple[int, str, str]]) -> Figure:
    """Draw the runs below each other, nested ones to the right."""
    figure = Figure(figsize=(5.0, 6.0))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(-11.5, 2.5))
    axes.text(0.02, 0.8, "its runs in MLflow", fontsize=14, weight="bold", color=INK)
    for number, (depth, name, result) in enumerate(rows):
        axes.text(0.02 + 0.06 * depth, -0.6 - number, name, fontsize=12, color=BLUE)
        axes.text(0.52, -0.6 - number, result, fontsize=11, color=SOFT)
    return figure


def main() -> None:
    """Draw the picture of the launch of the command line."""
    launch = Path(sys.argv[1])
    last = max(launch.glob("round_*"), key=lambda path: int(path.name.removeprefix("round_")))
    corner = Image.open(last / "corner_plot_observed_sample.png").convert("RGB")
    corner = corner.resize((corner.width * HEIGHT // corner.height, HEIGHT), Image.LANCZOS)
    buffer = io.BytesIO()
    tree(runs(launch)).savefig(buffer, format="png", dpi=HEIGHT / 6.0)
    side = Image.open(buffer).convert("RGB")
    whole = Image.new("RGB", (corner.width + side.width, HEIGHT), "white")
    whole.paste(corner, (0, 0))
    whole.paste(side, (corner.width, 0))
    PICTURE.parent.mkdir(exist_ok=True)
    whole.quantize(128).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
