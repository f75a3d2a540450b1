"""YMW16: golden densities, and what each component must look like."""

import math

import numpy as np
import pytest

from mlpop.population.galaxy import electrons as ed
from mlpop.population.galaxy.dispersion import GUM_REACH


def longitude(x, y):
    """Galactic longitude [deg] at which the Sun sees (x, y) [pc]."""
    return math.degrees(math.atan2(x, ed.SUN_Y - y))


@pytest.mark.parametrize(
    ("point", "density"),
    [
        ((0.0, 8300.0, 0.0), 0.01068933),
        ((0.0, 0.0, 0.0), 5.41746581),
        ((50.0, 0.0, -7.0), 6.21350477),
        ((0.0, 5000.0, 0.0), 0.22726562),
    ],
)
def test_density_in_the_plane_G65(point, density):
    x, y, z = point
    assert ed.electron_density(x, y, z, longitude(x, y)) == pytest.approx(density, rel=1e-6)


@pytest.mark.parametrize(
    ("point", "density"),
    [
        ((3000.0, 4000.0, 100.0), 0.09693182),
        ((-6000.0, 2000.0, 0.0), 0.05822255),
        ((4000.0, 9000.0, 200.0), 0.05095245),
        ((10000.0, 10000.0, 500.0), 0.01723151),
        ((0.0, 12000.0, 0.0), 0.01146928),
    ],
)
def test_density_G66(point, density):
    x, y, z = point
    assert ed.electron_density(x, y, z, longitude(x, y)) == pytest.approx(density, rel=1e-6)


def test_no_electrons_outside_the_galaxy():
    assert ed.electron_density(0.0, 29_999.0, 0.0, 180.0) > 0.0
    assert ed.electron_density(0.0, 30_001.0, 0.0, 180.0) == 0.0
    assert ed.electron_density(0.0, 8300.0, 10_039.0, 0.0) == 0.0


def test_sech2():
    for x in (0.0, 0.3, -2.0, 15.0):
        assert ed.sech2(x) == pytest.approx(1.0 / math.cosh(x) ** 2, rel=1e-12)
    assert ed.sech2(1e4) == 0.0


@pytest.mark.parametrize("radius", np.linspace(2000.0, 5900.0, 14))
def test_arms_close_at_the_seam_of_azimuth(radius):
    """Inside 6 kpc; outside, the model's own Carina enhancement ends at the seam."""
    below = ed.arms_in_plane(radius, 2.0 * math.pi - 1e-9)
    assert ed.arms_in_plane(radius, 0.0) == pytest.approx(below, abs=1e-7)


@pytest.mark.parametrize(
    ("radius", "theta", "amplitude"),
    [
        (3350.0 * math.exp(2.0 * 0.202), 2.77, 0.135),
        (3707.0 * math.exp(2.0 * 0.173), 4.093, 0.129),
        (3670.0 * math.exp((2.0 * math.pi - 4.0) * 0.186), 1.76, 0.116),
    ],
)
def test_arms_reach_their_density_on_the_ridge(radius, theta, amplitude):
    factor = ed.sech2((radius - 4000.0) / 11_680.0)
    ridge = ed.arms_in_plane(radius, theta)
    assert ridge >= amplitude * factor * (1 - 1e-12)
    assert ed.arms_in_plane(radius + 150.0, theta) < ridge


def test_carina_is_enhanced_behind_109_degrees():
    theta = math.radians(120.0)
    radius = 3560.0 * math.exp((theta + 2.0 * math.pi - 3.81) * 0.183)
    assert radius > 6000.0
    expected = 0.103 * 3.4 * (1 - 0.626 * math.exp(-(((120.0 - 75.8) / 20) ** 2)))
    expected *= ed.sech2((radius - 4000.0) / 11_680.0)
    assert ed.arms_in_plane(radius, theta) == pytest.approx(expected, rel=0.02)


