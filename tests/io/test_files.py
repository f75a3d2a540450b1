"""A full disk is one sentence with the file, whoever writes."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from mlpop.errors import DataError
from mlpop.io.files import write_array, write_atomically, write_json
from mlpop.plots import style
from mlpop.tracking import save_figure

FIGURE = Figure()
FIGURE.subplots().plot(range(10))

WRITERS: list[Callable[[Path], Any]] = [
    lambda path: write_atomically(path, "text"),
    lambda path: write_json(path, {"a": 1}),
    lambda path: write_array(path, np.zeros(3)),
    lambda path: style.write(FIGURE, path),
    lambda path: save_figure(FIGURE, path),
]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_file_that_cannot_be_written_is_named_and_not_left_behind(
    write: Callable[[Path], Any], reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "figure.pdf"
    with pytest.raises(DataError, match=rf"^{path}: cannot be written: {os.strerror(reason)}$"):
        write(path)
    assert list(tmp_path.iterdir()) == []
