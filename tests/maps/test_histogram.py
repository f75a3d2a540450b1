"""Edges, bins, averages and smoothing: goldens 1-5 and the kernel of generator.md 9."""

import numpy as np
import pytest

from mlpop.maps.histogram import Axis, Grid, smooth

KERNEL = [0.3989434694, 0.2419714457, 0.0539911274, 0.0044318616, 0.0001338306]


def ppdot() -> Grid:
    return Grid(Axis(1e-3, 1e2, 32, log=True), Axis(1e-21, 1e-9, 32, log=True))


def sky() -> Grid:
    return Grid(Axis(0, 360, 32), Axis(-90, 90, 16))


def cell(grid: Grid, first: float, second: float) -> tuple[int, int] | None:
    number = int(grid.cells(np.array([first]), np.array([second]))[0])
    return None if number < 0 else divmod(number, grid.second.n)


def test_period_edges_golden_1() -> None:
    edges = Axis(1e-3, 1e2, 32, log=True).edges
    expected = [1e-3, 1.4330126e-3, 2.0535250e-3, 0.3162278, 100]
    np.testing.assert_allclose(edges[[0, 1, 2, 16, 32]], expected, rtol=2e-7)
    assert (edges[0], edges[-1]) == (1e-3, 1e2)


def test_period_derivative_edges_golden_2() -> None:
    edges = Axis(1e-21, 1e-9, 32, log=True).edges
    np.testing.assert_allclose(edges[[1, 16, 32]], [2.3713737e-21, 1e-15, 1e-9], rtol=1e-7)


def test_few_edges_golden_3() -> None:
    np.testing.assert_allclose(Axis(1e-3, 10, 4, log=True).edges, [1e-3, 1e-2, 0.1, 1, 10])
    np.testing.assert_allclose(Axis(0, 10, 5).edges, [0, 2, 4, 6, 8, 10])


@pytest.mark.parametrize("limits", [(0, 0.1), (1, -0.1)])
def test_log_axis_refuses_what_is_not_positive_golden_3(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        _ = Axis(*limits, 4, log=True).edges


def test_axis_refuses_falling_limits_and_no_bins() -> None:
    with pytest.raises(ValueError, match="must rise, got 2 and 1"):
        _ = Axis(2, 1, 4).edges
    with pytest.raises(ValueError, match="at least 1 bin, got 0"):
        _ = Axis(0, 1, 0).edges


@pytest.mark.parametrize(
    ("star", "expected"),
    [
        ((1, 1e-15), (19, 16)),
        ((0.0333924, 4.20972e-13), (9, 22)),
        ((0.5, 1e-14), (17, 18)),
        ((0.01, 1e-19), (6, 5)),
        ((100, 1e-9), (31, 31)),
        ((100.1, 1e-15), None),
    ],
)
def test_ppdot_bins_golden_4(star: tuple[float, float], expected: tuple[int, int] | None) -> None:
    assert cell(ppdot(), *star) == expected


@pytest.mark.parametrize(
    ("star", "expected"),
    [
        ((0, 0), (0, 8)),
        ((83.63, 22.01), (7, 9)),
        ((128.836, -45.176), (11, 3)),
        ((180, 0), (16, 8)),
        ((360, 90), (31, 15)),
        ((359.9, -90), (31, 0)),
    ],
)
def test_sky_bins_golden_5(star: tuple[float, float], expected: tuple[int, int]) -> None:
    assert cell(sky(), *star) == expected


def test_bins_agree_with_numpy_on_random_stars() -> None:
    rng = np.random.default_rng(1)
    p, pdot = 10 ** rng.uniform(-4, 3, 5000), 10 ** rng.uniform(-22, -8, 5000)
    grid = ppdot()
    expected, *_ = np.histogram2d(p, pdot, bins=[grid.first.edges, grid.second.edges])
    assert 0 < expected.sum() < 5000
    np.testing.assert_array_equal(grid.counts(grid.cells(p, pdot)), expected)


def test_stars_that_are_not_finite_have_no_cell() -> None:
    grid = sky()
    for star in [(np.nan, 0.0), (10.0, np.nan), (np.inf, 0.0), (10.0, -np.inf)]:
        assert cell(grid, *star) is None


def test_average_fills_empty_cells_and_skips_weights_that_are_not_finite() -> None:
    grid = Grid(Axis(0, 2, 2), Axis(0, 1, 1))
    cells = grid.cells(np.array([0.5, 0.5, 0.5, 5.0]), np.full(4, 0.5))
    means = grid.average(cells, np.array([1.0, 3.0, np.nan, 100.0]), -7.0)
    np.testing.assert_array_equal(means, [[2.0], [-7.0]])


def test_kernel_of_the_specification() -> None:
    impulse = np.zeros((1, 21, 21))
    impulse[0, 10, 10] = 1
    filtered = smooth(impulse, sigma=1.0)[0]
    profile = filtered[10, 10:16] / filtered[10, 10] * KERNEL[0]
    np.testing.assert_allclose(profile[:5], KERNEL, atol=5e-11)
    assert profile[5] == 0


def test_smoothing_keeps_the_total_and_the_order_of_the_stack() -> None:
    maps = np.random.default_rng(2).random((3, 9, 6))
    both = smooth(maps, sigma=1.0)
    np.testing.assert_allclose(both.sum(axis=(1, 2)), maps.sum(axis=(1, 2)), rtol=1e-13)
    for k in range(3):
        np.testing.assert_array_equal(both[k], smooth(maps[k : k + 1], sigma=1.0)[0])
    np.testing.assert_array_equal(smooth(maps, sigma=0), maps)