def test_the_warp_lifts_the_disc_at_positive_x():
    assert ed.warped_height(8000.0, 100.0, 8399.0) == 100.0
    assert ed.warped_height(10_000.0, 224.0, 10_000.0) == pytest.approx(0.0, abs=1e-9)
    at_warp = ed.electron_density(10_000.0, 0.0, 224.0, 90.0)
    assert at_warp > ed.electron_density(10_000.0, 0.0, -224.0, 90.0)


def test_gum_nebula_is_a_shell_of_two_semi_axes():
    assert ed.gum_nebula(ed.GUM_X + 125.8, ed.GUM_Y, ed.GUM_Z) == pytest.approx(1.84)
    assert ed.gum_nebula(ed.GUM_X, ed.GUM_Y, ed.GUM_Z + 1.4 * 125.8) == pytest.approx(1.84)
    assert ed.gum_nebula(ed.GUM_X, ed.GUM_Y, ed.GUM_Z) < 1e-20
    falls = ed.gum_nebula(ed.GUM_X + 125.8 + 15.1, ed.GUM_Y, ed.GUM_Z)
    assert falls == pytest.approx(1.84 * math.exp(-1.0), rel=1e-6)


def test_gum_nebula_ends_within_its_reach():
    rng = np.random.default_rng(1)
    direction = rng.normal(size=(2000, 3))
    direction /= np.linalg.norm(direction, axis=1)[:, None]
    centre = np.array([ed.GUM_X, ed.GUM_Y, ed.GUM_Z])
    for distance in (GUM_REACH, 350.0, 599.0):
        points = centre + distance * direction
        assert max(ed.gum_nebula(*point) for point in points) == 0.0
    inner = centre + 200.0 * direction
    assert max(ed.gum_nebula(*point) for point in inner) > 0.0


def test_loop_one_is_a_cap_along_its_axis():
    angle = math.radians(40.0)
    top = (ed.LOOP_X + 80.0 * math.cos(angle), ed.LOOP_Y, ed.LOOP_Z + 80.0 * math.sin(angle))
    assert ed.loop_one(*top) == pytest.approx(1.907)
    assert ed.loop_one(ed.LOOP_X, ed.LOOP_Y + 80.0, ed.LOOP_Z) < 1e-3
    assert ed.loop_one(ed.LOOP_X, ed.LOOP_Y, ed.LOOP_Z) == 0.0
    assert ed.loop_one(ed.LOOP_X + ed.LOOP_REACH + 1.0, ed.LOOP_Y, ed.LOOP_Z) == 0.0


def test_a_local_feature_replaces_the_smooth_galaxy():
    x, y, z = ed.GUM_X - 125.8, ed.GUM_Y, ed.GUM_Z
    assert ed.electron_density(x, y, z, longitude(x, y)) == ed.gum_nebula(x, y, z)


def test_inside_the_local_bubble_the_thick_disc_is_thinned():
    assert ed.bubble_radius(0.0, ed.SUN_Y, 0.0) < ed.BUBBLE_RADIUS
    assert ed.combine(0.0, ed.SUN_Y, 0.0, 90.0, 0.01, 0.003, 0.0) == pytest.approx(0.0078)
    far = (0.0, 4000.0, 0.0)
    assert ed.combine(*far, 90.0, 0.01, 0.003, 0.5) == pytest.approx(0.513)


def test_bubble_walls_stand_in_their_direction():
    for l_deg, peak in ((195.4, 1.094), (278.2, 2.33)):
        angle = math.radians(l_deg)
        distances = np.linspace(50.0, 250.0, 401)
        walls = []
        for d in distances:
            x, y = d * math.sin(angle), ed.SUN_Y - d * math.cos(angle)
            walls.append(ed.bubble_walls(x, y, 0.0, l_deg, ed.bubble_radius(x, y, 0.0)))
        assert max(walls) == pytest.approx(peak, rel=0.02)
    opposite = (-100.0, ed.SUN_Y - 60.0)
    u = ed.bubble_radius(*opposite, 0.0)
    assert ed.bubble_walls(*opposite, 0.0, 20.0, u) < 1e-3
