"""Free electrons of the Galaxy: the YMW16 density model.

The frame is that of the rest of `population`: x towards l = 90 deg, y from the Galactic centre
towards the Sun, z north; but lengths are in **parsec** and the model's own Sun stands at
(0, 8300, +6) pc, six parsec above the plane from which the Gum nebula and the Local Bubble are
measured. The equations carry no state from step to step, unlike the published program, which
switches components off for the rest of a line once the line has left them; the dispersion
measures differ from it by at most 0.5 %.

References:
    Yao, Manchester & Wang 2017, ApJ 835, 29 (YMW16): sections 2 and 3, table 2.
"""

import math

from numba import njit

SUN_Y = 8300.0
"""Galactocentric distance of the Sun in the model [pc]."""
SUN_Z = 6.0
"""Height of the Sun above the plane in the model [pc]."""
EDGE = 35_000.0
"""Radius of the sphere outside which the density is zero [pc]."""

_CUT = 6.0
"""A component is zero beyond this many of its own scale lengths."""

_WARP_START, _WARP_SLOPE = 8400.0, 0.14
_CUTOFF_START, _CUTOFF_WIDTH = 15_000.0, 2500.0
_THICK_N, _THICK_H = 0.01132, 1673.0
_THIN_N, _THIN_R, _THIN_W, _THIN_H = 0.404, 4000.0, 1200.0, 1.54
_ARMS_R, _ARMS_W, _ARMS_H, _ARMS_Z = 4000.0, 11_680.0, 5.015, 3000.0
_CENTRE_N, _CENTRE_X, _CENTRE_Z, _CENTRE_R, _CENTRE_H = 6.2, 50.0, -7.0, 160.0, 35.0

# one row an arm: R_i [pc], theta_i [rad], tan(psi), cos(psi), N_i [cm^-3], w_i [pc],
# first winding before theta_i, last winding before, first after, last after
_ARMS = (
    (3350.0, 0.77, 0.202, 0.98, 0.135, 300.0, 1, 1, 0, 1),
    (3707.0, 2.093, 0.173, 0.985, 0.129, 500.0, 1, 1, 0, 1),
    (3560.0, 3.81, 0.183, 0.9836, 0.103, 300.0, 1, 2, 0, 1),
    (3670.0, 5.76, 0.186, 0.983, 0.116, 500.0, 1, 2, 0, 1),
)
_CARINA = 2
_LOCAL_ARM = (8210.0, 0.96, 0.0483, 0.9988, 0.0057, 300.0)
_LOCAL_ARM_END = 2.0

_GUM_N, _GUM_W, _GUM_A, _GUM_RATIO, _GUM_REACH = 1.84, 15.1, 125.8, 1.4, 600.0
_GUM_D, _GUM_L, _GUM_B = 450.0, math.radians(264.0), math.radians(-4.0)
GUM_X = _GUM_D * math.cos(_GUM_B) * math.sin(_GUM_L)
GUM_Y = SUN_Y - _GUM_D * math.cos(_GUM_B) * math.cos(_GUM_L)
GUM_Z = _GUM_D * math.sin(_GUM_B)

BUBBLE_Y, BUBBLE_COS, BUBBLE_SIN, BUBBLE_RADIUS = 8340.0, 0.94, 0.34, 110.0
_INSIDE_BUBBLE = 0.480
# N [cm^-3], direction l0 [deg], angular width [deg], thickness [pc], height [pc]
_WALL_1 = (1.094, 195.4, 28.4, 14.2, 112.9)
_WALL_2 = (2.33, 278.2, 14.7, 15.6, 43.6)
_COS_45 = math.sqrt(0.5)
BUBBLE_REACH = BUBBLE_RADIUS + _CUT * max(_WALL_1[3], _WALL_2[3])

LOOP_X, LOOP_Y, LOOP_Z = -10.156, 8106.206, 10.467
_LOOP_N, _LOOP_R, _LOOP_W, _LOOP_ANGLE = 1.907, 80.0, 15.0, 30.0
_LOOP_AXIS_X, _LOOP_AXIS_Z = math.cos(math.radians(40.0)), math.sin(math.radians(40.0))
LOOP_REACH = _LOOP_R + _CUT * _LOOP_W

CENTRE_X, CENTRE_Y, CENTRE_REACH = _CENTRE_X, 0.0, _CUT * _CENTRE_R


@njit(cache=True, inline="always")
def sech2(x: float) -> float:
    """Return sech(x)^2, without overflow."""
    e = math.exp(-2.0 * abs(x))
    return 4.0 * e / ((1.0 + e) * (1.0 + e))


@njit(cache=True, inline="always")
def warped_height(x: float, z: float, radius: float) -> float:
    """Return the height above the warped disc [pc] at (x, z) [pc], `radius` from the axis."""
    if radius < _WARP_START:
        return z
    return z - _WARP_SLOPE * (radius - _WARP_START) * x / radius


