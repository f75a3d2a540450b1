"""What is refused before anything is written: distributions whose reach only their class knows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ConfigError
from mlpop.experiment.inputs.checks import check_inputs

Values = dict[str, Any]
WIDTH = "B_initial_log10_sigma"


@pytest.fixture
def with_own(smoke: Callable[..., Values], tmp_path: Path) -> Callable[..., SbiConfig]:
    """Make an experiment on pulsars with a distribution of the user's for a width."""

    def make(type_: str, truth: float = 0.5, **args: float) -> SbiConfig:
        ranges = {
            "labels": ["B_initial_log10_mean", WIDTH],
            "low": [12, None],
            "high": [14, None],
            "distributions": {WIDTH: {"type": type_, "args": args}},
        }
        theta = {"B_initial_log10_mean": 13.1, WIDTH: truth}
        values = smoke(tmp_path, prior_ranges=ranges, observed_sample__synthetic={"theta": theta})
        return SbiConfig.parse(values)

    return make


@pytest.mark.parametrize(
    ("type_", "args"),
    [
        ("scipy.stats:gamma", {"a": 4, "scale": 0.1}),
        # its edge is 0, which no draw has
        ("scipy.stats:beta", {"a": 2, "b": 2}),
    ],
)
def test_a_distribution_of_the_users_that_the_simulator_takes(
    with_own: Callable[..., SbiConfig], type_: str, args: dict[str, float]
) -> None:
    check_inputs(with_own(type_, **args))


def test_a_distribution_of_the_users_that_reaches_too_far(
    with_own: Callable[..., SbiConfig],
) -> None:
    with pytest.raises(
        ConfigError, match=f"distributions.{WIDTH}: reaches -0.02.*must be greater than 0"
    ):
        check_inputs(with_own("scipy.stats:norm", loc=0.5, scale=0.1))


def test_a_truth_outside_the_users_distribution(with_own: Callable[..., SbiConfig]) -> None:
    config = with_own("scipy.stats:beta", 1.2, a=2, b=2)
    with pytest.raises(
        ConfigError,
        match=rf"synthetic\.theta\.{WIDTH}: must lie in the prior range \[0, 1\], found 1.2",
    ):
        check_inputs(config)


def test_no_distribution_at_all(with_own: Callable[..., SbiConfig]) -> None:
    with pytest.raises(ConfigError, match=f"distributions.{WIDTH}: 'scipy.stats:poisson' must"):
        check_inputs(with_own("scipy.stats:poisson", mu=3))
