"""Files of the reference are taken as they are; what they ask for differently is refused."""

import logging
from typing import Any

import pytest
from config_documents import GIVEN, SIMULATED, TUTORIAL, changed

from mlpop.config.files.regression import RegressionConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ConfigError

Values = dict[str, Any]

AS_SHIPPED: Values = {
    "test_data_loader.statistic_path": "tutorial/data/statistics_train.json",
    "test_data_loader.filter_inputs": [9, 10, 11],
    "test_data_loader.filter_labels": [15, 16],
    "test_data_loader.normalize": False,
    "test_data_loader.standardize": True,
    "observed_sample.filter_labels": [15, 16],
    "trainer.mcmc_sampler": {"type": "nuts", "num_chains": 20, "thin": 5},
}
"""What the reference's files have beside the documented fields."""


def shipped(**changes: Any) -> Values:
    """Return the tutorial's file as the reference ships it; `a__b=1` sets field a.b."""
    values = changed(TUTORIAL, AS_SHIPPED)
    del values["mcmc_sampler"]
    for name in ("training_data_loader", "test_data_loader"):
        loader = values[name]
        loader["dataset_path_first_round"] = loader.pop("dataset_path_round_0")
    return changed(values, {path.replace("__", "."): value for path, value in changes.items()})


def test_a_file_of_the_reference_is_that_of_the_documents(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = SbiConfig.parse(shipped(), "reference.json")
    documented = SbiConfig.parse(changed(TUTORIAL, {"mcmc_sampler.type": "nuts"}))
    assert config == documented
    (warning,) = caplog.messages
    for name in (*AS_SHIPPED, "reference.json", "training_data_loader.dataset_path_first_round"):
        assert name in warning


def test_documented_files_give_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    for values in (GIVEN, SIMULATED, TUTORIAL):
        config = SbiConfig.parse(values)
        assert SbiConfig.parse(config.resolved()) == config
    assert not caplog.messages


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("statistic_path", "other.json", "tutorial/data/statistics_train.json"),
        ("filter_inputs", [9, 10, 12], r"\[9, 10, 11\]"),
        ("filter_inputs", [11, 10, 9], r"\[9, 10, 11\]"),
        ("filter_labels", [16, 15], r"\[15, 16\]"),
        ("normalize", True, "false"),
        ("standardize", False, "true"),
        ("standardize", 1, "true"),
    ],
)
def test_test_data_must_be_as_in_training(field: str, value: Any, wanted: str) -> None:
    values = shipped(**{f"test_data_loader__{field}": value})
    message = rf"test_data_loader\.{field}: must be as in training_data_loader \('?{wanted}"
    with pytest.raises(ConfigError, match=message):
        SbiConfig.parse(values)


def test_defaults_of_training_count(caplog: pytest.LogCaptureFixture) -> None:
    same = {"standardize": True, "normalize": False, "filter_labels": None}
    changes = {f"test_data_loader.{name}": value for name, value in same.items()}
    assert SbiConfig.parse(changed(GIVEN, changes)) == SbiConfig.parse(GIVEN)
    assert "test_data_loader.standardize" in caplog.text


def test_columns_are_the_same_with_and_without_their_prefix() -> None:
    names = ["a_ppdot_map", "b_ppdot_map", "c_ppdot_map"]
    values = changed(
        GIVEN,
        {
            "training_data_loader.filter_inputs": names,
            "test_data_loader.filter_inputs": [f"input:{name}" for name in names],
        },
    )
    SbiConfig.parse(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training_data_loader__dataset_path_round_0": "elsewhere"},
            r"training_data_loader\.dataset_path_first_round: is another name of dataset_path_r",
        ),
        ({"mcmc_sampler": {"type": "hmc"}}, r"trainer\.mcmc_sampler: differs from mcmc_sampler"),
        ({"observed_sample__filter_labels": "all"}, r"observed_sample\.filter_labels: must be a"),
        ({"trainer__mcmc_sampler": {"typ": "hmc"}}, r"mcmc_sampler\.typ: unknown field"),
        ({"test_data_loader__shuffle": True}, r"test_data_loader\.shuffle: unknown field"),
        ({"n_workers": 3}, "n_workers: is another name of workers_dask"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: Values, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SbiConfig.parse(shipped(**changes))


def test_all_that_is_wrong_is_told_together() -> None:
    values = shipped(test_data_loader__standardize=False, trainer__lr=-1.0)
    with pytest.raises(ConfigError) as refused:
        SbiConfig.parse(values, "x.json")
    assert [line.split(": ")[1] for line in str(refused.value).splitlines()] == [
        "test_data_loader.standardize",
        "trainer.lr",
    ]


@pytest.mark.parametrize("sampler", ["hmc", {"type": "hmc"}, {"type": "hmc", "thin": 25}])
def test_the_sampler_of_the_trainer(sampler: Any) -> None:
    config = SbiConfig.parse(shipped(trainer__mcmc_sampler=sampler))
    assert config.mcmc_sampler.type == "hmc"
    assert config.mcmc_sampler.thin == (25 if "thin" in sampler else 5)


@pytest.mark.parametrize("method", ["snle", "snre"])
def test_nuts_is_refused_where_chains_are_drawn_B7(method: str) -> None:
    vectors = {"compression_input": {"use_compression": True, "pca_model_path": "p.npz"}}
    vectors["compression_input"]["compression_type"] = "pca"
    values = shipped(**vectors, trainer__type=method)
    with pytest.raises(ConfigError, match=r"mcmc_sampler\.type: 'nuts' is not there.*take 'hmc'"):
        SbiConfig.parse(values)
    SbiConfig.parse(changed(values, {"trainer.mcmc_sampler.type": "slice"}))


# --- networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [{"resume": False}, {}, {"resume": False, "last_epoch": 3}])
def test_a_resume_block_that_asks_for_nothing(
    block: Values, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        config = RegressionConfig.parse({"resume_training": block}, "nn.json")
    assert config == RegressionConfig.parse({})
    assert caplog.messages == [
        "nn.json: fields of the reference that change nothing here: resume_training "
        "(resume is false)"
    ]


@pytest.mark.parametrize("asked", [True, "no", 1, None])
def test_a_resume_that_is_asked_for_is_refused_with_a_hint(asked: Any) -> None:
    with pytest.raises(ConfigError, match=r"resume_training\.resume: .*train-nn --resume RUN_ID"):
        RegressionConfig.parse({"resume_training": {"resume": asked}})
