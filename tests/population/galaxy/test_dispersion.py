"""Dispersion measures: golden lines, and the fast integral against the reference."""

import math

import numba
import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.population.galaxy import electrons as ed
from mlpop.population.galaxy.dispersion import LINE_END, STEP, _direction, dispersion_measures


@numba.njit
def integral(l_deg: float, b_deg: float, d_kpc: float) -> float:
    """Integrate the whole model to one star by the midpoint rule [pc cm^-3]: the reference."""
    ax, ay, az = _direction(l_deg, b_deg)
    d = min(1e3 * d_kpc, LINE_END)
    h = STEP if d >= 1000.0 else d / 200
    total = 0.0
    for i in range(math.ceil(d / h - 1e-9)):
        width = min(h, d - i * h)
        t = i * h + 0.5 * width
        total += width * ed.electron_density(t * ax, ed.SUN_Y + t * ay, ed.SUN_Z + t * az, l_deg)
    return total


def stars(n, seed):
    """Draw lines to a plausible old Galaxy: most near the plane, a few far above it."""
    rng = np.random.default_rng(seed)
    r, phi = rng.gamma(4.0, 1.9, n), rng.uniform(0.0, 2.0 * np.pi, n)
    height = np.where(rng.random(n) < 0.4, 0.2, 1.5)
    z = rng.exponential(height) * rng.choice([-1.0, 1.0], n) - 0.02
    towards, along = 8.3 - r * np.sin(phi), r * np.cos(phi)
    d = np.sqrt(towards**2 + along**2 + z**2)
    keep = d < 25.0
    l_deg, b_deg = np.degrees(np.arctan2(along, towards)), np.degrees(np.arcsin(z / d))
    return l_deg[keep], b_deg[keep], d[keep]


def reference(l_deg, b_deg, d_kpc):
    return np.array([integral(*line) for line in zip(l_deg, b_deg, d_kpc, strict=True)])


@pytest.mark.parametrize(
    ("line", "dm", "tolerance"),
    [
        ((0, 0, 1.0), 38.46087, 1e-4),
        ((0, 0, 8.3), 1780.54419, 1e-4),
        ((30, 0, 5.0), 473.12512, 1e-4),
        ((-30, 2, 4.0), 200.43434, 1e-4),
        ((-60, 0, 10.0), 493.32993, 1e-4),
        ((90, 0, 3.0), 63.05893, 1e-4),
        ((180, 0, 3.0), 159.34416, 1e-4),
        ((264, -4, 0.6), 139.25977, 1e-4),
        ((264, -4, 0.3), 38.76586, 1e-4),
        ((10, 0.5, 15.0), 1144.50171, 1e-3),
        ((45, 10, 10.0), 114.06367, 1e-3),
        ((120, 40, 2.0), 21.62876, 1e-3),
        ((0, 90, 20.0), 19.55826, 1e-3),
        ((49, -29, 3.0), 31.76132, 1e-3),
        ((0, 0, 25.0), 3945.96607, 1e-3),
    ],
)
def test_dispersion_measure_G67_G68_G69_G70(line, dm, tolerance):
    assert integral(*line) == pytest.approx(dm, rel=tolerance)
    fast = dispersion_measures([line[0]], [line[1]], [line[2]])
    assert fast[0] == pytest.approx(dm, rel=max(tolerance, 5e-4))


def test_lines_end_at_25_kpc_G70():
    ends = dispersion_measures([0.0, 0.0], [0.0, 0.0], [25.0, 34.0])
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("l_deg", "b_deg", "dm", "d"),
    [
        (0, 0, 500.0, 4.15549),
        (30, 0, 300.0, 4.33916),
        (-60, 2, 200.0, 2.63838),
        (120, 40, 15.0, 1.19791),
        (180, 0, 50.0, 1.20631),
    ],
)
def test_dispersion_measure_at_known_distances_G71(l_deg, b_deg, dm, d):
    assert dispersion_measures([l_deg], [b_deg], [d])[0] == pytest.approx(dm, rel=1e-3)


def test_fast_agrees_with_the_reference_over_the_galaxy():
    l_deg, b_deg, d = stars(1000, seed=3)
    assert d.size > 900
    exact = reference(l_deg, b_deg, d)
    error = np.abs(dispersion_measures(l_deg, b_deg, d) / exact - 1.0)
    assert np.median(error) < 2e-4
    assert np.quantile(error, 0.99) < 3e-3
    assert error.max() < 2e-2


def test_fast_agrees_with_the_reference_near_the_sun():
    rng = np.random.default_rng(4)
    l_deg, d = rng.uniform(-180.0, 180.0, 600), rng.uniform(0.01, 1.5, 600)
    b_deg = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, 600)))
    error = np.abs(dispersion_measures(l_deg, b_deg, d) / reference(l_deg, b_deg, d) - 1.0)
    assert np.median(error) < 1e-4
    assert error.max() < 5e-3


@pytest.mark.parametrize(
    ("centre", "spread"), [((264.0, -4.0), 25.0), ((0.0, 0.0), 4.0), ((180.0, 70.0), 15.0)]
)
def test_fast_agrees_with_the_reference_through_dense_features(centre, spread):
    """The Gum nebula, the Galactic centre, the axis of the Local Bubble."""
    rng = np.random.default_rng(5)
    l_deg = centre[0] + rng.uniform(-spread, spread, 200)
    b_deg = centre[1] + rng.uniform(-spread, spread, 200)
    d = rng.uniform(0.3, 12.0, 200)
    error = np.abs(dispersion_measures(l_deg, b_deg, d) / reference(l_deg, b_deg, d) - 1.0)
    assert error.max() < 5e-3


def test_dispersion_grows_with_distance():
    d = np.linspace(0.0, 26.0, 600)
    for l_deg, b_deg in ((12.0, 0.3), (-96.0, -4.0), (195.0, 3.0), (181.0, 70.0)):
        dm = dispersion_measures(np.full_like(d, l_deg), np.full_like(d, b_deg), d)
        assert dm[0] == 0.0
        # longer strides on one line than on the next may cost the last digits
        assert (np.diff(dm) > -2e-3 * dm.max()).all()
        assert dm[-1] > 0.99 * dm.max()


def test_each_line_is_independent_of_the_others_and_of_threads():
    l_deg, b_deg, d = stars(400, seed=6)
    together = dispersion_measures(l_deg, b_deg, d)
    order = np.random.default_rng(0).permutation(d.size)
    np.testing.assert_array_equal(
        dispersion_measures(l_deg[order], b_deg[order], d[order]), together[order]
    )
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(dispersion_measures(l_deg, b_deg, d), together)
    finally:
        numba.set_num_threads(threads)


def test_longitude_may_be_in_any_turn():
    turns = dispersion_measures([310.0, -50.0, 670.0], [2.0] * 3, [6.0] * 3)
    assert turns[0] == turns[1] == turns[2]


def test_no_star_no_answer():
    assert dispersion_measures([], [], []).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0, 1.0], [0.0], [1.0, 1.0]), "one length"),
        (([0.0, np.nan], [0.0, 0.0], [1.0, 1.0]), r"l\[1\] is nan"),
        (([0.0], [0.0], [-1.0]), r"d\[0\] is -1.0"),
    ],
)
def test_bad_lines_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        dispersion_measures(*arguments)
