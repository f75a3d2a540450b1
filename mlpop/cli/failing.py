"""How a command ends that cannot do what it should: one message, exit code 2."""

import os
import sys
from typing import NoReturn

import click

LONGEST_LINE = 2000
"""Longest line of a message [characters]."""


def fail(message: str) -> NoReturn:
    """Print a message, tell it to the run that `mlflow run` has made, and exit."""
    lines = (
        line
        if len(line) <= LONGEST_LINE
        else f"{line[:LONGEST_LINE]} ... ({len(line)} characters)"
        for line in message.splitlines()
    )
    message = "\n".join(lines)
    click.echo(f"Error: {message}", err=True)
    if os.environ.get("MLFLOW_RUN_ID"):
        from mlpop.tracking import tell_given_run

        tell_given_run(message)
    sys.exit(2)
