"""Detected pulsars to density maps, maps to datasets, datasets to arrays."""
