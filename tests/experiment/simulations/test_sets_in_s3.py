"""Simulated sets in an object store: written by workers, completed from an empty folder (S25)."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from object_store import Gateway

from mlpop.compute import Purpose, make_backend
from mlpop.compute.backends.base import Backend, Outcome
from mlpop.compute.backends.serial import SerialBackend
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.training import SimulatorConfig
from mlpop.config.fields import S3Uri
from mlpop.datasets.remote.dataset import RemoteDataset
from mlpop.datasets.remote.mirror import localized
from mlpop.datasets.shards import ShardRecord
from mlpop.errors import ComputeError, DataError, TrackingError
from mlpop.experiment.output_tree import dataset_csv
from mlpop.experiment.simulations.simulated_set import (
    SuppliedSet,
    given_set,
    place_of_set,
    simulate_set,
)
from mlpop.experiment.simulations.simulator import simulator_plan
from mlpop.io.files import write_array
from mlpop.io.patience import Patience
from mlpop.io.s3 import ObjectStore

LABELS = ("theta_1", "theta_2")
THETA = np.linspace(-0.9, 0.9, 40).reshape(20, 2)
PLAN = simulator_plan(
    SimulatorConfig(type="gaussian_linear", args={"dimension": 2}), LABELS, GeneratorConfig(), None
)


def simulate(
    folder: Path, remote: S3Uri | None, backend: Backend | None = None, **options: Any
) -> SuppliedSet:
    with backend or make_backend() as workers:
        return simulate_set(
            PLAN,
            options.pop("theta", THETA),
            folder,
            workers,
            root_seed=options.pop("root_seed", 1),
            purpose=Purpose.SIMULATION_TRAINING,
            round_=0,
            compute=ComputeConfig(simulations_per_task=4),
            min_success_fraction=1.0,
            title="simulations",
            remote=remote,
            **options,
        )


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the set as it is made without an object store."""
    return simulate(tmp_path_factory.mktemp("local"), None).digest


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Indices of the simulations that are made in this process."""
    from mlpop.compute.campaign import shard_task

    made: list[int] = []
    original = shard_task._simulate

    def note(job: Any, simulator: Any, theta: Any, index: int, *rest: Any) -> Any:
        made.append(index)
        return original(job, simulator, theta, index, *rest)

    monkeypatch.setattr(shard_task, "_simulate", note)
    return made


class Far(SerialBackend):
    """Workers that do not see the driver's disk: its folders are others on theirs."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def run(
        self, function: Callable[..., Any], tasks: Sequence[Any], **options: Any
    ) -> Iterator[Outcome]:
        assert isinstance(function, partial)
        job = replace(function.args[0], folder=self.root / "not" / "there")
        yield from super().run(partial(function.func, job), tasks, **options)


class Interrupted(Exception):
    pass


def stop_after(count: int) -> Callable[[ShardRecord], None]:
    seen: list[ShardRecord] = []

    def on_shard(record: ShardRecord) -> None:
        seen.append(record)
        if len(seen) == count:
            raise Interrupted

    return on_shard


def test_remote_set_is_the_local_one(place: S3Uri, tmp_path: Path, expected: str) -> None:
    write_array(tmp_path / "theta.npy", THETA)
    with make_backend(n_processes=2) as backend:
        made = simulate(tmp_path, place, backend)
    assert made.digest == expected
    names = {item.uri.removeprefix(f"{place}/") for item in ObjectStore().list(place)}
    assert names >= {
        *(f"shards/shard-{k:05d}.zip" for k in range(5)),
        *("campaign.json", "theta.npy", "manifest.csv", "dataset_full.csv"),
        "statistics_full.json",
    }
    assert not [name for name in names if "/." in f"/{name}"]


def test_completed_from_an_empty_folder(
    place: S3Uri, tmp_path: Path, expected: str, calls: list[int]
) -> None:
    with pytest.raises(Interrupted):
        simulate(tmp_path / "first", place, on_shard=stop_after(2))
    assert calls == list(range(8))
    shutil.rmtree(tmp_path / "first")
    seen: list[ShardRecord] = []
    made = simulate(tmp_path / "second", place, on_shard=seen.append)
    assert made.digest == expected
    assert calls == list(range(20)), "stored simulations are not made again"
    assert sorted(record.number for record in seen) == [0, 1, 2, 3, 4]
    again = simulate(tmp_path / "third", place)
    assert (again.digest, len(calls)) == (expected, 20)


