"""Names of labels and channels: refused before anything starts, or keys that read back."""

import pytest
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from mlpop.config.blocks.prior import PriorConfig
from mlpop.config.names import fault_of_name, key_of, name_of
from mlpop.errors import ConfigError

GOOD = [
    "log10(B)",
    "P [s]",
    "a,b",
    "sigma_k",
    "α",
    "50 %",
    "x^2",
    'say "B"',
    "B;C",
    "d|e",
    "_u28_",
]
BAD = ["a/b", "a\\b", "a\nb", "a\tb", "a\0b", "a\x85b", ".a", "input:a", " a", "a ", "x" * 101]


@pytest.mark.parametrize("name", GOOD)
def test_a_name_becomes_a_key_that_mlflow_takes_and_reads_back(name: str) -> None:
    assert fault_of_name(name) == ""
    key = key_of(f"posterior/{name}/median")
    _validate_metric_name(key)
    _validate_param_name(key)
    assert name_of(key) == f"posterior/{name}/median"


def test_different_names_have_different_keys() -> None:
    names = [*GOOD, "log10_u28_B_u29_", "_u5f_u28_", "log10 B ", "log10_B_"]
    assert len({key_of(name) for name in names}) == len(names)
    assert key_of("posterior/sigma_k/median") == "posterior/sigma_k/median"


@pytest.mark.parametrize("name", BAD)
def test_a_label_that_cannot_be_one_is_refused_by_its_field(name: str) -> None:
    values = {"labels": ["good", name], "low": [0.0, 0.0], "high": [1.0, 1.0]}
    with pytest.raises(ConfigError, match=r"labels\[1\]: ") as caught:
        PriorConfig.parse(values)
    assert len(str(caught.value)) < 400