@njit(cache=True, inline="always")
def scale_height(radius: float) -> float:
    """Return H(R) [pc], the height that the thin disc and the arms scale with."""
    return 32.0 + 1.6e-3 * radius + 4.0e-7 * radius * radius


@njit(cache=True, inline="always")
def outer_cutoff(radius: float) -> float:
    """Return the factor that ends the disc beyond 15 kpc."""
    if radius < _CUTOFF_START:
        return 1.0
    return sech2((radius - _CUTOFF_START) / _CUTOFF_WIDTH)


@njit(cache=True, inline="always")
def thick_disc(radius: float, zp: float) -> float:
    """Return n1 [cm^-3] at height `zp` [pc] above the warped disc."""
    if abs(zp) > _CUT * _THICK_H or radius - _CUTOFF_START > _CUT * _CUTOFF_WIDTH:
        return 0.0
    return _THICK_N * outer_cutoff(radius) * sech2(zp / _THICK_H)


@njit(cache=True, inline="always")
def thin_disc(radius: float, zp: float, height: float) -> float:
    """Return n2 [cm^-3]; `height` is `scale_height(radius)` [pc]."""
    if radius - _THIN_R > _CUT * _THIN_W or abs(zp) > _CUT * _THIN_H * height:
        return 0.0
    plane = _THIN_N * outer_cutoff(radius) * sech2((radius - _THIN_R) / _THIN_W)
    return plane * sech2(zp / (_THIN_H * height))


@njit(cache=True)
def arms_in_plane(radius: float, theta: float) -> float:
    """Return the mid-plane density of the spiral arms, n3 at zp = 0 [cm^-3].

    Args:
        radius: distance from the axis [pc].
        theta: azimuth atan2(y, x) in [0, 2 pi) [rad].
    """
    degrees = math.degrees(theta)
    total = 0.0
    for i in range(4):
        r_i, theta_i, tan_psi, cos_psi, n_i, w_i, b0, b1, a0, a1 = _ARMS[i]
        first, last = (b0, b1) if theta < theta_i else (a0, a1)
        nearest = math.inf
        for k in range(first, last + 1):
            spiral = r_i * math.exp((theta + 2.0 * math.pi * k - theta_i) * tan_psi)
            nearest = min(nearest, abs(radius - spiral))
        if nearest > _CUT * w_i:
            continue
        density = n_i * sech2(nearest * cos_psi / w_i)
        if i == _CARINA:
            density *= 1.0 - 0.626 * math.exp(-(((degrees - 75.8) / 20.0) ** 2))
            if radius > 6000.0 and degrees > 109.0:
                density *= 3.4
            else:
                density *= 1.0 + 2.4 * math.exp(-(((degrees - 109.0) / 8.2) ** 2))
        total += density
    r_i, theta_i, tan_psi, cos_psi, n_i, w_i = _LOCAL_ARM
    if theta_i <= theta < _LOCAL_ARM_END:
        nearest = abs(radius - r_i * math.exp((theta - theta_i) * tan_psi))
        if nearest <= _CUT * w_i:
            total += n_i * sech2(nearest * cos_psi / w_i)
    return total * outer_cutoff(radius) * sech2((radius - _ARMS_R) / _ARMS_W)


@njit(cache=True, inline="always")
def arms_profile(zp: float, height: float) -> float:
    """Return the factor by which the arms fall with height; `height` as in `thin_disc`."""
    if abs(zp) >= _ARMS_Z or abs(zp) > _CUT * _ARMS_H * height:
        return 0.0
    return sech2(zp / (_ARMS_H * height))


@njit(cache=True, inline="always")
def galactic_centre(x: float, y: float, z: float) -> float:
    """Return n4 [cm^-3], the disc of the Galactic centre."""
    if abs(z) > _CUT * _CENTRE_H:
        return 0.0
    square = (x - _CENTRE_X) ** 2 + y * y
    if square > (_CUT * _CENTRE_R) ** 2:
        return 0.0
    return _CENTRE_N * math.exp(-square / _CENTRE_R**2) * sech2((z - _CENTRE_Z) / _CENTRE_H)


@njit(cache=True)
def gum_nebula(x: float, y: float, z: float) -> float:
    """Return n5 [cm^-3], the spheroidal shell of the Gum nebula."""
    dx, dy, dz = x - GUM_X, y - GUM_Y, abs(z - GUM_Z)
    rho = math.hypot(dx, dy)
    distance = math.hypot(rho, dz)
    if distance > _GUM_REACH:
        return 0.0
    angle = math.atan2(dz, rho)
    polar = _GUM_RATIO * _GUM_A
    shell = 1.0 / math.hypot(math.cos(angle) / _GUM_A, math.sin(angle) / polar)
    xp = shell * math.cos(angle)
    below = _GUM_A * _GUM_A - xp * xp
    slope = math.atan(_GUM_RATIO * xp / math.sqrt(below)) if below > 0.0 else 0.5 * math.pi
    d = abs((distance - shell) * math.sin(angle + slope))
    if d > _CUT * _GUM_W:
        return 0.0
    return _GUM_N * math.exp(-((d / _GUM_W) ** 2))


