"""The corner plot of a proposal: panels of the prior, and the prior's own level in them."""

import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.plots.corner import BINS
from mlpop.plots.proposal import proposal_corner
from mlpop.plots.style import SECOND, write

LOW, HIGH = np.array([12.0, -1.5, 0.0]), np.array([14.0, -0.3, 3.0])
LABELS = ["B_initial_log10_mean", "P_initial_log10_mean", "c"]


def uniform_in_part(part: float, count: int = 6400) -> np.ndarray:
    return LOW + (HIGH - LOW) * part * np.random.default_rng(1).random((count, 3))


def test_panels_span_the_prior_and_marginals_show_its_level_S21(tmp_path) -> None:
    figure = proposal_corner(uniform_in_part(0.25), LABELS, LOW, HIGH, title="round 1")
    for axis in range(3):
        panel = figure.axes[axis * 4]
        assert panel.get_xlim() == pytest.approx((LOW[axis], HIGH[axis]))
        level = [line for line in panel.lines if line.get_color() == SECOND]
        assert len(level) == 1
        assert level[0].get_ydata()[0] == 6400 / BINS
        tops = max(patch.get_data().values.max() for patch in panel.patches)
        # a quarter of the prior: four times its density
        assert tops == pytest.approx(4 * 6400 / BINS, rel=0.25)
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert names == ["median", "95 % interval", "prior"]
    pdf, png = write(figure, tmp_path / "corner_plot_prior_round_1.pdf")
    assert min(pdf.stat().st_size, png.stat().st_size) > 5000


def test_truth_is_marked_and_one_label_is_enough() -> None:
    figure = proposal_corner(uniform_in_part(0.5), LABELS, LOW, HIGH, truth=[13.0, -1.0, 1.0])
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert names == ["median", "95 % interval", "truth", "prior"]
    alone = proposal_corner(uniform_in_part(0.5)[:, :1], LABELS[:1], LOW[:1], HIGH[:1])
    assert any(line.get_color() == SECOND for line in alone.axes[0].lines)


def test_draws_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="needs at least two draws"):
        proposal_corner(uniform_in_part(0.5)[:, :2], LABELS, LOW, HIGH)