def test_workers_need_no_disk_in_common(
    place: S3Uri,
    tmp_path: Path,
    expected: str,
    calls: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch = tmp_path / "tmp of the worker"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    whole: list[bool] = []

    def on_shard(record: ShardRecord) -> None:
        whole.append((tmp_path / "set" / "shards" / record.name / "shard.json").is_file())

    made = simulate(tmp_path / "set", place, Far(tmp_path / "far"), on_shard=on_shard)
    assert made.digest == expected
    assert whole == [True] * 5
    assert len(calls) == 20
    assert list((tmp_path / "set" / "shards").glob(".*")) == []
    # the worker keeps nothing that is stored
    assert [path for path in scratch.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "far").exists()


def test_shard_that_a_worker_could_not_store_is_not_made_again(
    place: S3Uri,
    gateway: Gateway,
    tmp_path: Path,
    expected: str,
    calls: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLPOP_STORE_DEADLINE", "1")
    scratch = tmp_path / "tmp of the worker"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    push = RemoteDataset.push_shard

    def no_second(self: RemoteDataset, shard: Path, record: ShardRecord) -> None:
        if record.number == 1:
            gateway.cut()
        push(self, shard, record)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteDataset, "push_shard", no_second)
        with pytest.raises(ComputeError, match=r"StoreAway: .*shard-00001\.zip.* cannot be used"):
            simulate(tmp_path / "set", place, Far(tmp_path / "far"))
    gateway.down = False
    monkeypatch.setenv("MLPOP_STORE_DEADLINE", "20")
    made = simulate(tmp_path / "set", place, Far(tmp_path / "far"))
    assert (made.digest, sorted(calls)) == (expected, list(range(20)))


def test_local_shards_are_stored_when_the_place_is_new(
    place: S3Uri, tmp_path: Path, expected: str, calls: list[int]
) -> None:
    simulate(tmp_path / "set", None)
    assert simulate(tmp_path / "set", place).digest == expected
    assert len(calls) == 20
    assert RemoteDataset(place).shard_numbers() == {0, 1, 2, 3, 4}
    assert simulate(tmp_path / "empty", place).digest == expected
    assert len(calls) == 20


def test_damaged_stored_shard_is_made_again(
    place: S3Uri,
    tmp_path: Path,
    expected: str,
    calls: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    simulate(tmp_path / "first", place)
    store, damaged = ObjectStore(), tmp_path / "damaged.zip"
    store.download(place / "shards/shard-00003.zip", damaged)
    damaged.write_bytes(damaged.read_bytes()[:-100])
    store.upload(damaged, place / "shards/shard-00003.zip")
    made = simulate(tmp_path / "second", place)
    assert made.digest == expected
    assert calls == [*range(20), 12, 13, 14, 15]
    assert "the shard will be made again" in caplog.text
    assert simulate(tmp_path / "third", place).digest == expected
    assert len(calls) == 24


def test_place_with_another_campaign_is_refused(place: S3Uri, tmp_path: Path) -> None:
    simulate(tmp_path / "first", place)
    for options, field in (
        ({"root_seed": 2}, "root_seed: 1 there, 2 now"),
        ({"theta": THETA[:8]}, "simulations: 20 there, 8 now"),
    ):
        folder = tmp_path / field[:5]
        with pytest.raises(DataError, match=rf"s3://.*campaign\.json: .*{field}"):
            simulate(folder, place, **options)
        assert not (folder / "dataset_full.csv").exists()


def test_stored_shard_of_other_seeds_is_refused(place: S3Uri, tmp_path: Path) -> None:
    """Someone put a shard of another campaign into this place by hand."""
    simulate(tmp_path / "other", place / "other", root_seed=2)
    simulate(tmp_path / "set", place / "set", on_shard=None)
    store, file = ObjectStore(), tmp_path / "moved.zip"
    store.download(place / "other/shards/shard-00000.zip", file)
    store.upload(file, place / "set/shards/shard-00000.zip")
    with pytest.raises(DataError, match=r"shard-00000\.zip: holds other simulations or other"):
        simulate(tmp_path / "empty", place / "set")


def test_store_that_is_away_ends_with_what_is_kept(
    place: S3Uri, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLPOP_STORE_DEADLINE", "1")
    gateway.down = True
    with pytest.raises(TrackingError, match=gateway.endpoint):
        simulate(tmp_path, place)
    assert (tmp_path / "campaign.json").is_file()


def test_stored_set_is_a_given_set(
    place: S3Uri, tmp_path: Path, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLPOP_CACHE_DIR", str(tmp_path / "cache"))
    simulate(tmp_path / "set", place)
    given = given_set(dataset_csv(localized(place)))
    assert (given.digest, given.num_simulations) == (expected, 20)
    assert given.csv.is_relative_to(tmp_path / "cache")
    assert given_set(localized(place / "dataset_full.csv")).digest == expected


def test_places_of_a_set(tmp_path: Path) -> None:
    key = "0123456789abcdef"
    name = "round_2_0123456789ab"
    assert place_of_set(None, tmp_path, 2, key) == (tmp_path / "generated_dataset/round_2", None)
    given = tmp_path / "data" / "generated_dataset"
    for root in (given, given.parent):
        assert place_of_set(root, tmp_path, 2, key) == (given / "round_2", None)
    for root in ("s3://bucket/data", "s3://bucket/data/generated_dataset"):
        folder, remote = place_of_set(S3Uri(root), tmp_path, 2, key)
        assert folder == tmp_path / "generated_dataset" / name
        assert remote == f"s3://bucket/data/generated_dataset/{name}"


def test_a_set_gets_a_folder_of_its_own_only_where_the_documented_one_is_taken(
    tmp_path: Path,
) -> None:
    def place(key: str, round_: int = 1) -> str:
        return place_of_set(None, tmp_path, round_, key * 16)[0].name

    assert [place("a"), place("b"), place("a"), place("c")] == [
        *("round_1", "round_1_bbbbbbbbbbbb", "round_1", "round_1_cccccccccccc")
    ]
    # data that somebody brought along are never written to
    brought = tmp_path / "generated_dataset" / "round_3"
    brought.mkdir()
    (brought / "dataset_full.csv").write_text("input:m,a\n")
    assert place("a", 3) == "round_3_aaaaaaaaaaaa"
    assert {path.name for path in brought.iterdir()} == {".lock", "dataset_full.csv"}
    # of an earlier launch, when sets always had their key
    (tmp_path / "generated_dataset" / "round_4_dddddddddddd").mkdir()
    assert place("d", 4) == "round_4_dddddddddddd"


def test_patience_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpop.errors import ConfigError

    monkeypatch.setenv("MLPOP_STORE_DEADLINE", "7.5")
    assert Patience.from_environment().deadline == 7.5
    for wrong in ("soon", "-1", "0", "inf", "nan"):
        monkeypatch.setenv("MLPOP_STORE_DEADLINE", wrong)
        with pytest.raises(ConfigError, match=f"MLPOP_STORE_DEADLINE: .* found '{wrong}'"):
            Patience.from_environment()
