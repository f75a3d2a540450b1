"""Detected pulsars to density maps."""
