"""Sky coordinates: golden values, astropy, and identities."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import (
    ICRS,
    CartesianDifferential,
    CartesianRepresentation,
    Galactic,
    Galactocentric,
    galactocentric_frame_defaults,
)

from mlpop.population.constants import PM_KMS
from mlpop.population.galaxy.coordinates import to_cartesian, to_sky

GOLDEN = {
    "G15": (
        *((2, 5, 0.1, 150, -100, 30), (31.2201995, 1.3056518, 3.85956487)),
        *((280.9167367, -0.9275293), (-4.2286539, -5.6242570), 25.392889),
    ),
    "G16": (
        *((-4, 9, -0.5, 200, 20, -60), (-99.9090917, -7.3209131, 4.09395087)),
        *((120.7887435, -44.8588324), (-3.3321244, -0.5596436), 58.788295),
    ),
    "G17": (
        *((1, -3, 1, -120, -180, 100), (5.0583856, 5.0748586, 11.38638904)),
        *((264.5671311, -21.9700900), (-4.9802128, -5.1662093), 141.660501),
    ),
    "G18": (
        *((0, 0, 0, 0, 0, 0), (0.0000533, -0.0000820, 8.3)),
        *((266.4051000, -28.9361750), (-3.0828603, -5.4312849), -12.881216),
    ),
}


@pytest.mark.parametrize("golden", sorted(GOLDEN))
def test_sky_G15_to_G18(golden):
    start, (l, b, d), (ra, dec), (pm_ra, pm_dec), v_ls = GOLDEN[golden]  # noqa: E741
    sky = to_sky(*start)
    np.testing.assert_allclose((sky.l, sky.b, sky.ra, sky.dec), (l, b, ra, dec), atol=2e-4)
    np.testing.assert_allclose(sky.d, d, atol=1e-8)
    np.testing.assert_allclose((sky.pm_ra, sky.pm_dec), (pm_ra, pm_dec), atol=1e-4)
    np.testing.assert_allclose(sky.v_ls, v_ls, atol=1e-5)


def random_stars(n, seed=1):
    rng = np.random.default_rng(seed)
    return (
        *rng.normal(0.0, 8.0, (2, n)),
        rng.normal(0.0, 2.0, n),
        *rng.normal(0.0, 300.0, (3, n)),
    )


@pytest.mark.parametrize(("r_sun", "z_sun"), [(8.3, 0.02), (8.122, 0.0208), (8.5, 1.0)])
def test_agrees_with_astropy(r_sun, z_sun):
    x, y, z, v_x, v_y, v_z = random_stars(500)
    sky = to_sky(x, y, z, v_x, v_y, v_z, r_sun=r_sun, z_sun=z_sun)
    with galactocentric_frame_defaults.set("v4.0"):
        frame = Galactocentric(
            CartesianRepresentation(
                *(-y, x, z) * u.kpc,
                differentials=CartesianDifferential(*(-v_y, v_x, v_z) * u.km / u.s),
            ),
            galcen_distance=r_sun * u.kpc,
            z_sun=z_sun * u.kpc,
        )
        np.testing.assert_allclose(
            frame.galcen_v_sun.to_cartesian().xyz.to_value(u.km / u.s), (12.9, 245.6, 7.78)
        )
        galactic, icrs = frame.transform_to(Galactic()), frame.transform_to(ICRS())
    np.testing.assert_allclose(sky.d, icrs.distance.to_value(u.kpc), rtol=1e-9)

    def apart(got, expected, latitude):
        difference = (got - expected + 180.0) % 360.0 - 180.0
        return np.abs(difference * np.cos(np.deg2rad(latitude)))

    assert apart(sky.l, galactic.l.deg, sky.b).max() < 1.5e-4
    assert np.abs(sky.b - galactic.b.deg).max() < 1.5e-4
    assert apart(sky.ra, icrs.ra.deg, sky.dec).max() < 1.5e-4
    assert np.abs(sky.dec - icrs.dec.deg).max() < 1.5e-4
    unit = u.mas / u.yr
    near = 1.0 + 300.0 / (PM_KMS * sky.d)
    for got, expected in (
        (sky.pm_l, galactic.pm_l_cosb),
        (sky.pm_b, galactic.pm_b),
        (sky.pm_ra, icrs.pm_ra_cosdec),
        (sky.pm_dec, icrs.pm_dec),
    ):
        assert (np.abs(got - expected.to_value(unit)) / near).max() < 5e-5
    assert np.abs(sky.v_ls - icrs.radial_velocity.to_value(u.km / u.s)).max() < 2e-3


def test_velocity_splits_into_line_of_sight_and_sky():
    stars = random_stars(300)
    sky = to_sky(*stars)
    relative = np.stack([-stars[4] - 12.9, stars[3] - 245.6, stars[5] - 7.78])
    total = (relative**2).sum(axis=0)
    for one, two in ((sky.pm_l, sky.pm_b), (sky.pm_ra, sky.pm_dec)):
        across = PM_KMS * sky.d * np.hypot(one, two)
        np.testing.assert_allclose(across**2 + sky.v_ls**2, total, rtol=1e-9)


def test_directions_of_the_axes():
    # towards l = 90, towards the anticentre beyond the Sun, north of the Sun
    sky = to_sky([5.0, 0.0, 0.0], [8.3, 12.0, 8.3], [0.0, 0.0, 5.0], 0, 0, 0, z_sun=1e-9)
    np.testing.assert_allclose(sky.l[:2], [90.0, 180.0], atol=1e-6)
    np.testing.assert_allclose(sky.b, [0.0, 0.0, 90.0], atol=1e-6)


def test_longitudes_are_in_their_ranges():
    sky = to_sky(np.array([0.0, -0.0, -1e-300]), 12.0, 0.0, 0, 0, 0)
    assert (sky.l == 180.0).all()
    many = to_sky(*random_stars(5000))
    assert ((many.l > -180) & (many.l <= 180)).all()
    assert ((many.ra >= 0) & (many.ra < 360)).all()


def test_star_at_the_sun_has_no_nan():
    height = 0.02
    sky = to_sky(0.0, np.sqrt(8.3**2 - height**2), height, 1.0, 2.0, 3.0, z_sun=height)
    values = (sky.l, sky.b, sky.d, sky.ra, sky.dec, sky.pm_ra, sky.pm_dec, sky.v_ls)
    assert np.isfinite(values).all()
    assert sky.d < 1e-12


def test_to_cartesian():
    x, y, v_x, v_y = to_cartesian([2.0], [np.pi / 2], [3.0], [-5.0])
    np.testing.assert_allclose((x, y, v_x, v_y), [[0.0], [2.0], [5.0], [3.0]], atol=1e-14)
