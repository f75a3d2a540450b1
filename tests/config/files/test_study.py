"""The study file: defaults, contradictions, a round trip."""

from typing import Any

import pytest

from mlpop.config.files.study import Choices, FloatRange, IntRange, StudyConfig
from mlpop.errors import ConfigError

BASE = {"base": "experiments/main.json"}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"n_trial": 3}, "n_trial: unknown field; did you mean 'n_trials'?"),
    ({"n_trials": 0}, "n_trials: must be at least 1, found 0"),
    ({"storage": "study.db"}, "storage: must be a URL such as sqlite:///study.db"),
    (
        {"use_default_space": False},
        "space: must not be empty when use_default_space is false",
    ),
    (
        {"second_objective": "seconds", "pruner": {"type": "median"}},
        "pruner.type: must be 'none' with a second_objective",
    ),
    ({"dataset": {"folder": "a", "run": "b"}}, "dataset.run: must be null when folder is given"),
    ({"dataset": {"rounds": [0]}}, "dataset.rounds: selects rounds of run, which is not given"),
    ({"base": 3}, "base: must be"),
    ({"sampler": {"type": "tpo"}}, "sampler.type: must be one of 'tpe', 'random'"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_study_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        StudyConfig.parse(BASE | change, "study.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith("study.json: ")


def test_resolved_study_parses_to_the_same() -> None:
    space = {
        "a": {"type": "float", "low": 0.1, "high": 1, "when": {"b": ["x", None]}},
        "b": {"type": "categorical", "choices": ["x", 1, 2.5, True, None]},
        "c": {"type": "int", "low": 1, "high": 9, "step": 2},
    }
    config = StudyConfig.parse(BASE | {"space": space})
    kinds = {path: type(dimension) for path, dimension in config.space.items()}
    assert kinds == {"a": FloatRange, "b": Choices, "c": IntRange}
    assert StudyConfig.parse(config.resolved()).resolved() == config.resolved()
    assert config.space["a"].conditions() == {"b": ("x", None)}


def test_pruner_depends_on_the_objectives() -> None:
    assert StudyConfig.parse(BASE).pruning.type == "median"
    assert StudyConfig.parse(BASE | {"second_objective": "seconds"}).pruning.type == "none"
