"""The search space: what is refused before the first trial, and what a trial is asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from mlpop.commands.study import run_study
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.study import StudyConfig
from mlpop.errors import ConfigError
from mlpop.study.space import applied, base_point, default_space, search_space, suggest
from mlpop.tracking import connect, find, flatten

Values = dict[str, Any]
LR: Values = {"type": "float", "low": 1e-4, "high": 1e-2}
MODEL: Values = {"type": "categorical", "choices": ["mdn", "maf"]}
MIXTURE = "density_estimator.args.num_components"
COUNT: Values = {"type": "int", "low": 1, "high": 20}

WRONG: dict[str, tuple[Values, str]] = {
    "unknown field": (
        {"trainer.lrr": LR},
        "space.trainer.lrr: unknown field of the experiment; did you mean 'trainer.lr'?",
    ),
    "unknown block": ({"trainr.lr": LR}, "did you mean 'trainer.lr'?"),
    "bare name": ({"hidden_features": COUNT}, "'density_estimator.args.hidden_features'?"),
    "a block": ({"density_estimator.args": COUNT}, "is a block, search its fields"),
    "no embedding": ({"arch.args.len_output_layer": COUNT}, "arch is null in the base"),
    "the data": ({"training_data_loader.num_sim": COUNT}, "cannot be searched: "),
    "the split": ({"trainer.validation_fraction": LR}, "cannot be searched: "),
    "empty range": (
        {"trainer.lr": LR | {"low": 0.1}},
        "space.trainer.lr.low: the range is empty: must be less than high = 0.01, found 0.1",
    ),
    "no choices": (
        {"density_estimator.type": {"type": "categorical", "choices": []}},
        "choices: must have at least 1 entry",
    ),
    "a choice twice": (
        {"density_estimator.type": {"type": "categorical", "choices": ["mdn", "mdn"]}},
        "must be unique, found 'mdn' again",
    ),
    "log of zero": (
        {"trainer.lr": LR | {"low": 0.0, "log": True}},
        "must be greater than 0 when log is true",
    ),
    "float for a whole number": (
        {"trainer.batch_size": {"type": "float", "low": 8, "high": 31}},
        "space.trainer.batch_size: 8.0 does not fit: must be an integer",
    ),
    "number for a word": ({"density_estimator.type": COUNT}, "1 does not fit: must be one of"),
    "word for a number": (
        {"trainer.lr": {"type": "categorical", "choices": ["small", "large"]}},
        "'small' does not fit: must be a number",
    ),
    "out of the field's bounds": (
        {"trainer.lr": LR | {"low": -1.0}},
        "-1.0 does not fit: must be greater than 0",
    ),
    "wrong choice": (
        {"density_estimator.type": {"type": "categorical", "choices": ["mdn", "mfa"]}},
        "'mfa' does not fit: must be one of 'mdn', 'maf', 'nsf', ",
    ),
    "text as bound": ({"trainer.lr": LR | {"low": "small"}}, "low: must be a number"),
    "unknown type": ({"trainer.lr": LR | {"type": "real"}}, "space.trainer.lr: "),
    "unknown key": ({"trainer.lr": LR | {"lov": 1}}, "did you mean 'low'?"),
    "without the user's own value": (
        {"trainer.lr": LR | {"high": 1e-3}},
        "must hold 0.005, the value of the base experiment, which is the first trial",
    ),
    "condition that is never met": (
        {MIXTURE: COUNT | {"when": {"density_estimator.type": "maf"}}},
        "when.density_estimator.type: is 'mdn' in the base experiment and not searched, never "
        "'maf', so this is never searched",
    ),
    "condition on a value that is not searched": (
        {
            "density_estimator.type": MODEL,
            MIXTURE: COUNT | {"when": {"density_estimator.type": "nsf"}},
        },
        "when.density_estimator.type: can never be 'nsf', so this is never searched; "
        "density_estimator.type is one of 'mdn', 'maf'",
    ),
    "condition on an unknown field": (
        {MIXTURE: COUNT | {"when": {"density_estimator.kind": "mdn"}}},
        "when.density_estimator.kind: unknown field of the experiment; did you mean",
    ),
    "condition on itself": ({MIXTURE: COUNT | {"when": {MIXTURE: 3}}}, "depends on itself"),
    "conditions in a circle": (
        {
            MIXTURE: COUNT | {"when": {"trainer.batch_size": 20}},
            "trainer.batch_size": COUNT | {"high": 30, "when": {MIXTURE: 2}},
        },
        "depends on itself",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_space_is_refused_before_anything_starts(
    case: str, study_values: Callable[..., Values], at_work: Path, tmp_path: Path
) -> None:
    space, message = WRONG[case]
    values = study_values(tmp_path / "output", name=f"wrong-{case}", space=space)
    with pytest.raises(ConfigError) as caught:
        run_study(StudyConfig.parse(values, "study.json"), "study.json")
    text = str(caught.value)
    assert text.startswith("study.json: space.")
    assert message in text
    lines = text.splitlines()
    assert len(lines) == (2 if case == "conditions in a circle" else 1)
    assert not (tmp_path / "output" / "logs").exists()
    assert find(connect(), {"mlpop.kind": "study", "mlpop.name": f"wrong-{case}"}) == []


@pytest.fixture
def pulsars(smoke: Callable[..., Values], tmp_path: Path) -> SbiConfig:
    return SbiConfig.parse(smoke(tmp_path))


def test_default_space_covers_embedding_estimator_and_training(pulsars: SbiConfig) -> None:
    space = search_space(pulsars, {})
    assert set(space) == {
        "arch.type",
        "arch.args.len_output_layer",
        "density_estimator.type",
        "density_estimator.args.hidden_features",
        "density_estimator.args.num_components",
        "density_estimator.args.num_transforms",
        "trainer.lr",
        "trainer.batch_size",
    }
    # the smoke experiment's batch of 4 is smaller than the default range
    assert space["trainer.batch_size"].low == 4
    point = base_point(space, flatten(pulsars.resolved()))
    assert point["trainer.batch_size"] == 4
    assert "density_estimator.args.num_transforms" not in point
    assert SbiConfig.parse(applied(pulsars.resolved(), point)) == SbiConfig.parse(
        pulsars.resolved()
    )


def test_maps_that_are_too_small_rule_architectures_out(pulsars: SbiConfig) -> None:
    values = applied(
        pulsars.resolved(),
        {"arch.args.input_shape": [6, 8, 8], "generator.resolution_ppdot": 8},
    )
    space = default_space(SbiConfig.parse(values))
    assert set(space["arch.type"].choices) == {"ModelConvSBI", "ModelConvSBIshallow"}


def test_own_dimension_goes_before_the_default_and_rules_its_branch_out(
    pulsars: SbiConfig,
) -> None:
    own = StudyConfig.parse(
        {"base": {}, "space": {"density_estimator.type": MODEL | {"choices": ["mdn"]}}}
    ).space
    space = search_space(pulsars, own)
    assert "density_estimator.args.num_transforms" not in space
    assert "density_estimator.args.num_components" in space


def test_every_sampled_point_is_an_experiment(pulsars: SbiConfig) -> None:
    space = search_space(pulsars, {})
    values = pulsars.resolved()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    models = set()
    for _ in range(40):
        point = suggest(study.ask(), space, flatten(values))
        config = SbiConfig.parse(applied(values, point))
        models.add(config.density_estimator.type)
        maf = config.density_estimator.type == "maf"
        assert ("density_estimator.args.num_transforms" in point) == maf
        assert ("density_estimator.args.num_components" in point) != maf
    assert models == {"mdn", "maf"}


def test_class_of_ones_own_keeps_its_arguments(
    smoke: Callable[..., Values], tmp_path: Path
) -> None:
    arch = {"type": "my_networks:Tiny", "args": {"input_shape": [6, 32, 32], "width": 4}}
    base = SbiConfig.parse(smoke(tmp_path, arch=arch))
    assert not {path for path in default_space(base) if path.startswith("arch.")}
    own = StudyConfig.parse({"base": {}, "space": {"arch.args.width": COUNT}}).space
    space = search_space(base, own)
    assert base_point(space, flatten(base.resolved()))["arch.args.width"] == 4
    trial = SbiConfig.parse(applied(base.resolved(), {"arch.args.width": 7}))
    assert trial.arch is not None
    assert trial.arch.arguments() == {"input_shape": (6, 32, 32), "width": 7}
