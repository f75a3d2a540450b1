"""Datasets of shards: rows, manifest, statistics, success, digest."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.datasets.dataset import assemble, dataset_digest, read_generator
from mlpop.datasets.loading import load_dataset
from mlpop.datasets.shards import ShardRecords, SimulationRow, finished_shards, write_shard
from mlpop.errors import DataError
from mlpop.io.files import read_csv

Make = Callable[..., Path]
LABELS = ["u", "v"]


def theta(n: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(n, 2))


def simulate(folder: Path, statuses: list[str], **info: object) -> None:
    rows = [
        SimulationRow(
            index,
            f"1:{index}",
            status=status,  # type: ignore[arg-type]
            attempts=2,
            seconds=1.25,
            message="" if status in ("ok", "limit") else f"reason of {status}",
            info={"birth_rate": {"PMPS": 1.5, "SMPS": None}, "n_created": 7} | info,
            maps={"a": np.full((2, 2), float(index))} if status in ("ok", "limit") else {},
        )
        for index, status in enumerate(statuses)
    ]
    for start in range(0, len(rows), 3):
        write_shard(folder, start // 3, rows[start : start + 3])


def test_only_usable_rows_enter_the_index_file(tmp_path: Path) -> None:
    simulate(tmp_path, ["ok", "failed", "limit", "timeout", "ok", "invalid"])
    made = assemble(tmp_path, LABELS, theta(6), ["a"], finished_shards(tmp_path).values())
    assert made.indices == (0, 2, 4)
    assert made.counts == {"ok": 2, "limit": 1, "failed": 1, "timeout": 1, "invalid": 1}
    header, rows = read_csv(tmp_path / "dataset_full.csv")
    assert header == ["input:a", "u", "v"]
    assert [r[0] for r in rows] == [
        "shards/shard-00000/a.npy#0",
        "shards/shard-00000/a.npy#1",
        "shards/shard-00001/a.npy#0",
    ]
    data = load_dataset(tmp_path / "dataset_full.csv")
    np.testing.assert_array_equal(data.theta, theta(6)[[0, 2, 4]])
    np.testing.assert_array_equal(data.x[:, 0, 0, 0], [0, 2, 4])


def test_statistics_are_those_of_the_usable_rows(tmp_path: Path) -> None:
    simulate(tmp_path, ["ok", "failed", "ok"])
    assemble(tmp_path, LABELS, theta(3), ["a"], finished_shards(tmp_path).values())
    statistics = json.loads((tmp_path / "statistics_full.json").read_text())
    assert statistics["u"]["mean"] == theta(3)[[0, 2], 0].mean()
    assert statistics["v"]["std"] == theta(3)[[0, 2], 1].std(ddof=0)


def test_manifest_has_a_row_a_simulation(tmp_path: Path) -> None:
    simulate(tmp_path, ["ok", "failed", "limit"])
    assemble(tmp_path, LABELS, theta(3), ["a"], finished_shards(tmp_path).values())
    header, rows = read_csv(tmp_path / "manifest.csv")
    assert header[:6] == ["index", "seed", "status", "attempts", "seconds", "message"]
    assert header[6:8] == ["theta:u", "theta:v"]
    assert header[8:] == ["birth_rate:PMPS", "birth_rate:SMPS", "n_created"]
    assert rows[1][:6] == ["1", "1:1", "failed", "2", "1.25", "reason of failed"]
    assert [float(v) for v in rows[1][6:8]] == theta(3)[1].tolist()
    assert rows[2][8:] == ["1.5", "", "7"]


def test_too_many_failures_are_refused_with_the_commonest_reasons(tmp_path: Path) -> None:
    simulate(tmp_path, ["ok", "failed", "timeout", "failed", "limit", "ok"])
    shards = finished_shards(tmp_path)
    with pytest.raises(
        DataError, match=r"3 of 6 .*0\.500 .*0\.9; .*: 2 x failed: reason of failed; 1 x timeout"
    ):
        assemble(tmp_path, LABELS, theta(6), ["a"], shards.values(), min_success_fraction=0.9)
    assert len(read_csv(tmp_path / "manifest.csv")[1]) == 6
    assert not (tmp_path / "dataset_full.csv").exists()
    assemble(tmp_path, LABELS, theta(6), ["a"], shards.values(), min_success_fraction=0.5)


def test_one_failure_in_twenty_does_not_stop_a_round(tmp_path: Path) -> None:
    simulate(tmp_path, ["ok"] * 13 + ["failed"] + ["ok"] * 6)
    made = assemble(
        tmp_path,
        LABELS,
        theta(20),
        ["a"],
        finished_shards(tmp_path).values(),
        min_success_fraction=0.95,
    )
    assert len(load_dataset(made.csv)) == 19
    assert read_csv(tmp_path / "manifest.csv")[1][13][2] == "failed"


def test_no_usable_simulation_is_an_error_at_any_fraction(tmp_path: Path) -> None:
    simulate(tmp_path, ["failed", "failed"])
    with pytest.raises(DataError, match="no usable simulation; commonest reasons: 2 x failed"):
        assemble(tmp_path, LABELS, theta(2), ["a"], finished_shards(tmp_path).values())


def test_shards_and_theta_must_belong_together(tmp_path: Path) -> None:
    simulate(tmp_path, ["ok"] * 6)
    shards = finished_shards(tmp_path)
    with pytest.raises(DataError, match="no finished shard holds the simulations 3, 4, 5"):
        assemble(tmp_path, LABELS, theta(6), ["a"], [shards[0]])
    with pytest.raises(DataError, match="simulation 0 is in shard-00000 and in shard-00000"):
        assemble(tmp_path, LABELS, theta(6), ["a"], [shards[0], *shards.values()])
    with pytest.raises(DataError, match="hold simulation 4, theta has 4 rows"):
        assemble(tmp_path, LABELS, theta(4), ["a"], shards.values())
    with pytest.raises(DataError, match=r"lacks the maps z; found a"):
        assemble(tmp_path, LABELS, theta(6), ["a", "z"], shards.values())
    with pytest.raises(DataError, match=r"shape \(6, 2\); expected \(N, 1\)"):
        assemble(tmp_path, ["u"], theta(6), ["a"], shards.values())


def test_digest_depends_on_the_content_alone(tmp_path: Path, make_dataset: Make) -> None:
    digest = dataset_digest(make_dataset(tmp_path / "one", per_shard=4))
    assert digest == dataset_digest(make_dataset(tmp_path / "two", per_shard=3))
    assert digest == dataset_digest(make_dataset(tmp_path / "one", per_shard=4))
    assert digest != dataset_digest(make_dataset(tmp_path / "seed", seed=6))
    assert digest != dataset_digest(make_dataset(tmp_path / "few", n=9))
    failed = make_dataset(tmp_path / "failed", failed={9: "x"})
    assert dataset_digest(failed) != dataset_digest(tmp_path / "few")


def test_digest_knows_how_simulations_ended(tmp_path: Path) -> None:
    digests = set()
    for k, statuses in enumerate((["ok", "failed"], ["ok", "timeout"], ["limit", "failed"])):
        folder = tmp_path / str(k)
        simulate(folder, statuses, birth_rate={"PMPS": float(k)})
        assemble(folder, LABELS, theta(2), ["a"], finished_shards(folder).values())
        digests.add(dataset_digest(folder))
    assert len(digests) == 3


def test_digest_of_single_files_is_that_of_packed_ones(tmp_path: Path, make_dataset: Make) -> None:
    packed = make_dataset(tmp_path / "packed", n=5)
    single = tmp_path / "single"
    single.mkdir()
    lines = (packed / "dataset_full.csv").read_text().splitlines()
    written = [lines[0]]
    for k, line in enumerate(lines[1:]):
        fields = line.split(",")
        for c, channel in enumerate("ab"):
            path, row = fields[c].split("#")
            np.save(single / f"{channel}_{k}.npy", np.load(packed / path)[int(row)])
            fields[c] = f"{channel}_{k}.npy"
        written.append(",".join(fields))
    (single / "dataset_full.csv").write_text("\n".join(written) + "\n")
    (single / "manifest.csv").write_bytes((packed / "manifest.csv").read_bytes())
    assert dataset_digest(single) == dataset_digest(packed)
    np.save(single / "b_3.npy", np.zeros((4, 3)))
    assert dataset_digest(single) != dataset_digest(packed)


def test_generator_is_kept_with_the_dataset(tmp_path: Path) -> None:
    simulate(tmp_path, ["ok", "ok"])
    generator = GeneratorConfig(resolution_ppdot=16, boundary="wrap_ra")
    shards = finished_shards(tmp_path)
    assert read_generator(tmp_path) is None
    assemble(tmp_path, LABELS, theta(2), ["a"], shards.values(), generator=generator)
    assert read_generator(tmp_path) == generator


def test_pictures_are_written_one_a_map(tmp_path: Path) -> None:
    maps = {"a": np.arange(12.0).reshape(4, 3)}
    write_shard(tmp_path, 0, [SimulationRow(0, "1"), SimulationRow(1, "2", maps=maps)])
    made = assemble(
        tmp_path,
        LABELS,
        theta(2),
        ["a"],
        finished_shards(tmp_path).values(),
        generator=GeneratorConfig(data_type="image"),
    )
    header, rows = read_csv(made.csv)
    assert rows[0][0] == "a_1.png"
    x = load_dataset(made.csv).x
    assert x.shape == (1, 1, 3, 4)
    assert x[0, 0, 0, 3] == 0, "the highest value is dark, right and up"


def test_numbers_in_files_read_back_to_the_same_bits(tmp_path: Path, make_dataset: Make) -> None:
    data = load_dataset(make_dataset(tmp_path) / "dataset_full.csv")
    np.testing.assert_array_equal(data.theta, np.random.default_rng(5).normal(size=(10, 2)))


def test_shards_of_mixed_simulations_are_put_in_order(tmp_path: Path) -> None:
    groups = ([4, 1], [0, 5], [2, 3])
    for number, indices in enumerate(groups):
        rows = [SimulationRow(k, f"1:{k}", maps={"a": np.full((2, 2), float(k))}) for k in indices]
        write_shard(tmp_path, number, rows)
    for shards in (finished_shards(tmp_path).values(), ShardRecords(tmp_path, [2, 0, 1])):
        made = assemble(tmp_path, LABELS, theta(6), ["a"], shards)
        assert [row[0] for row in read_csv(tmp_path / "manifest.csv")[1]] == list("012345")
        np.testing.assert_array_equal(load_dataset(made.csv).x[:, 0, 0, 0], np.arange(6))


def test_shards_given_in_any_order_are_put_in_order(tmp_path: Path) -> None:
    simulate(tmp_path, ["ok"] * 8)
    made = assemble(tmp_path, LABELS, theta(8), ["a"], ShardRecords(tmp_path, [1, 2, 0]))
    np.testing.assert_array_equal(load_dataset(made.csv).x[:, 0, 0, 0], np.arange(8))


def test_a_large_set_is_read_by_blocks_to_the_same_bits(
    tmp_path: Path, make_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = make_dataset(tmp_path, n=40, per_shard=7) / "dataset_full.csv"
    small, digest = load_dataset(csv), dataset_digest(tmp_path)
    for module in ("mlpop.io.scratch", "mlpop.datasets.loading"):
        monkeypatch.setattr(f"{module}.LARGE", 1)
        monkeypatch.setattr(f"{module}.BLOCK", 100)
    large = load_dataset(csv)
    assert isinstance(large.x, np.memmap)
    assert not isinstance(small.x, np.memmap)
    assert (large.x.dtype, large.x.tobytes()) == (small.x.dtype, small.x.tobytes())
    assert dataset_digest(tmp_path) == digest
