"""Compression of maps to vectors by a network or a PCA."""
