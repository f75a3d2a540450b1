"""Sets of parameters: golden 14 and the errors of generator.md 7.1."""

from pathlib import Path

import numpy as np
import pytest

from mlpop.datasets.parameter_sets import SamplingType, sample_parameters, write_parameter_sets
from mlpop.errors import ConfigError

BOX = {"h_c": [0.1, 1.0], "sigma_k": [100.0, 400.0], "a_late": [-3.0, -1.0]}
DRAWN: tuple[SamplingType, ...] = ("random", "lhs", "sobol")


def draw(kind: SamplingType, size: int, seed: int = 1) -> np.ndarray:
    return sample_parameters(kind, BOX, np.random.default_rng(seed), sampling_size=size).theta


def test_grid_golden_14() -> None:
    rng = np.random.default_rng(0)
    one = sample_parameters("grid", {"h_c": [0.1, 1.0, 5]}, rng)
    np.testing.assert_allclose(one.theta[:, 0], [0.1, 0.325, 0.55, 0.775, 1.0], atol=1e-15)
    two = sample_parameters("grid", {"h_c": [0.1, 1.0, 5], "sigma_k": [1, 10, 10]}, rng)
    assert (two.labels, len(two)) == (("h_c", "sigma_k"), 50)
    np.testing.assert_allclose(two.theta[:11, 1], [*range(1, 11), 1])
    np.testing.assert_allclose(two.theta[9:11, 0], [0.1, 0.325])


@pytest.mark.parametrize("kind", DRAWN)
def test_draws_fill_the_box_and_depend_on_the_seed_alone(kind: SamplingType) -> None:
    theta = draw(kind, 700)
    low, high = (np.array([values[k] for values in BOX.values()]) for k in (0, 1))
    assert theta.shape == (700, 3)
    assert (theta >= low).all()
    assert (theta <= high).all()
    unit = (theta - low) / (high - low)
    np.testing.assert_allclose(unit.mean(axis=0), 0.5, atol=0.04)
    np.testing.assert_allclose(unit.std(axis=0), 12**-0.5, atol=0.02)
    assert np.abs(np.corrcoef(unit.T) - np.eye(3)).max() < 0.12
    np.testing.assert_array_equal(theta, draw(kind, 700))
    assert not np.array_equal(theta, draw(kind, 700, seed=2))


def test_latin_hypercube_has_one_draw_a_stratum() -> None:
    strata = np.floor((draw("lhs", 50)[:, 0] - 0.1) / 0.9 * 50).astype(int)
    assert sorted(strata) == [*range(50)]


def test_sobol_is_balanced_and_longer_runs_begin_alike() -> None:
    halves = draw("sobol", 64)[:, 1] < 250
    assert halves.sum() == 32
    np.testing.assert_array_equal(draw("sobol", 64)[:40], draw("sobol", 40))
    np.testing.assert_array_equal(draw("random", 64)[:40], draw("random", 40))
    assert len(draw("sobol", 1)) == 1


@pytest.mark.parametrize(
    ("kind", "parameters", "size", "message"),
    [
        ("grid", {"h_c": [0.1, 1.0]}, None, r"parameters.h_c: must be \[low, high, steps\]"),
        ("random", {"h_c": [0.1, 1.0, 5]}, 3, r"parameters.h_c: must be \[low, high\] for"),
        ("random", {"h_c": [0.1, 1.0]}, None, "sampling_size: must be at least 1"),
        ("lhs", {"h_c": [0.1, 1.0]}, 0, "sampling_size: must be at least 1"),
        ("grid", {"h_c": [0.1, 1.0, 5]}, 5, "sampling_size: must be null for a grid"),
        ("grid", {"h_c": [0.1, 1.0, 1]}, None, "whole number of steps, at least 2"),
        ("grid", {"h_c": [0.1, 1.0, 2.5]}, None, "whole number of steps, at least 2"),
        ("sobol", {"h_c": [1.0, 1.0]}, 3, "must have finite low < high"),
        ("sobol", {"h_c": [0.0, float("inf")]}, 3, "must have finite low < high"),
        ("random", {}, 3, "must name at least one parameter"),
    ],
)
def test_wrong_ranges_are_refused(
    kind: SamplingType, parameters: dict[str, list[float]], size: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        sample_parameters(kind, parameters, np.random.default_rng(0), sampling_size=size)


def test_parameter_sets_are_written_with_their_seeds(tmp_path: Path) -> None:
    sets = sample_parameters("random", BOX, np.random.default_rng(3), sampling_size=3)
    write_parameter_sets(tmp_path / "p.csv", sets, ["7:0", "7:1", "7:2"])
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "index,h_c,sigma_k,a_late,seed"
    index, *values, seed = lines[2].split(",")
    assert (index, seed) == ("1", "7:1")
    assert [float(value) for value in values] == sets.theta[1].tolist()
    with pytest.raises(ConfigError, match="2 seeds for 3 parameter sets"):
        write_parameter_sets(tmp_path / "p.csv", sets, [1, 2])


def test_a_list_is_taken_as_it_is() -> None:
    rng = np.random.default_rng(0)
    values = {"h_c": [0.3, 0.1, 0.2], "sigma_k": [5.0, 6.0, 5.0]}
    sets = sample_parameters("list", values, rng)
    np.testing.assert_array_equal(sets.theta, [[0.3, 5.0], [0.1, 6.0], [0.2, 5.0]])
    assert len(sample_parameters("list", {"h_c": [0.3]}, rng)) == 1
    for wrong, size, message in (
        ({"h_c": [0.3], "sigma_k": [1.0, 2.0]}, None, r"parameters\.sigma_k: .* 1 here"),
        ({"h_c": []}, None, r"parameters\.h_c: .* 1 here"),
        ({"h_c": [float("inf")]}, None, "finite"),
        (values, 3, "sampling_size: must be null for a list"),
    ):
        with pytest.raises(ConfigError, match=message):
            sample_parameters("list", wrong, rng, sampling_size=size)
