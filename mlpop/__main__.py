"""`python -m mlpop` is the command `mlpop`."""

from mlpop.cli.main import main

main()
