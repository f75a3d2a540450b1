import logging
import re
import warnings
from pathlib import Path

import pytest

from mlpop.errors import DataError
from mlpop.experiment import logs as logfile
from mlpop.experiment.logs import TerminalHandler, log_to, show_on_terminal

logger = logging.getLogger("mlpop.experiment.demo")


def test_documented_line_and_level(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    with log_to(path):
        logger.debug("unseen")
        logger.info("round %d", 0)
        logger.warning("careful")
    logger.warning("after")
    with log_to(path):
        logger.info("resumed")
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert re.fullmatch(f"{time} - mlpop.experiment.demo - INFO - round 0", lines[0])
    assert re.fullmatch(f"{time} - mlpop.experiment.demo - WARNING - careful", lines[1])
    assert lines[2].endswith("INFO - resumed")


def test_warnings_of_libraries_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    with warnings.catch_warnings(), log_to(path):
        warnings.simplefilter("always")
        warnings.warn("leakage is high", UserWarning, stacklevel=1)
    assert "py.warnings - WARNING" in path.read_text()
    assert "leakage is high" in path.read_text()


def test_a_full_file_is_put_aside_and_twenty_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert logfile.MAX_BYTES == 10 * 1024**2
    monkeypatch.setattr(logfile, "MAX_BYTES", 200)
    with log_to(tmp_path / "log.txt"):
        for line in range(100):
            logger.info("line %03d %s", line, "x" * 100)
    assert len(list(tmp_path.iterdir())) == 21
    assert "line 099" in (tmp_path / "log.txt").read_text()
    assert "line 098" in (tmp_path / "log.txt.1").read_text()


def test_log_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"log.txt: cannot be written"),
        log_to(tmp_path / "gone" / "log.txt"),
    ):
        pass


def test_terminal_shows_messages_alone(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger("mlpop")
    before = (root.level, root.propagate, list(root.handlers))
    try:
        for verbosity, shown in ((0, "careful\n"), (1, "news\ncareful\n")):
            show_on_terminal(verbosity)
            logger.debug("detail")
            logger.info("news")
            logger.warning("careful")
            assert capsys.readouterr() == ("", shown)
        assert sum(isinstance(handler, TerminalHandler) for handler in root.handlers) == 1
    finally:
        root.level, root.propagate, root.handlers = before
        root.setLevel(before[0])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_log_whose_disk_is_full_says_so_once_and_hides_no_error(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        for number in range(10):
            logger.warning("line %d", number)
        raise DataError("what ended the run")

    with pytest.raises(DataError, match="what ended the run"), log_to(Path("/dev/full")):
        fails()
    assert "Traceback" not in capsys.readouterr().err
    (told,) = [line for line in caplog.messages if "/dev/full" in line]
    assert told == "/dev/full: cannot be written: No space left on device; the work goes on"
    assert "line 9" in caplog.messages
