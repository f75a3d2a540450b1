"""Elementary functions in single precision against those in double precision."""

import numpy as np
from numba import njit

from mlpop.population.single_precision import cosine, exponential, f32, logarithm, sine


@njit
def _every(x, y, angle, out):
    for i in range(x.size):
        out[0, i], out[1, i] = exponential(x[i]), logarithm(y[i])
        out[2, i], out[3, i] = sine(angle[i]), cosine(angle[i])


def test_functions_agree_with_double_precision():
    n = 100_001
    x = np.linspace(-86.9, 86.9, n).astype(f32)
    y = np.exp(np.linspace(-86.0, 86.0, n)).astype(f32)
    angle = np.linspace(-np.pi / 4, np.pi / 4, n).astype(f32)
    out = np.empty((4, n), f32)
    _every(x, y, angle, out)
    exact = [f(v.astype(float)) for f, v in ((np.exp, x), (np.log, y), (np.sin, angle))]
    np.testing.assert_allclose(out[0], exact[0], rtol=2e-7)
    np.testing.assert_allclose(out[1], exact[1], rtol=2e-7, atol=1e-7)
    np.testing.assert_allclose(out[2], exact[2], rtol=2e-7)
    np.testing.assert_allclose(out[3], np.cos(angle.astype(float)), rtol=2e-7)


def test_ends():
    out = np.empty((4, 3), f32)
    x = np.array([-1e9, 0.0, 1e9], f32)
    _every(x, np.array([0.0, 1.0, 1e38], f32), np.zeros(3, f32), out)
    assert 0.0 < out[0, 0] < 1e-37
    assert out[0, 1] == 1.0
    assert 1e37 < out[0, 2] < np.inf
    assert -90.0 < out[1, 0] < -87.0
    assert out[1, 1] == 0.0
