"""x that float32 cannot tell apart are float64 until their units fit; all others are float32."""

from pathlib import Path

import numpy as np
import pytest

from mlpop.datasets.loading import load_dataset, load_observed
from mlpop.datasets.precision import InputUnits, float32_holds, poor_channels
from mlpop.datasets.shards import SimulationRow, write_shard
from mlpop.errors import DataError
from mlpop.inference.posteriors.preprocessing import Preprocessing

RNG = np.random.default_rng(5)
ONE = RNG.normal(size=(200, 2))
MAPS = RNG.normal(size=(20, 1, 4, 4))

WIDE = {
    "tiny": (0.0, 1e-16),
    "tinier than float32": (0.0, 1e-60),
    "large": (0.0, 1e25),
    "an offset": (1e9, 1.0),
    "a date": (60000.0, 1e-3),
    "a negative offset": (-3e12, 1e2),
}
NARROW = {"plain": (0.0, 1.0), "small": (0.0, 1e-6), "shifted": (100.0, 1.0), "big": (0.0, 1e9)}


def write(folder: Path, x: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "x.npy", x[:, 0])
    rows = "".join(f"x.npy#{k},{k}\n" for k in range(len(x)))
    (folder / "dataset_full.csv").write_text("input:x,t\n" + rows)
    return folder / "dataset_full.csv"


@pytest.mark.parametrize("case", [*WIDE, *NARROW])
@pytest.mark.parametrize("unit", [ONE[:, :1], MAPS], ids=["numbers", "maps"])
def test_no_units_change_what_networks_see(case: str, unit: np.ndarray, tmp_path: Path) -> None:
    offset, width = (WIDE | NARROW)[case]
    data = load_dataset(write(tmp_path / "given", offset + width * unit))
    assert (data.x.dtype == np.float64) == (case in WIDE)
    seen = Preprocessing("none", units=InputUnits.fit(data.x))(data.x).numpy()
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, (unit - unit.mean()) / unit.std(), atol=2e-3)
    one = load_observed(write(tmp_path / "observed", (offset + width * unit)[:1]))
    np.testing.assert_array_equal(one.x, (offset + width * unit)[:1])


@pytest.mark.parametrize("mode", ["standardize", "normalize"])
@pytest.mark.parametrize("case", list(WIDE))
def test_maps_scaled_by_their_own_pixels_keep_their_pattern(
    case: str, mode, tmp_path: Path
) -> None:
    offset, width = WIDE[case]
    data = load_dataset(write(tmp_path, offset + width * MAPS))
    seen = Preprocessing(mode, units=InputUnits.fit(data.x))(data.x)
    expected = Preprocessing(mode)(MAPS)
    np.testing.assert_allclose(seen, expected, atol=5e-3)


def test_a_constant_column_is_shifted_and_stays_small() -> None:
    x = np.stack([np.full(5, 7e20), np.arange(5.0)], 1)
    units = InputUnits.fit(x)
    assert units.scale[0] == 7e20
    np.testing.assert_array_equal(units(x)[:, 0], 0.0)
    assert InputUnits.from_dict(units.to_dict()) == units


@pytest.mark.parametrize(
    "values",
    [{}, {"shift": [0.0], "scale": [0.0]}, {"shift": [0.0], "scale": [1.0, 1.0]}, {"shift": 3}],
)
def test_broken_units_are_refused(values: dict) -> None:
    with pytest.raises(DataError, match="units of x"):
        InputUnits.from_dict(values)


def test_units_survive_a_file(tmp_path: Path) -> None:
    made = Preprocessing("none", units=InputUnits.fit(1e9 + ONE))
    again = Preprocessing.load(tmp_path, made.save(tmp_path))
    np.testing.assert_array_equal(again(1e9 + ONE), made(1e9 + ONE))


@pytest.mark.parametrize("value", [3.5e38, -1e40, 1e300])
def test_a_simulation_beyond_float32_is_invalid_and_names_the_channel(
    value: float, tmp_path: Path
) -> None:
    rows = [
        SimulationRow(index=k, seed="s", maps={"a": np.array(float(k)), "b": np.array(v)})
        for k, v in enumerate((1.0, value, 3.4e38))
    ]
    record = write_shard(tmp_path, 0, rows)
    assert [row.status for row in record.rows] == ["ok", "invalid", "ok"]
    assert record.rows[1].message.startswith("b: values beyond 3.4e+38")


def test_a_given_number_beyond_float32_is_refused_by_row(tmp_path: Path) -> None:
    csv = write(tmp_path, np.array([[1.0], [2.0], [1e39]]))
    with pytest.raises(DataError, match=r"row 2, column 'input:x': the map has values beyond"):
        load_dataset(csv)


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**62, -(2**63)])
def test_a_whole_number_that_no_float_tells_apart_is_refused(tmp_path: Path, number: int) -> None:
    csv = write(tmp_path, np.array([[1], [2**53], [number]]))
    with pytest.raises(DataError, match="row 2, column .*or whole numbers beyond 9e"):
        load_dataset(csv)
    row = SimulationRow(0, "1", maps={"x": np.array(number)})
    (judged,) = write_shard(tmp_path, 0, [row]).rows
    assert judged.status == "invalid"


@pytest.mark.parametrize("share", [0.005, 0.05, 0.15])
@pytest.mark.parametrize("size", [1e6, 1e30])
def test_outliers_are_told_however_many(share: float, size: float) -> None:
    x = RNG.normal(size=(1000, 2))
    x[RNG.random(1000) < share, 1] *= size
    assert set(poor_channels(x, ["good", "heavy"])) == {"heavy"}


def test_channels_that_show_nothing_are_told() -> None:
    spiked = ONE[:, 0].copy()
    spiked[7] = 1e9
    x = np.stack([ONE[:, 0], np.full(200, 3.5), spiked, RNG.poisson(0.01, 200)], 1)
    found = poor_channels(x, ["good", "constant", "spiked", "rare"])
    assert set(found) == {"constant", "spiked"}
    assert found["constant"] == "is 3.5 in all 200 simulations"
    assert "networks that scale it by its standard deviation hardly see it vary" in found["spiked"]


def test_what_float32_holds() -> None:
    assert float32_holds(np.ones((5, 2)), (0,))
    assert float32_holds(np.empty((0, 2)), (0,))
    assert not float32_holds(np.array([[0.0], [1e-20]]), (0,))
