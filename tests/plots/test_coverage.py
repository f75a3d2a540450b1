"""Coverage and rank figures: the bands are binomial, the counts are the data's."""

import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.inference.diagnostics.binomial import binomial_band
from mlpop.plots import coverage, ranks, ranks_cumulative, verdict_statistics
from mlpop.plots.coverage import rank_edges

BETA = np.linspace(0, 1, 12)
LABELS = ["B_initial_log10_mean", "a_late"]


def test_coverage_golden_B11_is_drawn_as_given() -> None:
    values = [0, 0.25, 0.5, 0.5, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75]
    axes = coverage(BETA, values, 4).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "measured")
    assert np.allclose(line.get_xydata(), np.stack([BETA, values], axis=1))
    assert axes.get_xlim() == axes.get_ylim() == (0, 1)
    assert "4 test samples" in axes.get_title()
    assert axes.get_xlabel() == r"Credibility level $1-\alpha$"
    assert axes.get_ylabel() == "Coverage probability"


def test_coverage_bands_are_the_binomial_ones() -> None:
    axes = coverage(BETA, BETA, 50).axes[0]
    wide, narrow = (band.get_paths()[0].vertices for band in axes.collections)
    for vertices, level in ((wide, 0.95), (narrow, 0.68)):
        at_half = vertices[np.isclose(vertices[:, 0], 0.5), 1]
        low, high = binomial_band([0.5], 50, level)
        assert (at_half.min(), at_half.max()) == pytest.approx((low[0], high[0]))


@pytest.mark.parametrize(("beta", "values", "n"), [(BETA, BETA[:3], 5), (BETA, BETA, 0)])
def test_wrong_coverage_is_refused(beta: np.ndarray, values: np.ndarray, n: int) -> None:
    with pytest.raises(DataError, match="at least one test sample"):
        coverage(beta, values, n)


@pytest.mark.parametrize(("samples", "num_draws"), [(300, 10_000), (1000, 100), (40, 1000)])
def test_rank_bins_hold_whole_ranks_evenly(samples: int, num_draws: int) -> None:
    edges = rank_edges(samples, num_draws)
    assert (edges[0], edges[-1]) == (-0.5, num_draws + 0.5)
    assert len(edges) - 1 == min(30, samples // 10)
    widths = np.diff(edges)
    assert widths.max() - widths.min() <= 1
    assert np.array_equal(edges, np.floor(edges) + 0.5)


def test_rank_histograms_count_every_rank_once() -> None:
    values = np.random.default_rng(1).integers(0, 1001, size=(300, 2))
    figure = ranks(values, LABELS, 1000)
    assert len(figure.axes) == 2
    for k, axes in enumerate(figure.axes):
        counts, edges, _ = axes.patches[-1].get_data()
        assert counts.sum() == 300
        assert np.array_equal(counts, np.histogram(values[:, k], bins=edges)[0])
    assert r"\mu_{\log B}" in figure.axes[0].get_xlabel()


def test_cumulative_ranks_of_a_flat_set_are_zero() -> None:
    values = np.repeat(np.arange(101)[:, None], 2, axis=1)
    for axes in ranks_cumulative(values, LABELS, 100).axes:
        deviation = axes.lines[-1].get_ydata()
        assert len(deviation) == 101
        assert np.allclose(deviation, 0, atol=1e-12)


def test_cumulative_ranks_of_a_biased_set_reach_their_distance() -> None:
    """All truths below all draws: the distribution is 1 from rank 0 on."""
    axes = ranks_cumulative(np.zeros((50, 1)), LABELS[:1], 99).axes[0]
    assert axes.lines[-1].get_ydata()[0] == pytest.approx(0.99)
    assert axes.lines[-1].get_ydata()[-1] == pytest.approx(0)


@pytest.mark.parametrize("draw", [ranks, ranks_cumulative])
def test_impossible_ranks_are_refused(draw) -> None:  # noqa: ANN001
    with pytest.raises(DataError, match="from 0 to 10, found 0 to 11"):
        draw(np.array([[0, 11]]), LABELS, 10)
    with pytest.raises(DataError, match=r"shape \(N, 2\), found \(3, 1\)"):
        draw(np.zeros((3, 1)), LABELS, 10)


def test_statistics_of_a_verdict_show_which_one_decides_and_what_chance_does() -> None:
    names, values = ["bias of a", "width of b_c", "tails"], [5.0, -3.5, 1.0]
    (axes,) = verdict_statistics(names, values, 3.3, "width of b_c").axes
    band, *bars = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-3.3, 3.3))
    assert [bar.get_width() for bar in bars] == values
    assert len({bar.get_facecolor()[:3] for bar in bars}) == 2
    assert bars[0].get_facecolor()[:3] == bars[2].get_facecolor()[:3]
    # within the band a bar is pale
    assert [bar.get_alpha() == 1 for bar in bars] == [True, True, False]
    assert [text.get_text() for text in axes.get_yticklabels()] == names
    # nothing decides if the largest is within the band
    (axes,) = verdict_statistics(names, [2.0, 1.0, 0.5], 3.3, names[0]).axes
    assert len({bar.get_facecolor()[:3] for bar in axes.patches[1:]}) == 1
    with pytest.raises(DataError, match=r"3 statistics need as many values, found \(2,\)"):
        verdict_statistics(names, values[:2], 3.3, "tails")
