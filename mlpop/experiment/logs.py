"""What a run says: short on the terminal, in full in the documented `log.txt`."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlpop.errors import DataError

LINE_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
MAX_BYTES = 10 * 1024 * 1024
BACKUPS = 20
SOURCES = ("mlpop", "py.warnings")
LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


class TerminalHandler(logging.Handler):
    """Writes messages, without time or level, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message to stderr."""
        from tqdm import tqdm

        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Write what mlpop reports within the block, and warnings of any library, to a file too.

    INFO and above; a file of 10 MiB is put aside, the last 20 are kept. A resumed run goes on in
    the file that is there. A disk that fills up is told once, and ends nothing.

    Raises:
        DataError: the file cannot be written.
    """
    # not at the top: it loads sockets and more, and every command loads this module
    from mlpop.experiment.log_file import LogFile

    try:
        handler = LogFile(path, maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter(LINE_FORMAT))
    loggers = [logging.getLogger(name) for name in SOURCES]
    levels = [source.level for source in loggers]
    logging.captureWarnings(True)
    for source in loggers:
        source.addHandler(handler)
        if source.getEffectiveLevel() > logging.INFO:
            source.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for source, level in zip(loggers, levels, strict=True):
            source.removeHandler(handler)
            source.setLevel(level)
        handler.close()


def show_on_terminal(verbosity: int = 1) -> None:
    """Show messages on the terminal.

    Args:
        verbosity: 0 warnings, 1 also information, 2 everything.
    """
    source = logging.getLogger("mlpop")
    for handler in list(source.handlers):
        if isinstance(handler, TerminalHandler):
            source.removeHandler(handler)
    handler = TerminalHandler(LEVELS[verbosity])
    handler.setFormatter(logging.Formatter("%(message)s"))
    source.addHandler(handler)
    source.setLevel(LEVELS[verbosity])
    source.propagate = False
