"""Blocks of the configuration files, each a strict pydantic model."""
