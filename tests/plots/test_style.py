"""Labels and files of figures."""

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image

from mlpop.config.blocks.population import DYNAMICS_SWEEPABLE, SWEEPABLE
from mlpop.plots import corner
from mlpop.plots.style import SYMBOLS, UNITS, axis_label, styled, symbol, write


def test_labels_of_the_published_parameters() -> None:
    assert axis_label("B_initial_log10_mean") == r"$\mu_{\log B}$ [$\log_{10}$ G]"
    assert axis_label("B_initial_log10_slope") == r"$s_{\log B}$"
    assert symbol("sigma_k") == r"$\sigma_k$"
    assert axis_label("sigma_k") == r"$\sigma_k$ [km/s]"
    assert axis_label("my_$parameter") == r"my_\$parameter"


PURE = {
    "B_initial_log10_slope",
    "B_initial_log10_weight_comp1",
    "P_initial_weibull_shape",
    "a_late",
    "epsilon_L",
    "mean_spectral_index",
    "std_spectral_index",
}


def test_every_label_has_a_symbol_and_its_unit() -> None:
    assert set(SYMBOLS) == {*SWEEPABLE, *DYNAMICS_SWEEPABLE}
    assert set(UNITS) == set(SYMBOLS) - PURE


def test_style_does_not_leak() -> None:
    before = mpl.rcParams["font.size"], mpl.rcParams["pdf.fonttype"]
    with styled():
        assert mpl.rcParams["pdf.fonttype"] == 42
    assert (mpl.rcParams["font.size"], mpl.rcParams["pdf.fonttype"]) == before


def test_write_makes_the_same_pdf_and_png_every_time(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(size=(500, 2))
    files = []
    for folder in ("a", "b"):
        figure = corner(samples, ["x", "y"])
        paths = write(figure, tmp_path / folder / "corner_plot_observed_sample.pdf")
        assert [p.name for p in paths] == [
            "corner_plot_observed_sample.pdf",
            "corner_plot_observed_sample.png",
        ]
        files.append([path.read_bytes() for path in paths])
    assert files[0] == files[1]
    assert files[0][0].startswith(b"%PDF")
    with Image.open(tmp_path / "a" / "corner_plot_observed_sample.png") as image:
        assert min(image.size) > 600
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20


def test_dots_in_a_name_are_kept(tmp_path: Path) -> None:
    pdf, png = write(corner(np.eye(2), ["x", "y"]), tmp_path / "v1.2")
    assert (pdf.name, png.name) == ("v1.2.pdf", "v1.2.png")


def test_figures_need_no_pyplot() -> None:
    code = "import sys, mlpop.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
