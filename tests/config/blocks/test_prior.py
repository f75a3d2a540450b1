"""The block of the prior: what it takes, and what it refuses."""

import json
from typing import Any

import pytest

from mlpop.config.blocks.prior import NORMAL_REACH, PriorConfig
from mlpop.errors import ConfigError

GOOD: dict[str, Any] = {
    "labels": ["a", "b", "c", "d"],
    "low": [0, 0.1, None, None],
    "high": [1, 10, None, None],
    "distributions": {
        "b": {"type": "log_uniform"},
        "c": {"type": "normal", "args": {"loc": 3, "scale": 0.5}},
        "d": {"type": "scipy.stats:beta", "args": {"a": 2, "b": 5}},
    },
}


def with_(label: str, distribution: dict[str, Any], **edges: Any) -> dict[str, Any]:
    """Return `GOOD` with another distribution of a label, and other edges of it."""
    place = GOOD["labels"].index(label)
    values = json.loads(json.dumps(GOOD))
    values["distributions"][label] = distribution
    for name, edge in edges.items():
        values[name][place] = edge
    return values


def test_labels_without_a_distribution_are_uniform() -> None:
    config = PriorConfig.parse({"labels": ["a"], "low": [0], "high": [1]})
    assert config.distribution("a").type == "uniform"
    assert config.distribution("a").takes_edges
    assert config.reach(0) == (0.0, 1.0)


def test_every_kind_in_one_prior() -> None:
    config = PriorConfig.parse(GOOD)
    assert [config.distribution(label).type for label in config.labels] == [
        "uniform",
        "log_uniform",
        "normal",
        "scipy.stats:beta",
    ]
    takes = [config.distribution(label).takes_edges for label in config.labels]
    assert takes == [True, True, False, False]
    again = PriorConfig.parse(json.loads(config.model_dump_json()))
    assert again == config


def test_how_far_theta_may_reach() -> None:
    config = PriorConfig.parse(GOOD)
    assert [config.reach(k) for k in (0, 1, 3)] == [(0.0, 1.0), (0.1, 10.0), None]
    low, high = 3 - 0.5 * NORMAL_REACH, 3 + 0.5 * NORMAL_REACH
    assert config.reach(2) == pytest.approx((low, high))


def test_a_truncated_normal_needs_edges_and_arguments() -> None:
    values = with_("b", {"type": "truncated_normal", "args": {"loc": -5, "scale": 2}})
    assert PriorConfig.parse(values).reach(1) == (0.1, 10.0)


NORMAL = {"type": "normal", "args": {"loc": 3, "scale": 0.5}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "lower edge missing": (
        with_("a", {"type": "uniform"}, low=None),
        r"low\[0\]: is required for a, whose distribution is 'uniform'",
    ),
    "upper edge missing": (
        with_("b", {"type": "log_uniform"}, high=None),
        r"high\[1\]: is required for b, whose distribution is 'log_uniform'",
    ),
    "edge of a normal": (
        with_("c", NORMAL, low=0.0),
        r"low\[2\]: must be null for c, whose distribution 'normal' has no edges to set; "
        r"'truncated_normal' has edges, found 0.0",
    ),
    "edge of the user's own": (
        with_("d", {"type": "scipy.stats:beta", "args": {"a": 2, "b": 5}}, high=1.0),
        r"high\[3\]: must be null for d, whose distribution 'scipy.stats:beta' has no edges to "
        r"set, found 1.0",
    ),
    "edges the wrong way round": (
        with_("b", {"type": "log_uniform"}, low=20.0),
        r"low\[1\]: must be less than high\[1\] = 10.0 for b, found 20.0",
    ),
    "logarithm of nothing": (
        with_("b", {"type": "log_uniform"}, low=0.0),
        r"low\[1\]: must be greater than 0 for b, a 'log_uniform' one, found 0.0",
    ),
    "scale of nothing": (
        with_("c", {"type": "normal", "args": {"loc": 3, "scale": 0}}),
        r"distributions\.c\.args\.scale: must be greater than 0, found 0",
    ),
    "negative scale": (
        with_("b", {"type": "truncated_normal", "args": {"loc": 3, "scale": -1.5}}),
        r"distributions\.b\.args\.scale: must be greater than 0, found -1.5",
    ),
    "no scale": (
        with_("c", {"type": "normal", "args": {"loc": 3}}),
        r"distributions\.c\.args\.scale: is required and must be a number$",
    ),
    "scale that is no number": (
        with_("c", {"type": "normal", "args": {"loc": 3, "scale": "wide"}}),
        r"distributions\.c\.args\.scale: is required and must be a number, found 'wide'",
    ),
    "yes is no number": (
        with_("c", {"type": "normal", "args": {"loc": True, "scale": 1}}),
        r"distributions\.c\.args\.loc: is required and must be a number, found true",
    ),
    "endless": (
        with_("c", {"type": "normal", "args": {"loc": float("nan"), "scale": float("inf")}}),
        r"args\.loc: must be a finite number, found nan\n.*args\.scale: must be a finite number",
    ),
    "argument that it has not": (
        with_("a", {"type": "uniform", "args": {"loc": 3}}),
        r"distributions\.a\.args\.loc: unknown field",
    ),
    "misspelt argument": (
        with_("c", {"type": "normal", "args": {"loc": 3, "scale": 1, "scal": 2}}),
        r"distributions\.c\.args\.scal: unknown field; did you mean 'scale'\?",
    ),
    "unknown type": (
        with_("c", {"type": "normall", "args": {}}),
        r"distributions\.c\.type: must be one of 'uniform', 'log_uniform', 'truncated_normal', "
        r"'normal', 'package\.module:name', found 'normall'; did you mean 'normal'\?",
    ),
    "unknown label": (
        GOOD | {"distributions": GOOD["distributions"] | {"bb": {"type": "log_uniform"}}},
        r"distributions\.bb: unknown field; did you mean 'b'\?|distributions\.bb: unknown field; "
        r"allowed: a, b, c, d",
    ),
    "too few edges": (GOOD | {"low": [0, 0.1, None]}, r"low: must have one entry a label \(4\)"),
    "label twice": (GOOD | {"labels": ["a", "b", "c", "a"]}, r"labels\[3\]: must be unique"),
    "no label": ({"labels": [], "low": [], "high": []}, "labels"),
    "unknown field": (GOOD | {"distribution": {}}, "did you mean 'distributions'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    values, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        PriorConfig.parse(values)
