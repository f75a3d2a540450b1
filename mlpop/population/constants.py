"""Physical constants and unit conversions: one value each, with unit and source.

The values are those of the reference implementation (ML-Poppyns), so that golden numbers agree
to all digits. Known departures from modern values: a year of 365 days, a solar mass of 2e33 g
and G = 6.67e-8, whose product G * M_sun is 0.52 % above the IAU value.

References:
    Graber et al. 2024, ApJ 968, 16. https://doi.org/10.3847/1538-4357/ad3e78
"""

import math

# Lengths (IAU parsec, rounded as in the reference implementation).
PC_CM = 3.08567758e18  # cm / pc
KPC_CM = 3.08567758e21  # cm / kpc
KPC_KM = 3.08567758e16  # km / kpc
PC_KPC = 1e-3  # kpc / pc

# Times.
YEAR_S = 3.1536e7  # s / yr: 365 days exactly, not the Julian year
CENTURY_YR = 100.0  # yr / century

# Fundamental constants in Gaussian cgs units (CODATA 2014 where not stated otherwise).
GRAVITATION_CGS = 6.67e-8  # cm^3 g^-1 s^-2 (rounded; CODATA 6.674e-8)
LIGHT_SPEED = 2.99792458e10  # cm s^-1 (exact)
E_CHARGE = 4.80320425e-10  # statC
M_ELECTRON = 9.10938356e-28  # g

# Astronomical units of mass and flux density.
SOLAR_MASS_G = 2.0e33  # g (rounded; modern value 1.98841e33)
JY = 1e-23  # erg s^-1 cm^-2 Hz^-1 / Jy
MHZ = 1e6  # Hz / MHz

# Derived conversions.
KMS_KPC_YR = YEAR_S / KPC_KM  # (kpc/yr) / (km/s) = 1.0220121572e-9
GRAVITATION_KPC = GRAVITATION_CGS / KPC_CM**3 * YEAR_S**2  # kpc^3 g^-1 yr^-2 = 2.257810106689e-57

# Proper motion: velocity [km/s] = PM_KMS * proper motion [mas/yr] * distance [kpc]. Angles of
# the observers use the Julian year and the IAU au, so this one does not follow YEAR_S.
PM_KMS = 4.740470463  # km s^-1 / (mas yr^-1 kpc)

# Velocity of the Sun in the Galactocentric frame (towards the centre, along rotation, north).
# Astropy's "v4.0" defaults: Drimmel & Poggio 2018, RNAAS 2, 210; GRAVITY 2018, A&A 615, L15.
SUN_VELOCITY_KMS = (12.9, 245.6, 7.78)  # km/s

TWO_PI = 2.0 * math.pi
DEG = math.pi / 180.0  # rad / deg
LN10 = math.log(10.0)  # natural over decimal logarithm
