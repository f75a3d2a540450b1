"""Ages, radii, heights and birth places against their analytic distributions."""

import numpy as np
import pytest
from scipy import integrate, stats

from mlpop.population.constants import TWO_PI
from mlpop.population.galaxy.birthmap import birth_density, sample_birth_place
from mlpop.population.galaxy.electrons import electron_density
from mlpop.population.stars.birth import (
    radial_cdf,
    sample_age,
    sample_height,
    sample_radius,
    surface_density,
)

N = 20_000
LEAST_P = 1e-3


def cdf_at(model, radii):
    r, cdf = radial_cdf(model, 20.0, 10_000)
    return np.interp(radii, r, cdf)


def test_radial_cdf_G19():
    expected = [0.09487750, 0.28101894, 0.63175563, 0.85333878]
    np.testing.assert_allclose(cdf_at("rmYK04", [3, 5, 8.5, 12]), expected, atol=1e-5)


def test_radial_median_and_mean_G20():
    r, cdf = radial_cdf("rmYK04", 20.0, 10_000)
    assert np.interp(0.5, cdf, r) == pytest.approx(7.0808523, abs=1e-4)
    mean = integrate.trapezoid(1.0 - cdf, r) + r[0]
    assert mean == pytest.approx(7.6783550, abs=1e-4)


def test_radial_cdf_G21():
    expected = [0.23941222, 0.46168906, 0.74664886, 0.89655776]
    np.testing.assert_allclose(cdf_at("rmVV21", [3, 5, 8.5, 12]), expected, atol=1e-5)
    r, cdf = radial_cdf("rmVV21", 20.0, 10_000)
    assert np.interp(0.5, cdf, r) == pytest.approx(5.3792578, abs=1e-4)


def test_radial_pdf_G22():
    assert TWO_PI * 5.0 * surface_density(5.0, "rmYK04") == pytest.approx(2497.991174, rel=1e-6)


def test_surface_density_refuses_negative_radius_and_unknown_model():
    with pytest.raises(ValueError, match="r must not be negative, but got -1 kpc"):
        surface_density([1.0, -1.0], "rmYK04")
    with pytest.raises(ValueError, match="radial_model must be .* but got 'rmX'"):
        surface_density(1.0, "rmX")


@pytest.mark.parametrize("model", ["rmYK04", "rmVV21"])
def test_radii_follow_the_density(model):
    rng = np.random.default_rng(2)
    limits = {"r_low": 1e-4, "r_high": 20.0}
    r = sample_radius(N, model=model, r_extent=20.0, resolution=10_000, rng=rng, **limits)
    total = integrate.quad(lambda x: x * float(surface_density(x, model)), 0, 20)[0]
    grid = np.linspace(0.0, 20.0, 4001)
    exact = integrate.cumulative_simpson(grid * surface_density(grid, model), x=grid, initial=0)
    assert stats.kstest(r, lambda x: np.interp(x, grid, exact / total)).pvalue > LEAST_P


def test_radii_stay_inside_each_stars_limits():
    rng = np.random.default_rng(3)
    local = np.arange(N) % 2 == 0
    r = sample_radius(
        N,
        model="rmYK04",
        r_extent=20.0,
        resolution=10_000,
        rng=rng,
        r_low=np.where(local, 8.17, 1e-4),
        r_high=np.where(local, 8.60, 20.0),
    )
    inside = r[local]
    assert inside.min() >= 8.17
    assert inside.max() <= 8.60
    # Over so short a range the density is nearly linear: the mean is close to the middle.
    assert inside.mean() == pytest.approx(8.385, abs=0.01)
    assert (r[~local] < 8.17).mean() == pytest.approx(float(cdf_at("rmYK04", 8.17)), abs=0.02)


def test_ages_are_uniform():
    age = sample_age(N, t_age_min=1.0, t_age_max=3e7, rng=np.random.default_rng(4))
    assert stats.kstest(age, stats.uniform(1.0, 3e7 - 1.0).cdf).pvalue > LEAST_P


@pytest.mark.parametrize(("h_c", "z_extent"), [(0.18, 5.0), (1.0, 0.5)])
def test_heights_are_truncated_exponential(h_c, z_extent):
    z = sample_height(N, h_c=h_c, z_extent=z_extent, rng=np.random.default_rng(5))
    height = np.abs(z)
    law = stats.truncexpon((z_extent - 1e-4) / h_c, loc=1e-4, scale=h_c)
    assert stats.kstest(height, law.cdf).pvalue > LEAST_P
    assert height.min() >= 1e-4
    assert height.max() <= z_extent
    assert stats.binomtest(int((z > 0).sum()), N).pvalue > LEAST_P


def test_birth_density_is_the_weighted_electron_density():
    density = birth_density(20.0)
    assert density.shape == (501, 501)
    assert density.max() == 1.0
    np.testing.assert_array_equal(density[:, 0], density[:, -1])
    np.testing.assert_array_equal(density[0], 0.0)

    def weight(i, j):
        r, phi = 40.0 * i, TWO_PI * j / 500
        x, y = r * np.cos(phi), r * np.sin(phi)
        return r * electron_density(x, y, 0.0, np.arctan2(x, 8300.0 - y))

    ratio = density[200, 125] / density[50, 300]
    assert ratio == pytest.approx(weight(200, 125) / weight(50, 300), rel=1e-12)


def test_birth_places_follow_the_bilinear_map():
    n = 200_000
    r, phi = sample_birth_place(n, r_extent=20.0, rng=np.random.default_rng(6))
    assert (r >= 0).all()
    assert (r <= 20.0).all()
    assert (phi >= 0).all()
    assert (phi <= TWO_PI).all()
    density = birth_density(20.0)
    by_r = np.trapezoid(density, axis=1)
    by_phi = np.trapezoid(density, axis=0)
    for sample, marginal, end in ((r, by_r, 20.0), (phi, by_phi, TWO_PI)):
        grid = np.linspace(0.0, end, 501)
        cdf = integrate.cumulative_trapezoid(marginal, grid, initial=0)
        # Between nodes the density is linear and its integral quadratic; 501 nodes are enough.
        assert stats.kstest(sample, lambda x, g=grid, c=cdf: np.interp(x, g, c / c[-1])).pvalue > (
            LEAST_P
        )


def test_birth_places_near_centre_and_sun():
    n = 400_000
    r, phi = sample_birth_place(n, r_extent=20.0, rng=np.random.default_rng(7))
    near_sun = np.hypot(r * np.cos(phi), r * np.sin(phi) - 8.3) < 0.5
    assert (r < 0.5).mean() == pytest.approx(0.0096, rel=0.1)
    # The specification quotes 0.0011, the model without a grid has 0.00072: the 15-pc shell of the
    # Gum nebula, 0.45 kpc away, falls between nodes 40 pc apart (benchmarks/published.py births).
    assert near_sun.mean() == pytest.approx(0.00084, abs=0.00015)
