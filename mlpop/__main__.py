"""`python -m mlpop` is the command `mlpop`."""

from mlpop.cli import main

main()
