"""Simulations of a dataset, cut into shards, journalled."""
