"""Sky temperature: the analytic law, and maps in HEALPix."""

import dataclasses

import numpy as np
import pytest
from astropy.io import fits

from mlpop.errors import DataError
from mlpop.population.galaxy import sky
from mlpop.population.surveys.detection import receivers
from mlpop.population.surveys.survey import surveys


def sky_scale(frequency):
    """Sky temperature at `frequency` [MHz] over that at 408 MHz, as surveys use it."""
    survey = dataclasses.replace(surveys()["PMPS"], f_central=frequency)
    return receivers([survey]).sky_scale[0]


def pixel_centres(nside):
    """Return l and b [deg] of every RING pixel, from the published ring formulae."""
    longitude, latitude = [], []
    for ring in range(1, 4 * nside):
        from_pole = min(ring, 4 * nside - ring)
        if from_pole < nside:
            length, shift = 4 * from_pole, 0.5
            z = 1.0 - from_pole**2 / (3.0 * nside**2)
            z = z if ring < 2 * nside else -z
        else:
            length, shift = 4 * nside, 0.5 * ((ring - nside + 1) % 2)
            z = 4.0 / 3.0 - 2.0 * ring / (3.0 * nside)
        longitude.extend((np.arange(length) + shift) * 360.0 / length)
        latitude.extend([np.degrees(np.arcsin(z))] * length)
    return np.array(longitude), np.array(latitude)


def write_map(path, values, *, per_row=1, unit="K", **header):
    data = np.asarray(values, dtype=np.float32)
    shape = f"{per_row}E" if per_row > 1 else "E"
    column = fits.Column(
        name="TEMPERATURE", format=shape, unit=unit, array=data.reshape(-1, per_row).squeeze()
    )
    table = fits.BinTableHDU.from_columns([column])
    nside = int(np.sqrt(data.size / 12))
    table.header.update({"NSIDE": nside, "ORDERING": "RING", "COORDSYS": "G", **header})
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


def test_narayan87_G75():
    t_408 = sky.t_sky_408([0.0, 30.0, -60.0, 90.0], [0.0, 0.0, 2.0, 20.0])
    expected = [12.7665095, 8.8129170, 3.7282338, 1.1099278]
    np.testing.assert_allclose(t_408 * sky_scale(1374.0), expected, rtol=1e-6)


def test_narayan87_G76():
    t_408 = sky.t_sky_408([-90.0, 0.0], [0.0, 20.0])
    np.testing.assert_allclose(t_408 * sky_scale(1400.0), [3.00651602, 1.25853108], rtol=1e-6)


def test_longitude_may_be_in_any_turn():
    turned = sky.t_sky_408([350.0, 180.0], [1.0, 1.0])
    np.testing.assert_allclose(turned, sky.t_sky_408([-10.0, -180.0], [1.0, 1.0]), rtol=1e-12)


@pytest.mark.parametrize(("nside", "pixel"), [(1, 4), (2, 12), (4, 72), (8, 336), (16, 1440)])
def test_the_pixel_at_the_galactic_centre(nside, pixel):
    """The values of healpy's documentation for theta = pi/2, phi = 0.

    That point is a corner of pixels, and cos(pi/2) is 6e-17: just north of it.
    """
    assert sky.ang2pix_ring(nside, [0.0], [1e-12])[0] == pixel


def test_pixels_of_healpy_documentation():
    """ang2pix(16, [pi/2, pi/4, pi/2, 0, pi], [0, pi/4, pi/2, 0, 0])."""
    pixels = sky.ang2pix_ring(16, [0.0, 45.0, 90.0, 0.0, 0.0], [1e-12, 45.0, 0.0, 90.0, -90.0])
    assert pixels.tolist() == [1440, 427, 1520, 0, 3068]


@pytest.mark.parametrize("nside", [1, 2, 3, 4, 5, 8, 16])
def test_every_centre_lies_in_its_pixel(nside):
    longitude, latitude = pixel_centres(nside)
    pixels = sky.ang2pix_ring(nside, longitude, latitude)
    np.testing.assert_array_equal(pixels, np.arange(12 * nside**2))
    np.testing.assert_array_equal(
        sky.ang2pix_ring(nside, longitude - 360.0, latitude), np.arange(12 * nside**2)
    )


@pytest.mark.parametrize("nside", [1, 3, 8])
def test_pixels_have_equal_areas(nside):
    rng = np.random.default_rng(2)
    longitude = rng.uniform(-180.0, 180.0, 400_000)
    latitude = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, 400_000)))
    counts = np.bincount(sky.ang2pix_ring(nside, longitude, latitude), minlength=12 * nside**2)
    assert counts.size == 12 * nside**2
    expected = 400_000 / counts.size
    chi2 = ((counts - expected) ** 2 / expected).sum() / (counts.size - 1)
    assert 0.1 < chi2 < 2.0


@pytest.mark.parametrize("per_row", [1, 1024])
def test_a_map_gives_the_temperature_of_the_nearest_pixel(tmp_path, per_row):
    nside = 32
    longitude, latitude = pixel_centres(nside)
    field = 50.0 + 20.0 * np.cos(np.radians(longitude)) * np.cos(np.radians(latitude))
    path = write_map(tmp_path / "map.fits", field, per_row=per_row)
    np.testing.assert_array_equal(
        sky.t_sky_408(longitude, latitude, "healpix", path), field.astype(np.float32)
    )
    rng = np.random.default_rng(7)
    l_deg, b_deg = rng.uniform(-180, 180, 500), np.degrees(np.arcsin(rng.uniform(-1, 1, 500)))
    truth = 50.0 + 20.0 * np.cos(np.radians(l_deg)) * np.cos(np.radians(b_deg))
    # half a pixel diagonal is about 1.6 deg, times the steepest slope of 20 K a radian
    found = sky.t_sky_408(l_deg, b_deg, "healpix", path)
    assert np.abs(found - truth).max() < 20.0 * np.radians(2.2)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"ORDERING": "NESTED"}, "ORDERING must be RING, but is 'NESTED'"),
        ({"COORDSYS": "C"}, "COORDSYS must be Galactic"),
        ({"NSIDE": 8}, "needs 768 pixels, but there are 192"),
        ({"unit": "mK"}, "TUNIT1 must be K, but is 'mK'"),
    ],
)
def test_a_wrong_map_is_refused(tmp_path, header, message):
    path = write_map(tmp_path / "map.fits", np.full(192, 20.0), **header)
    with pytest.raises(DataError, match=message):
        sky.t_sky_408([0.0], [0.0], "healpix", path)


def test_a_map_with_blanks_is_refused(tmp_path):
    values = np.full(192, 20.0)
    values[17] = -1.6375e30
    path = write_map(tmp_path / "map.fits", values)
    with pytest.raises(DataError, match="pixel 17"):
        sky.t_sky_408([0.0], [0.0], "healpix", path)


def test_files_that_are_no_maps_are_refused(tmp_path):
    with pytest.raises(DataError, match="needs the path"):
        sky.t_sky_408([0.0], [0.0], "healpix")
    with pytest.raises(DataError, match="no such file"):
        sky.t_sky_408([0.0], [0.0], "healpix", tmp_path / "none.fits")
    (tmp_path / "text.fits").write_text("hello")
    with pytest.raises(DataError, match="not a FITS file"):
        sky.t_sky_408([0.0], [0.0], "healpix", tmp_path / "text.fits")
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "image.fits")
    with pytest.raises(DataError, match="no HEALPix table"):
        sky.t_sky_408([0.0], [0.0], "healpix", tmp_path / "image.fits")
