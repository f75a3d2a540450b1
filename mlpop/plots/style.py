"""How every figure looks: colours, type, names of axes, panels, files."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlpop.io.files import write_atomically

SAMPLES = "#30638e"
MEDIAN = "#c1292e"
TRUTH = "#1b1b1e"
SECOND = "#e08e45"
MUTED = "#8d99a6"
BAND = "#b9c6d3"

COUNTS = "magma"
FLUXES = "viridis"

RC: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#3c4650",
    "axes.labelsize": 11,
    "axes.linewidth": 0.8,
    "axes.titlesize": 12,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,
    "savefig.facecolor": "white",
    "xtick.color": "#3c4650",
    "xtick.labelsize": 9,
    "ytick.color": "#3c4650",
    "ytick.labelsize": 9,
}

SYMBOLS: Mapping[str, str] = {
    "B_initial_log10_mean": r"$\mu_{\log B}$",
    "B_initial_log10_sigma": r"$\sigma_{\log B}$",
    "B_initial_log10_mean_comp1": r"$\mu_{\log B, 1}$",
    "B_initial_log10_sigma_comp1": r"$\sigma_{\log B, 1}$",
    "B_initial_log10_mean_comp2": r"$\mu_{\log B, 2}$",
    "B_initial_log10_sigma_comp2": r"$\sigma_{\log B, 2}$",
    "B_initial_log10_weight_comp1": r"$w_{\log B, 1}$",
    "B_initial_log10_rise_mean": r"$\mu_{\log B, \mathrm{rise}}$",
    "B_initial_log10_rise_sigma": r"$\sigma_{\log B, \mathrm{rise}}$",
    "B_initial_log10_decay_mean": r"$\mu_{\log B, \mathrm{decay}}$",
    "B_initial_log10_decay_sigma": r"$\sigma_{\log B, \mathrm{decay}}$",
    "B_initial_log10_slope": r"$s_{\log B}$",
    "B_initial_log10_min": r"$\log B_{\mathrm{min}}$",
    "B_initial_log10_max": r"$\log B_{\mathrm{max}}$",
    "B_millisec_mean": r"$\mu_{\log B, \mathrm{residual}}$",
    "B_millisec_sigma": r"$\sigma_{\log B, \mathrm{residual}}$",
    "P_initial_log10_mean": r"$\mu_{\log P}$",
    "P_initial_log10_sigma": r"$\sigma_{\log P}$",
    "P_initial_mean": r"$\mu_{P}$",
    "P_initial_sigma": r"$\sigma_{P}$",
    "P_initial_weibull_shape": r"$k_{P}$",
    "P_initial_weibull_scale": r"$\lambda_{P}$",
    "a_late": r"$a_{\mathrm{late}}$",
    "L_radio_log10_mean": r"$\mu_{\log L_0}$",
    "L_radio_log10_sigma": r"$\sigma_{\log L_0}$",
    "epsilon_L": r"$\epsilon_L$",
    "mean_spectral_index": r"$\mu_{\alpha}$",
    "std_spectral_index": r"$\sigma_{\alpha}$",
    "death_BP2_log10": r"$\log (B / P^2)_{\mathrm{death}}$",
    "death_Edot_log10_mean": r"$\mu_{\log \dot{E}, \mathrm{death}}$",
    "death_Edot_log10_sigma": r"$\sigma_{\log \dot{E}, \mathrm{death}}$",
    "h_c": r"$h_c$",
    "sigma_k": r"$\sigma_k$",
    "vk_c": r"$v_c$",
}
"""Label of theta -> how figures call it."""

DEX, LOG_GAUSS, LOG_ERG = "dex", r"$\log_{10}$ G", r"$\log_{10}$ erg/s"

UNITS: Mapping[str, str] = {
    "B_initial_log10_mean": LOG_GAUSS,
    "B_initial_log10_sigma": DEX,
    "B_initial_log10_mean_comp1": LOG_GAUSS,
    "B_initial_log10_sigma_comp1": DEX,
    "B_initial_log10_mean_comp2": LOG_GAUSS,
    "B_initial_log10_sigma_comp2": DEX,
    "B_initial_log10_rise_mean": LOG_GAUSS,
    "B_initial_log10_rise_sigma": DEX,
    "B_initial_log10_decay_mean": LOG_GAUSS,
    "B_initial_log10_decay_sigma": DEX,
    "B_initial_log10_min": LOG_GAUSS,
    "B_initial_log10_max": LOG_GAUSS,
    "B_millisec_mean": LOG_GAUSS,
    "B_millisec_sigma": DEX,
    "P_initial_log10_mean": r"$\log_{10}$ s",
    "P_initial_log10_sigma": DEX,
    "P_initial_mean": "s",
    "P_initial_sigma": "s",
    "P_initial_weibull_scale": "s",
    "L_radio_log10_mean": LOG_ERG,
    "L_radio_log10_sigma": DEX,
    "death_BP2_log10": r"$\log_{10}$ G s$^{-2}$",
    "death_Edot_log10_mean": LOG_ERG,
    "death_Edot_log10_sigma": DEX,
    "h_c": "kpc",
    "sigma_k": "km/s",
    "vk_c": "km/s",
}
"""Label of theta -> its unit; the others are pure numbers."""


def symbol(name: str) -> str:
    """Return the symbol of a label of theta; other names as plain text."""
    return SYMBOLS.get(name, name.replace("$", r"\$"))


def axis_label(name: str) -> str:
    """Return the symbol of a label of theta, with its unit; other names as plain text."""
    return f"{symbol(name)} [{UNITS[name]}]" if name in UNITS else symbol(name)


@contextmanager
def styled() -> Iterator[None]:
    """Draw in mlpop's style inside this block; matplotlib's own settings come back after it."""
    with mpl.rc_context(RC):
        yield


def write(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Write `figure` as PDF and PNG, the same bytes for the same figure.

    Args:
        path: with or without suffix; its folder is made.

    Returns:
        The paths of the PDF and of the PNG.
    """
    stem = path.with_suffix("") if path.suffix in (".pdf", ".png") else path
    pdf, png = (stem.with_name(stem.name + suffix) for suffix in (".pdf", ".png"))
    with styled():
        write_atomically(pdf, rendered(figure, format="pdf", metadata={"CreationDate": None}))
        write_atomically(
            png, rendered(figure, format="png", dpi=150, metadata={"Software": "mlpop"})
        )
    return pdf, png


def rendered(figure: Figure, **options: Any) -> bytes:
    """Return the file of a figure, made in memory: a full disk is then an error of the disk."""
    buffer = io.BytesIO()
    figure.savefig(buffer, **options)
    return buffer.getvalue()


def panels(
    count: int, columns: int, size: tuple[float, float], margin: tuple[float, float] = (0, 0)
) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` panels in rows, and the panels.

    Args:
        count: number of panels.
        columns: panels in a row.
        size: width and height of a panel [inch].
        margin: added to the width and the height of all [inch].
    """
    rows = -(-count // columns)
    width, height = margin[0] + size[0] * columns, margin[1] + size[1] * rows
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for empty in grid[count:]:
        empty.remove()
    return figure, list(grid[:count])


def bare(axes: Axes) -> None:
    """Take away the upper and the right spine."""
    axes.spines[["top", "right"]].set_visible(False)
