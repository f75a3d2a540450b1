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
from mlpop.datasets.scaling import label_statistics
from mlpop.errors import ConfigError, DataError
from mlpop.experiment.inputs.problem import (
    LearningProblem,
    configured_prior,
    learning_problem,
    logged_channels,
    write_training_arrays,
)
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.prior import Prior
from mlpop.io.files import write_json


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


def with_logs(smoke: Callable[..., dict[str, Any]], folder: Path, **changes: Any) -> SbiConfig:
    return SbiConfig.parse(smoke(folder, training_data_loader__log_counts=True, **changes))


def test_logs_are_those_of_counts_alone(
    smoke: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    channels = (
        *("survey_PMPS_ppdot_map_fluxes", "survey_PMPS_ppdot_map", "position_map_xy"),
        *("survey_SMPS_velocity_map_vra", "velocity_map_xy_vr", "survey_SMPS_position_map_radec"),
    )
    config = with_logs(smoke, tmp_path)
    assert logged_channels(config, channels) == (1, 2, 5)
    assert logged_channels(SbiConfig.parse(smoke(tmp_path)), channels) == ()
    with pytest.raises(ConfigError, match="log_counts: must be false, since no chosen map"):
        logged_channels(config, channels[:1])


def test_units_are_those_of_the_logs(smoke: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Counts that float32 cannot tell apart: it is their logs that are shifted and scaled."""
    config = with_logs(smoke, tmp_path)
    labels = tuple(config.prior_ranges.labels)
    rng = np.random.default_rng(2)
    theta = rng.uniform(config.prior_ranges.low, config.prior_ranges.high, (50, len(labels)))
    x = 1e9 + rng.random((50, 2, 4, 4))
    names = ("survey_PMPS_ppdot_map", "survey_PMPS_ppdot_map_fluxes")
    data = Dataset(theta, x, labels, names, tmp_path / "d.csv")
    statistics = tmp_path / "statistics.json"
    write_json(statistics, label_statistics(theta, labels))
    problem = learning_problem(config, data, statistics)
    units = problem.preprocessing.units
    assert problem.preprocessing.logged == (0,)
    assert units is not None
    assert units.shift[0] == pytest.approx(np.log1p(x[:, 0]).mean(), rel=1e-12)
    assert units.shift[1] == pytest.approx(x[:, 1].mean(), rel=1e-12)
    seen = problem.preprocessing(x).numpy()
    np.testing.assert_allclose(seen[:, 0].std((1, 2)), 1, rtol=1e-5)
