"""The prior of an experiment, for the labels of its training set."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.loading import Dataset
from mlpop.errors import ConfigError, DataError
from mlpop.experiment.inputs.problem import (
    LearningProblem,
    configured_prior,
    write_training_arrays,
)
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.prior import Prior


def test_labels_must_be_those_of_the_data_S15(
    vectors: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    config = SbiConfig.parse(vectors(tmp_path, training_data_loader__standardize=False))
    labels = tuple(config.prior_ranges.labels)
    assert configured_prior(config, {}, labels).labels == labels
    with pytest.raises(ConfigError, match=r"\['theta_1', 'theta_2'\].*\['theta_2', 'theta_1'\]"):
        configured_prior(config, {}, labels[::-1])


@pytest.mark.parametrize("mode", ["standardize", "normalize", "none"])
def test_arrays_written_by_blocks_are_the_same_bits(
    mode: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training set that does not fit into memory gives the same arrays, and the same digest."""
    rng = np.random.default_rng(4)
    prior = Prior(("a", "b"), (-1.0, -1.0), (1.0, 1.0))
    x = rng.random((1500, 2, 4, 4), dtype=np.float32)
    data = Dataset(rng.uniform(-1, 1, (1500, 2)), x, ("a", "b"), ("c", "d"), tmp_path / "d.csv")
    problem = LearningProblem(prior, data.channels, Preprocessing(mode))
    whole = write_training_arrays(tmp_path / "whole", problem, data)
    monkeypatch.setattr("mlpop.io.scratch.BLOCK", 1000)
    parts = write_training_arrays(tmp_path / "parts", problem, data)
    assert (parts.digest, parts.x_shape, parts.count) == (whole.digest, (2, 4, 4), 1500)
    assert parts.x_path.read_bytes() == whole.x_path.read_bytes()
    content = (np.load(whole.theta_path), np.load(whole.x_path))
    assert whole.digest == hashlib.sha256(b"".join(a.tobytes() for a in content)).hexdigest()
    np.testing.assert_array_equal(content[1], problem.preprocessing(x).numpy())
    alike = replace(data, x=np.repeat(x[:1], 1500, axis=0))
    with pytest.raises(DataError, match="there is nothing to learn from"):
        write_training_arrays(tmp_path / "alike", problem, alike)
    # one that differs, in the last block
    alike.x[-1, 0, 0, 0] += 1
    write_training_arrays(tmp_path / "last", problem, alike)
