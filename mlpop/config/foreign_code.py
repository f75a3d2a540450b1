"""Running code that a configuration names: whatever it raises is one message, not an end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import walk_tb

from mlpop.errors import ConfigError, MlpopError, Stopped


def place_of(error: BaseException) -> str:
    """Return `(file.py, line 3)`, where an error was raised; empty if nobody knows."""
    if isinstance(error, SyntaxError):
        # its message has the place
        return ""
    # no source is read, as a whole traceback would
    place = ""
    for frame, line in walk_tb(error.__traceback__):
        place = f" ({Path(frame.f_code.co_filename).name}, line {line})"
    return place


@contextmanager
def foreign_code(what: str) -> Iterator[None]:
    """Turn what code of the user raises, `sys.exit` among it, into one message.

    Args:
        what: the field, and what is done, such as `simulator.type: 'own:S' cannot be imported`.

    Raises:
        ConfigError: the code raised something.
    """
    try:
        with same_folder():
            yield
    except (MlpopError, Stopped):
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:300]
        kind = type(error).__name__
        raise ConfigError(f"{what}: {kind}: {text}{place_of(error)}") from error


@contextmanager
def same_folder() -> Iterator[None]:
    """Go back to the working folder if the block leaves it: relative paths are from there."""
    try:
        folder = Path.cwd()
    except OSError:
        # it is gone; nothing is relative to it
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            if Path.cwd() != folder:
                os.chdir(folder)
