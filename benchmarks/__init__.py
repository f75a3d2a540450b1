"""Measurements of mlpop against the plain way; `python -m benchmarks` runs the table."""
