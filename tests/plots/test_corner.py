"""The corner plot: contours hold their mass, titles their quantiles, marks their places."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from mlpop.errors import DataError
from mlpop.plots.corner import (
    BINS,
    MASSES,
    contour_levels,
    corner,
    density,
    interpolate,
    interval_text,
    intervals,
)
from mlpop.plots.style import SECOND

LABELS = ["B_initial_log10_mean", "P_initial_log10_mean"]
MEAN = np.array([13.1, -0.7])
BOUNDS = [(12.0, 14.0), (-1.5, -0.3)]


def draws(scale: float, count: int = 40_000) -> NDArray[np.float64]:
    """Correlated Gaussian draws inside BOUNDS."""
    rng = np.random.default_rng(3)
    covariance = scale**2 * np.array([[1.0, 0.5], [0.5, 0.6]])
    values = rng.multivariate_normal(MEAN, covariance, count)
    low, high = np.array(BOUNDS).T
    return values[((values > low) & (values < high)).all(axis=1)]


def test_masses_are_one_two_and_three_sigma_of_two_dimensions_B12() -> None:
    assert np.allclose(MASSES, [0.3934693, 0.8646647, 0.9888910], atol=1e-6)


@pytest.mark.parametrize("scale", [0.005, 0.05, 0.2, 0.5], ids="sigma={}".format)
def test_contours_enclose_their_mass_of_the_draws(scale: float) -> None:
    x, y = draws(scale).T
    grid = density(x, y, *BOUNDS)
    levels = contour_levels(x, y, grid)
    assert (np.diff(levels) > 0).all()
    heights = interpolate(x, y, grid)
    for level, mass in zip(levels, reversed(MASSES), strict=True):
        assert abs((heights > level).mean() - mass) < 0.01


@pytest.mark.parametrize("scale", [0.02, 0.2])
def test_contours_enclose_the_mass_of_the_distribution_itself(scale: float) -> None:
    """Against fresh draws, and against the exact ellipses of a Gaussian."""
    x, y = draws(scale).T
    grid = density(x, y, *BOUNDS)
    levels = contour_levels(x, y, grid)
    covariance = scale**2 * np.array([[1.0, 0.5], [0.5, 0.6]])
    fresh = np.random.default_rng(9).multivariate_normal(MEAN, covariance, 200_000)
    fresh = fresh[(np.abs(fresh - MEAN) < 6 * scale).all(axis=1)]
    inside = (fresh > np.array(BOUNDS)[:, 0]) & (fresh < np.array(BOUNDS)[:, 1])
    fresh = fresh[inside.all(axis=1)]
    heights = interpolate(*fresh.T, grid)
    offsets = fresh - MEAN
    radius = np.einsum("ni,ij,nj->n", offsets, np.linalg.inv(covariance), offsets)
    for level, mass in zip(levels, reversed(MASSES), strict=True):
        assert abs((heights > level).mean() - mass) < 0.01
    one_sigma = radius < 1
    assert ((heights > levels[-1]) == one_sigma).mean() > 0.95


def test_density_counts_every_draw_of_the_panel_once() -> None:
    x, y = draws(0.5).T
    nodes_x, nodes_y, counts = density(x, y, *BOUNDS)
    assert counts.shape == (BINS + 2, BINS + 2)
    assert counts[1:-1, 1:-1].sum() == pytest.approx(len(x), rel=2e-3)
    assert (nodes_x[0], nodes_x[-1]) == BOUNDS[0]
    assert (nodes_y[0], nodes_y[-1]) == BOUNDS[1]


def test_interpolation_is_exact_at_nodes_and_linear_between() -> None:
    nodes = np.array([0.0, 1.0, 3.0])
    counts = nodes[:, None] + 10 * nodes[None, :]
    x, y = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.0, 2.0])
    assert np.allclose(interpolate(x, y, (nodes, nodes, counts)), x + 10 * y)


def test_intervals_are_quantiles() -> None:
    samples = np.stack([np.arange(1001.0), 5 - np.arange(1001.0)], axis=1)
    assert np.allclose(intervals(samples), [[25, 500, 975], [-970, -495, -20]])


@pytest.mark.parametrize(
    ("quantiles", "text"),
    [
        ((13.02, 13.1, 13.18), "$13.100_{-0.080}^{+0.080}$"),
        ((-1.4, -1.0, -0.6), "$-1.00_{-0.40}^{+0.40}$"),
        ((20.0, 50.0, 90.0), "$50_{-30}^{+40}$"),
        ((1.0, 1.0, 1.0), "$1.00_{-0.00}^{+0.00}$"),
    ],
)
def test_interval_text_has_two_digits_of_the_narrower_side(
    quantiles: tuple[float, float, float], text: str
) -> None:
    assert interval_text(*quantiles) == text


def panel(figure: Figure, row: int, column: int, size: int = 2):  # noqa: ANN201
    return figure.axes[row * size + column]


def test_titles_hold_the_quantiles_of_each_label() -> None:
    samples = draws(0.1)
    figure = corner(samples, LABELS, bounds=BOUNDS)
    for k, symbol in enumerate([r"$\mu_{\log B}$", r"$\mu_{\log P}$"]):
        title = panel(figure, k, k).get_title()
        assert title.startswith(symbol)
        median, down, up = (float(v) for v in re.findall(r"[-+]?\d+\.\d+", title))
        low, middle, high = np.quantile(samples[:, k], [0.025, 0.5, 0.975])
        assert median == pytest.approx(middle, abs=5e-3)
        assert median + down == pytest.approx(low, abs=1e-2)
        assert median + up == pytest.approx(high, abs=1e-2)


def vertical_lines(axes) -> list[float]:  # noqa: ANN001
    return [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]


def test_median_interval_and_truth_are_marked_where_they_are() -> None:
    samples, truth = draws(0.1), np.array([13.2, -0.8])
    figure = corner(samples, LABELS, truth=truth, bounds=BOUNDS)
    for k in range(2):
        expected = [*intervals(samples)[k], truth[k]]
        assert sorted(vertical_lines(panel(figure, k, k))) == pytest.approx(sorted(expected))
    pair = panel(figure, 1, 0)
    marks = {line.get_marker(): line.get_xydata()[0] for line in pair.lines}
    assert np.allclose(marks["s"], np.median(samples, axis=0))
    assert np.allclose(marks["*"], truth)


@pytest.mark.parametrize("scale", [1e-3, 0.1])
def test_panels_span_the_prior_and_hold_32_bins_as_narrow_as_the_draws_B12(scale: float) -> None:
    samples = draws(scale)
    figure = corner(samples, LABELS, bounds=BOUNDS)
    for k in range(2):
        axes = panel(figure, k, k)
        assert axes.get_xlim() == BOUNDS[k]
        values, edges, _ = axes.patches[0].get_data()
        assert len(values) == 32
        assert BOUNDS[k][0] <= edges[0]
        assert edges[-1] <= BOUNDS[k][1]
        assert 1.0 <= (edges[-1] - edges[0]) / np.ptp(samples[:, k]) < 2.0
        assert values.sum() >= 0.999 * len(samples)
    assert panel(figure, 1, 0).get_ylim() == BOUNDS[1]
    assert not panel(figure, 0, 1).axison


def test_few_draws_are_drawn_as_points() -> None:
    figure = corner(np.array([[13.0, -0.7], [13.1, -0.7]]), LABELS, bounds=BOUNDS)
    markers = [line.get_marker() for line in panel(figure, 1, 0).lines]
    assert "." in markers
    figure.canvas.draw()


def test_draws_without_spread_can_be_drawn() -> None:
    figure = corner(np.full((10, 2), 13.0), LABELS)
    assert panel(figure, 0, 0).get_xlim() == (12.5, 13.5)
    figure.canvas.draw()


def test_one_label_is_one_panel() -> None:
    figure = corner(draws(0.1)[:, :1], LABELS[:1], truth=[13.1])
    assert len(figure.axes) == 1


@pytest.mark.parametrize(
    ("samples", "truth", "words"),
    [
        (np.zeros((5, 3)), None, r"shape \(S, 2\), found \(5, 3\)"),
        (np.zeros((1, 2)), None, "at least two draws"),
        (np.array([[1, 2], [np.nan, 3]]), None, "finite draws"),
        (np.zeros((5, 2)), [1.0], r"truth must have one entry a label \(2\), found 1"),
    ],
)
def test_wrong_shapes_are_refused(
    samples: NDArray[np.float64], truth: list[float] | None, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        corner(samples, LABELS, truth=truth)


LOW, HIGH = np.array([12.0, -1.5, 0.0]), np.array([14.0, -0.3, 3.0])
THETA = ["B_initial_log10_mean", "P_initial_log10_mean", "c"]
PRIOR = list(zip(LOW, HIGH, strict=True))


def uniform_in_part(part: float, count: int = 6400) -> np.ndarray:
    return LOW + (HIGH - LOW) * part * np.random.default_rng(1).random((count, 3))


def over_the_prior(draws: np.ndarray, **options) -> Figure:
    prior = [stats.uniform(low, high - low).cdf for low, high in PRIOR]
    return corner(draws, THETA, bounds=PRIOR, prior=prior, **options)


def prior_line(panel) -> tuple[np.ndarray, np.ndarray]:
    """Return the heights and edges of the orange line of a marginal."""
    (line,) = [patch for patch in panel.patches if patch.get_edgecolor() == to_rgba(SECOND)]
    return line.get_data().values, line.get_data().edges


def test_panels_span_the_prior_and_marginals_show_its_level_S21() -> None:
    figure = over_the_prior(uniform_in_part(0.25), title="round 1")
    for axis in range(3):
        panel = figure.axes[axis * 4]
        assert panel.get_xlim() == pytest.approx((LOW[axis], HIGH[axis]))
        level = prior_line(panel)[0]
        np.testing.assert_allclose(level, level[0])
        data = panel.patches[0].get_data()
        width = data.edges[1] - data.edges[0]
        assert level[0] == pytest.approx(6400 * width / (HIGH[axis] - LOW[axis]))
        # a quarter of the prior: four times its density
        assert data.values.max() == pytest.approx(4 * level[0], rel=0.25)
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert names == ["median", "95 % interval", "prior"]


def test_truth_is_marked_and_one_label_is_enough() -> None:
    figure = over_the_prior(uniform_in_part(0.5), truth=[13.0, -1.0, 1.0])
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert names == ["median", "95 % interval", "truth", "prior"]
    prior = [stats.uniform(LOW[0], HIGH[0] - LOW[0]).cdf]
    alone = corner(uniform_in_part(0.5)[:, :1], THETA[:1], bounds=PRIOR[:1], prior=prior)
    assert len(prior_line(alone.axes[0])[0]) == BINS


def test_prior_line_is_the_count_of_as_many_draws_of_the_prior() -> None:
    """Of a normal prior, whose panel ends where 0.1 % is left beyond, as figures show it."""
    normal = stats.norm(3.0, 0.2)
    values = normal.rvs(20_000, random_state=1)[:, None]
    low, high = normal.ppf([1e-3, 1 - 1e-3])
    panel = corner(values, ["a"], bounds=[(low, high)], prior=[normal.cdf]).axes[0]
    expected, edges = prior_line(panel)
    assert (edges[0], edges[-1]) == pytest.approx((low, high))
    drawn = panel.patches[0].get_data()
    level = (edges[1] - edges[0]) / (drawn.edges[1] - drawn.edges[0])
    assert level * expected.sum() == pytest.approx(20_000 * 0.998)
    counts, _ = np.histogram(values[:, 0], edges)
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3
