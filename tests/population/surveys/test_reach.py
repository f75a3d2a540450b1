"""The reach is an upper bound of the signal-to-noise that observing gives."""

import math

import numpy as np
import pytest

from mlpop.population.pulsars.radio import bolometric_flux, spectral_density
from mlpop.population.surveys.detection import receivers, signal_to_noise
from mlpop.population.surveys.reach import NEVER, REFERENCE_INDEX, index_gains, ln_reach
from mlpop.population.surveys.survey import surveys


@pytest.mark.parametrize("version", ["current", "older"])
def test_no_signal_exceeds_its_bound(version):
    chosen = tuple(surveys(version).values())
    radio = receivers(chosen)
    rng = np.random.default_rng(2)
    n = 300
    coverage = rng.integers(0, 1 << len(chosen), n).astype(np.uint16)
    coverage[:5] = 0
    dist, dec = rng.uniform(0.05, 30.0, n), rng.uniform(-1.5, 1.5, n)
    sky = rng.uniform(25.0, 600.0, n)
    reach = ln_reach(radio, coverage, dist, dec, sky)
    assert (reach[:5] == NEVER).all()
    mean, std = -1.6, 0.5
    deviate = rng.normal(0.0, 1.0, n).clip(-3.0, 3.0)
    edges = np.linspace(-3.0, 3.0, 25)
    gain = index_gains(radio, mean, std, edges)[np.digitize(deviate, edges[1:-1])]
    closest = np.full(n, -np.inf)
    for i in range(n):
        luminosity, rho, duty = 1e28, 0.2, rng.uniform(1e-4, 0.999)
        flux = bolometric_flux(luminosity, rho, dist[i])
        ln_power = math.log(flux * dist[i] ** 2 * 3.08567758e21**2)
        bound = ln_power + reach[i] + gain[i] + 0.5 * math.log(duty * (1.0 - duty))
        for k in range(len(chosen)):
            if coverage[i] & radio.bit[k]:
                received = (
                    flux * duty * spectral_density(mean + std * deviate[i], radio.frequency[k])
                )
                recorded = duty * (1.0 + rng.exponential(0.1))
                offset2 = rng.uniform(0.0, 0.05)
                ratio = signal_to_noise(radio, k, received, recorded, offset2, sky[i], dec[i])
                if ratio > 0.0:
                    signal = math.log(ratio / radio.threshold[k])
                    assert signal < bound + 1e-5
                    closest[i] = max(closest[i], signal - bound)
    assert np.median(closest[np.isfinite(closest)]) > -1.5


def test_the_reference_index_gains_nothing():
    radio = receivers((surveys()["PMPS"], surveys()["HTRU_mid"]))
    assert index_gains(radio, REFERENCE_INDEX, 0.0, np.zeros(2)) == pytest.approx(0.0)
