"""The Galaxy: potential, orbits, birth places, electrons, sky."""
