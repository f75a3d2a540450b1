"""Datasets that lie in an object store: sets that are written there, and copies of them here."""
