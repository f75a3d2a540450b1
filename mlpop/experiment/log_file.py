"""The file of a log, which goes on when its disk is full."""

import logging
import sys
from contextlib import suppress
from logging.handlers import RotatingFileHandler

logger = logging.getLogger(__name__)


class LogFile(RotatingFileHandler):
    """Writes messages to a file; what cannot be written is on the terminal alone."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say once that the file cannot be written: a traceback a message would hide all else."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            reason = error.strerror or error
            logger.warning(
                "%s: cannot be written: %s; the work goes on", self.baseFilename, reason
            )

    def close(self) -> None:
        """Close the file; what does not fit on the disk is lost, not the error that ends a run."""
        with suppress(OSError):
            super().close()
