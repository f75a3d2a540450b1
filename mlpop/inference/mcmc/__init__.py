"""Markov chains for posteriors that have no sampler of their own."""
