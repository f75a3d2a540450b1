import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlpop.errors import ConfigError
from mlpop.experiment.profile import Profiler


def ticks(*times: float) -> Callable[[], float]:
    values: Iterator[float] = iter(times)
    return lambda: next(values)


def test_documented_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    profiler = Profiler(tmp_path, clock=ticks(10, 11, 13.5, 14, 20, 26))
    with (
        caplog.at_level(logging.DEBUG, "mlpop.experiment.profile"),
        profiler.section("TrainingRound0") as section,
    ):
        section.checkpoint("data")
        section.checkpoint("network")
    with profiler.section("TotalTraining"):
        pass
    assert json.loads((tmp_path / "profile.json").read_text()) == {
        "[TrainingRound0]": {
            "data": {"elapsed_time": 1.0, "cumulative_time": 1.0},
            "network": {"elapsed_time": 2.5, "cumulative_time": 3.5},
            "time": 4.0,
            "count": 1,
        },
        "[TotalTraining]": {"time": 6.0, "count": 1},
    }
    assert (tmp_path / "profile.log").read_text().splitlines() == [
        "<prof>[TrainingRound0] data took 1.0000 [s], cumulative 1.0000 [s]",
        "<prof>[TrainingRound0] network took 2.5000 [s], cumulative 3.5000 [s]",
        "<prof>[TrainingRound0] finished took 4.0000 [s]",
        "<prof>[TotalTraining] finished took 6.0000 [s]",
    ]
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    assert profiler.seconds("TotalTraining") == 6.0
    assert profiler.seconds("Nothing") == 0.0


def test_repeated_names_add_up_also_after_a_resume(tmp_path: Path) -> None:
    first = Profiler(tmp_path, clock=ticks(0, 1, 2))
    with first.section("A") as section:
        section.checkpoint("x")
    resumed = Profiler(tmp_path, clock=ticks(0, 10, 20))
    with resumed.section("A") as section:
        section.checkpoint("x")
    assert json.loads((tmp_path / "profile.json").read_text()) == {
        "[A]": {"x": {"elapsed_time": 11.0, "cumulative_time": 11.0}, "time": 22.0, "count": 2}
    }
    assert len((tmp_path / "profile.log").read_text().splitlines()) == 4


def test_times_measured_elsewhere_add_up_too(tmp_path: Path) -> None:
    profiler = Profiler(tmp_path)
    profiler.record("TrainingRound0Ensemble1", 1.5)
    profiler.record("TrainingRound0Ensemble1", 2.0)
    assert json.loads((tmp_path / "profile.json").read_text()) == {
        "[TrainingRound0Ensemble1]": {"time": 3.5, "count": 2}
    }
    line = (tmp_path / "profile.log").read_text().splitlines()[0]
    assert line == "<prof>[TrainingRound0Ensemble1] finished took 1.5000 [s]"


def test_section_that_fails_is_timed_too(tmp_path: Path) -> None:
    profiler = Profiler(tmp_path, json_name="p.json", log_name="p.log", clock=ticks(0, 3))
    with pytest.raises(KeyboardInterrupt), profiler.section("A"):
        raise KeyboardInterrupt
    text = (tmp_path / "p.log").read_text()
    assert text == "<prof>[A] was interrupted and took 3.0000 [s]\n"
    assert profiler.seconds("A") == 3.0


def test_nothing_is_shown_unless_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    profiler = Profiler(tmp_path, show=False)
    with caplog.at_level(logging.INFO, "mlpop.experiment.profile"), profiler.section("A"):
        pass
    assert not caplog.records
    assert (tmp_path / "profile.log").is_file()


def test_checkpoint_cannot_take_the_name_of_a_key(tmp_path: Path) -> None:
    profiler = Profiler(tmp_path)
    with pytest.raises(ValueError, match="'time'"), profiler.section("A") as section:
        section.checkpoint("time")


def test_broken_or_unwritable_files_do_not_end_a_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "profile.json").write_text("{")
    with Profiler(tmp_path).section("A"):
        pass
    assert "times start from zero" in caplog.text
    assert "[A]" in json.loads((tmp_path / "profile.json").read_text())
    with Profiler(tmp_path / "profile.json" / "below a file").section("A"):
        pass
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("field", ["log_name", "json_name"])
@pytest.mark.parametrize("content", ["ssh-ed25519 AAAA", '{"schema": 1}', "[1]", "\x00\x01"])
def test_other_files_are_neither_appended_to_nor_written_over(
    tmp_path: Path, field: str, content: str
) -> None:
    (tmp_path / "taken").write_text(content)
    with pytest.raises(ConfigError, match=r"profile_(log|json): 'taken' is the name of another"):
        Profiler(tmp_path, **{field: "taken"})
    assert (tmp_path / "taken").read_text() == content


@pytest.mark.parametrize("field", ["log_name", "json_name"])
def test_links_are_not_followed(tmp_path: Path, field: str) -> None:
    (tmp_path / "taken").symlink_to(tmp_path / "authorized_keys")
    with pytest.raises(ConfigError, match="'taken' is the name of another file"):
        Profiler(tmp_path, **{field: "taken"})
