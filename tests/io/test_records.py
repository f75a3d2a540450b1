"""Records of a store that say nothing: each is a `BrokenRecord`, never a traceback."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from mlpop.errors import TrackingError
from mlpop.io import records
from mlpop.io.records import OBJECT, BrokenRecord, malformed, read_numbers, read_record, tag_number

TORN = json.dumps({"schema": 1, "artifacts": {"a": {"sha256": "0" * 64, "bytes": 1}}})[:-9]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        TORN,
        "[1]",
        "1",
        '"text"',
        "null",
        "NaN",
        "[" * 200_000,
        '{"a":' * 200_000,
        '{"a": ' + "[" * 100 + "]" * 100 + "}",
        '{"a": ' + "9" * 5000 + "}",
        "\x00" * 100,
        "\ufeff{}x",
    ],
)
def test_json_that_is_no_record(text: str, tmp_path: Path) -> None:
    path = tmp_path / "COMPLETE.json"
    path.write_text(text)
    with pytest.raises(BrokenRecord, match="^record of run 7: "):
        read_record(path, "record of run 7", OBJECT)


def test_bytes_that_are_no_text_and_files_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(BrokenRecord):
        read_record(path, "record", OBJECT)
    monkeypatch.setattr(records, "LARGEST_JSON", 10)
    path.write_text('{"a": "0123456789"}')
    with pytest.raises(BrokenRecord, match="19 bytes, at most 10 are read"):
        read_record(path, "record", OBJECT)


def test_schema_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"a": {"b": [1]}, "more": 1}')
    assert read_record(path, "record", OBJECT) == {"a": {"b": [1]}, "more": 1}
    with pytest.raises(BrokenRecord, match=r"record: a\.b: "):
        read_record(path, "record", TypeAdapter(dict[str, dict[str, int]]))


def test_a_file_that_is_not_there_is_another_error(tmp_path: Path) -> None:
    with pytest.raises(TrackingError) as caught:
        read_record(tmp_path / "gone.json", "record", OBJECT)
    assert not isinstance(caught.value, BrokenRecord)


def test_numbers_are_read_back(tmp_path: Path) -> None:
    for values in (np.arange(6.0).reshape(2, 3), np.array([[1, 2]], "i4"), np.empty((0, 3))):
        np.save(tmp_path / "theta.npy", values)
        found = read_numbers(tmp_path / "theta.npy", "theta")
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)


def _header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    import io

    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": kind, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def test_files_that_hold_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "theta.npy"
    np.save(path, np.arange(100.0))
    whole = path.read_bytes()
    np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    objects = path.read_bytes()
    np.save(path, np.array(["a", "b"]))
    texts = path.read_bytes()
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez(file, theta=np.arange(3.0))
    bad = [
        b"",
        b"\x93NUMPY",
        whole[:60],
        whole[:-8],
        whole + b"more",
        objects,
        texts,
        (tmp_path / "a.npz").read_bytes(),
        _header((10**9, 10**9)) + b"x",
        _header((10**30,)),
        b"\x93NUMPY\x01\x00\x10\x00{'descr': 'zzz'}\n",
    ]
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(BrokenRecord, match="^theta"):
            read_numbers(path, "theta")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("12", 12),
        ("-1", None),
        ("", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 5000, None),
    ],
)
def test_number_of_a_tag(text: str, number: int | None) -> None:
    assert tag_number({"mlpop.round": text}, "mlpop.round") == number
    assert tag_number({}, "mlpop.round") is None


@pytest.mark.parametrize(
    "error", [KeyError("median"), TypeError("list"), RecursionError(), IndexError("0")]
)
def test_what_code_meets_in_a_record_of_another_shape(error: Exception) -> None:
    with pytest.raises(BrokenRecord, match="^summary"), malformed("summary"):
        raise error


@pytest.mark.parametrize("number", [errno.EISDIR, errno.ELOOP, errno.ENOTDIR])
def test_what_is_no_file_is_a_broken_record(number: int) -> None:
    with pytest.raises(BrokenRecord, match="^summary: cannot be read"), malformed("summary"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_what_may_be_read_another_time_is_no_broken_record(number: int) -> None:
    with pytest.raises(TrackingError) as caught, malformed("summary"):
        raise OSError(number, os.strerror(number))
    assert not isinstance(caught.value, BrokenRecord)
