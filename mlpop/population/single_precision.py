"""Elementary functions in single precision, made so that loops over them become vector code.

They are exact to about 2e-7. Nothing is contracted or reordered: every machine gives the same
bits.

References:
    Moshier, Cephes Mathematical Library: expf.c, logf.c, sinf.c.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

f32 = np.float32
i32 = np.int32
Single = NDArray[np.float32]

LARGEST_EXPONENT = f32(87.0)
_LOG2E = f32(1.44269504088896341)
_ROUND = f32(12582912.0)
"""1.5 * 2^23: adding it rounds to an integer, which then stands in the last bits."""
_LN2_HIGH, _LN2_LOW = f32(0.693359375), f32(-2.12194440e-4)
_SQRT2 = f32(1.41421356)
_MANTISSA, _ONE_BITS = i32(0x7FFFFF), i32(0x3F800000)


@njit(cache=True, inline="always")
def exponential(x: f32) -> f32:
    """Return e^x; `x` is taken to lie within +-87."""
    x = min(max(x, -LARGEST_EXPONENT), LARGEST_EXPONENT)
    rounded = x * _LOG2E + _ROUND
    power = f32(rounded).view(i32) << i32(23)
    n = rounded - _ROUND
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = f32(1.9875691500e-4) * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    p = p * r * r + r + f32(1.0)
    return i32(f32(p).view(i32) + power).view(f32)


@njit(cache=True, inline="always")
def logarithm(x: f32) -> f32:
    """Return ln x of a normal positive number; -88 of zero."""
    bits = f32(x).view(i32)
    exponent = f32((bits >> i32(23)) - i32(127))
    m = i32((bits & _MANTISSA) | _ONE_BITS).view(f32)
    large = m > _SQRT2
    m = m * f32(0.5) if large else m
    e = exponent + f32(1.0) if large else exponent
    y = m - f32(1.0)
    z = y * y
    p = f32(7.0376836292e-2) * y + f32(-1.1514610310e-1)
    p = p * y + f32(1.1676998740e-1)
    p = p * y + f32(-1.2420140846e-1)
    p = p * y + f32(1.4249322787e-1)
    p = p * y + f32(-1.6668057665e-1)
    p = p * y + f32(2.0000714765e-1)
    p = p * y + f32(-2.4999993993e-1)
    p = p * y + f32(3.3333331174e-1)
    p = p * y * z + e * _LN2_LOW - f32(0.5) * z
    return y + p + e * _LN2_HIGH


@njit(cache=True, inline="always")
def sine(x: f32) -> f32:
    """Return sin x for x within +-pi/4."""
    z = x * x
    p = f32(-1.9515295891e-4) * z + f32(8.3321608736e-3)
    p = p * z + f32(-1.6666654611e-1)
    return p * z * x + x


@njit(cache=True, inline="always")
def cosine(x: f32) -> f32:
    """Return cos x for x within +-pi/4."""
    z = x * x
    p = f32(2.443315711809948e-5) * z + f32(-1.388731625493765e-3)
    p = p * z + f32(4.166664568298827e-2)
    return p * z * z - f32(0.5) * z + f32(1.0)
