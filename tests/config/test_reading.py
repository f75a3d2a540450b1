"""Text of which nothing is known yet: one sentence, whatever it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlpop.config.base import apply_overrides, read_json
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.reading import DEEPEST, read_text
from mlpop.errors import ConfigError

DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_does_not_matter(mark: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sbi.json"
    path.write_bytes(mark + '{"name": "é"}'.encode())
    assert read_json(path) == {"name": "é"}
    assert read_text(path) == '{"name": "é"}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": ' + DEEP.encode() + b"}", "nested more than 100 levels"),
        (b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}", "nested more than 100 levels"),
        (b'{"a": ' + b"7" * 5000 + b"}", "an integer of more than 4300 digits"),
        (b"\x00\x01", "holds NUL bytes"),
        (b'{"a": "\xff"}', "no UTF-8 text"),
        (b"\x1f\x8b\x08", "gzip archive"),
        ("{}".encode("utf-16"), "text in UTF-16; save it as UTF-8"),
        (b"\xfe\xff\x00{\x00}", "text in UTF-16; save it as UTF-8"),
        (b"{", ":1: not valid JSON"),
    ],
)
def test_an_odd_configuration_is_one_sentence(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "sbi.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_json(path)
    assert len(str(caught.value)) < 300


def test_devices_and_folders_are_no_configurations(tmp_path: Path) -> None:
    for path, message in ((Path("/dev/zero"), "no regular file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=message):
            read_json(path)


@pytest.mark.parametrize("value", [DEEP, "7" * 5000])
def test_an_odd_assignment_is_one_sentence(value: str) -> None:
    with pytest.raises(ConfigError, match=r"--set a.b: its value ") as caught:
        apply_overrides({}, [f"a.b={value}"])
    assert len(str(caught.value)) < 200


def test_as_deep_as_is_allowed() -> None:
    text = "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)
    assert apply_overrides({}, [f"a={text}"])["a"] is not None


@pytest.mark.parametrize("half", ["\ud800", "a\udcff", "\udced\udcb2\udc80"])
@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda half: {"name": half}, "name"),
        (lambda half: {"trainer": {"save_dir": half}}, "trainer.save_dir"),
        (lambda half: {"prior_ranges": {"labels": ["a", half]}}, "prior_ranges.labels.1"),
        (lambda half: {half: 1}, r".*\\ud"),
    ],
)
def test_half_a_character_is_refused_by_its_field(
    half: str, change: Callable[[str], dict[str, Any]], field: str
) -> None:
    with pytest.raises(ConfigError, match=f"^sbi.json: {field}.*: holds half a char") as refused:
        SbiConfig.parse(change(half), "sbi.json")
    assert str(refused.value).isascii()
