"""The prior of an experiment, for the labels of its training set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ConfigError
from mlpop.experiment.inputs.problem import configured_prior


def test_labels_must_be_those_of_the_data_S15(
    vectors: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    config = SbiConfig.parse(vectors(tmp_path, training_data_loader__standardize=False))
    labels = tuple(config.prior_ranges.labels)
    assert configured_prior(config, {}, labels).labels == labels
    with pytest.raises(ConfigError, match=r"\['theta_1', 'theta_2'\].*\['theta_2', 'theta_1'\]"):
        configured_prior(config, {}, labels[::-1])
