"""Proposals of later rounds: the truncated prior, or the posterior."""