@njit(cache=True, inline="always")
def bubble_radius(x: float, y: float, z: float) -> float:
    """Return U [pc], the radius in the tilted cylinder of the Local Bubble (walls at 110)."""
    return math.hypot(BUBBLE_COS * (y - BUBBLE_Y) - BUBBLE_SIN * z, x)


@njit(cache=True, inline="always")
def _angle_from(l_deg: float, l0: float) -> float:
    return min(abs(l_deg + 360.0 - l0), abs(l_deg - l0))


@njit(cache=True)
def bubble_walls(x: float, y: float, z: float, l_deg: float, u: float) -> float:
    """Return n6 [cm^-3], the two dense stretches of the walls of the Local Bubble.

    At x, y, z [pc], where `u` [pc] is `bubble_radius(x, y, z)`; `l_deg` [deg] is the longitude of
    the line of sight.
    """
    total = 0.0
    density, l0, width, thickness, height = _WALL_1
    angle = _angle_from(l_deg, l0)
    depth = u - BUBBLE_RADIUS
    if depth <= _CUT * thickness and abs(z) <= _CUT * height and angle <= _CUT * width:
        axis_y = BUBBLE_Y + (BUBBLE_SIN / BUBBLE_COS) * z
        lengths = math.hypot(x, SUN_Y - y) * math.hypot(x, axis_y - y)
        cos_gamma = 1.0
        if lengths > 0.0:
            cos_gamma = (x * x + (SUN_Y - y) * (axis_y - y)) / lengths
        if cos_gamma >= _COS_45:
            total += density * sech2(angle / width) * sech2(depth / thickness) * sech2(z / height)
    density, l0, width, thickness, height = _WALL_2
    angle = _angle_from(l_deg, l0)
    if depth <= _CUT * thickness and abs(z) <= _CUT * height and angle <= _CUT * width:
        total += density * sech2(angle / width) * sech2(depth / thickness) * sech2(z / height)
    return total


@njit(cache=True)
def loop_one(x: float, y: float, z: float) -> float:
    """Return n7 [cm^-3], the cap of the spherical shell of Loop I."""
    dx, dy, dz = x - LOOP_X, y - LOOP_Y, z - LOOP_Z
    q = math.sqrt(dx * dx + dy * dy + dz * dz)
    if q == 0.0 or abs(q - _LOOP_R) > _CUT * _LOOP_W:
        return 0.0
    cos_angle = (dx * _LOOP_AXIS_X + dz * _LOOP_AXIS_Z) / q
    angle = math.degrees(math.acos(min(1.0, max(-1.0, cos_angle))))
    depth = (q - _LOOP_R) / _LOOP_W
    return _LOOP_N * math.exp(-depth * depth) * math.exp(-((angle / _LOOP_ANGLE) ** 2))


@njit(cache=True)
def combine(
    x: float, y: float, z: float, l_deg: float, thick: float, disc: float, centre: float
) -> float:
    """Return the density where the local features may matter [cm^-3], at x, y, z [pc].

    A local feature replaces the smooth Galaxy where it is denser. That consists of n1, the larger
    of n2 and n3, and n4 [cm^-3]; `l_deg` [deg] is the longitude of the line of sight.
    """
    smooth = thick + disc
    u = bubble_radius(x, y, z)
    walls = bubble_walls(x, y, z, l_deg, u)
    gum = gum_nebula(x, y, z)
    if u <= BUBBLE_RADIUS:
        if walls > smooth:
            return walls
        smooth = _INSIDE_BUBBLE * thick + disc
    elif walls > smooth and walls > gum:
        return walls
    if gum > smooth:
        return gum
    loop = loop_one(x, y, z)
    if loop > smooth:
        return loop
    return smooth + centre


@njit(cache=True)
def electron_density(x: float, y: float, z: float, l_deg: float) -> float:
    """Return the free electron density of YMW16 at one point [cm^-3].

    Args:
        x, y, z: position [pc], z measured from the plane (the Sun is at z = +6 pc).
        l_deg: Galactic longitude of the line of sight on which the point lies [deg]; it only
            matters within 500 pc of the Sun.
    """
    if x * x + y * y + z * z > EDGE * EDGE:
        return 0.0
    radius = math.hypot(x, y)
    theta = math.atan2(y, x)
    if theta < 0.0:
        theta += 2.0 * math.pi
    zp = warped_height(x, z, radius)
    height = scale_height(radius)
    profile = arms_profile(zp, height)
    arms = profile * arms_in_plane(radius, theta) if profile > 0.0 else 0.0
    disc = max(thin_disc(radius, zp, height), arms)
    return combine(x, y, z, l_deg, thick_disc(radius, zp), disc, galactic_centre(x, y, z))
