"""One Galaxy of pulsars: births, orbits, spins, fields, radio emission, surveys; pure physics."""

from pathlib import Path

from mlpop.io.cache import key_compiled_kernels

key_compiled_kernels(Path(__file__).parent)
