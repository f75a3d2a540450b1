"""Explicit random generators, and sums that do not depend on the number of threads."""

from mlpop.networks.rng import generator_from_seed, lend, one_thread

__all__ = ["generator_from_seed", "lend", "one_thread"]
