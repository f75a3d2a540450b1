"""How long the parts of a run took: the documented `profile.json` and `profile.log`."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlpop.errors import ConfigError, DataError
from mlpop.io.files import write_atomically

logger = logging.getLogger(__name__)

OWN_KEYS = ("time", "count")
Entry = dict[str, float | int | dict[str, float]]


class Profiler:
    """Times named sections and writes both files after each.

    A name that comes again adds up, also over a resumed run that goes on in the same folder.

    Args:
        folder: where the two files are written.
        json_name: name of the JSON file, `profile_json` of the configuration.
        log_name: name of the text file, `profile_log` of the configuration.
        show: whether every line is shown on the terminal too, `show_profiling`.
        clock: monotonic time [s].

    Raises:
        ConfigError: a file of this name is there that holds something else.
    """

    def __init__(
        self,
        folder: Path,
        *,
        json_name: str = "profile.json",
        log_name: str = "profile.log",
        show: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._json = folder / json_name
        self._log = folder / log_name
        _refuse_other_file(self._log, "profile_log", "<prof>")
        _refuse_other_file(self._json, "profile_json", "{")
        self._show = show
        self._clock = clock
        self._lock = threading.Lock()
        self._entries = _read(self._json)

    @contextmanager
    def section(self, name: str) -> "Iterator[Section]":
        """Time a block under `[name]`, also if it fails.

        Args:
            name: for instance `TrainingRound0`, `TrainingRound0Ensemble1`, `TotalTraining`.
        """
        section = Section(self, name, self._clock())
        word = "finished"
        try:
            yield section
        except BaseException:
            word = "was interrupted and"
            raise
        finally:
            self.record(name, self._clock() - section.started, word)

    def record(self, name: str, seconds: float, word: str = "finished") -> None:
        """Add a time [s], also one that was measured elsewhere, for instance by a worker."""
        with self._lock:
            entry = self._entries.setdefault(f"[{name}]", {})
            _add(entry, "time", seconds)
            _add(entry, "count", 1)
            self._save(f"<prof>[{name}] {word} took {seconds:.4f} [s]")

    def checkpoint(self, section: "Section", label: str) -> None:
        """Record the time since the last checkpoint of a section, and since its start."""
        if label in OWN_KEYS:
            raise ValueError(f"a checkpoint cannot be named '{label}', that is a key of its own")
        now = self._clock()
        elapsed, cumulative = now - section.last, now - section.started
        section.last = now
        with self._lock:
            entry = self._entries.setdefault(f"[{section.name}]", {})
            times = entry.setdefault(label, {"elapsed_time": 0.0, "cumulative_time": 0.0})
            assert isinstance(times, dict)
            times["elapsed_time"] += elapsed
            times["cumulative_time"] += cumulative
            self._save(
                f"<prof>[{section.name}] {label} took {elapsed:.4f} [s], "
                f"cumulative {cumulative:.4f} [s]"
            )

    def seconds(self, name: str) -> float:
        """Return the total time of a section [s], 0 if it never ran."""
        with self._lock:
            value = self._entries.get(f"[{name}]", {}).get("time", 0.0)
        return float(value) if isinstance(value, int | float) else 0.0

    def _save(self, line: str) -> None:
        logger.log(logging.INFO if self._show else logging.DEBUG, "%s", line)
        try:
            write_atomically(self._json, json.dumps(self._entries, indent=2) + "\n")
            with self._log.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except (DataError, OSError) as error:
            # times are not worth a training
            logger.warning("%s: cannot be written: %s", self._json.parent, error)


class Section:
    """A block that is being timed."""

    def __init__(self, profiler: Profiler, name: str, started: float) -> None:
        self.name = name
        self.started = started
        self.last = started
        self._profiler = profiler

    def checkpoint(self, label: str) -> None:
        """Record the time since the last checkpoint, and since the start of the block."""
        self._profiler.checkpoint(self, label)


def _add(entry: Entry, key: str, amount: float) -> None:
    value = entry.get(key, 0)
    assert isinstance(value, int | float)
    entry[key] = value + amount


def _refuse_other_file(path: Path, field: str, first: str) -> None:
    """Refuse a name that is taken: it would be appended to, or written over."""
    if not path.exists() and not path.is_symlink():
        return
    if path.is_file() and not path.is_symlink():
        try:
            with path.open(encoding="utf-8") as file:
                if file.read(len(first)) in (first, ""):
                    return
        except (OSError, ValueError):
            pass
    raise ConfigError(_taken(field, path))


def _taken(field: str, path: Path) -> str:
    return f"{field}: '{path.name}' is the name of another file in {path.parent}"


def _read(path: Path) -> dict[str, Entry]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s: cannot be read, times start from zero: %s", path, error)
        return {}
    if not isinstance(values, dict) or not all(key.startswith("[") for key in values):
        raise ConfigError(_taken("profile_json", path))
    return values
