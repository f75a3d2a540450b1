"""A campaign gives the same dataset on every backend, and survives what can be survived."""

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import cloudpickle
import fake_simulator as fake
import numpy as np
import pytest
from campaigns import (
    GOLDEN_DIGEST,
    MIXED,
    PAUSED,
    PAUSED_DIGEST,
    ROOT,
    Campaign,
    digest_of,
    rows_of,
    theta_of,
)

from mlpop.compute.backends.base import Backend
from mlpop.compute.backends.processes import ProcessesBackend
from mlpop.compute.backends.serial import SerialBackend
from mlpop.compute.campaign import shard_task
from mlpop.compute.campaign.campaign import Progress, run_campaign, task_sizes
from mlpop.compute.campaign.claim import CAMPAIGN_FILE, size_of_shards
from mlpop.compute.seeds import Purpose, seed_sequence
from mlpop.datasets.details import load_details
from mlpop.errors import ComputeError, DataError
from mlpop.io.files import write_json

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path)


def test_same_dataset_on_every_backend(backend: Backend, campaign: Campaign) -> None:
    records = campaign.run(backend, MIXED)
    assert digest_of(campaign, MIXED, records) == GOLDEN_DIGEST
    assert campaign.left_behind() == []
    assert all(campaign.count(k) == 1 for k in range(len(MIXED)))


@pytest.mark.parametrize("simulations_per_task", [1, 3, 100])
def test_same_dataset_however_it_is_cut(campaign: Campaign, simulations_per_task: int) -> None:
    records = campaign.run(SerialBackend(), MIXED, simulations_per_task=simulations_per_task)
    assert len(records) == len(task_sizes(len(MIXED), simulations_per_task))
    assert digest_of(campaign, MIXED, records) == GOLDEN_DIGEST


def test_a_row_a_simulation(campaign: Campaign) -> None:
    records = campaign.run(SerialBackend(), MIXED)
    rows = rows_of(records)
    assert [row.index for row in rows] == list(range(13))
    assert Counter(row.status for row in rows) == {"ok": 9, "failed": 2, "invalid": 1, "limit": 1}
    assert (rows[5].status, rows[5].message) == ("failed", "no pulsar is seen")
    assert (rows[12].status, rows[12].message) == ("failed", "ZeroDivisionError: division by zero")
    assert rows[6].status == "invalid"
    assert rows[11].status == "limit"
    assert rows[0].info == {"detected": 3, "rates": [1.5, 2.5]}
    assert rows[3].seed == f"SeedSequence({ROOT}, spawn_key=(2, 1, 3))"
    assert all(row.seconds > 0 for row in rows)


def test_maps_come_from_the_seed_of_their_index(campaign: Campaign) -> None:
    records = campaign.run(SerialBackend(), MIXED)
    seed = seed_sequence(ROOT, Purpose.SIMULATION_TRAINING, 1, 9)
    expected = 109 + np.random.default_rng(seed).standard_normal((2, 4, 3)).astype(np.float32)
    for k, channel in enumerate(fake.FakeSimulator.channels):
        packed = np.load(campaign.folder / "shards" / "shard-00002" / f"{channel}.npy")
        np.testing.assert_array_equal(packed[records[2].position[9]], expected[k])


def test_only_predictions_are_simulated_in_detail(campaign: Campaign, tmp_path: Path) -> None:
    usual = campaign.run(SerialBackend(), MIXED, purpose=Purpose.SIMULATION_TEST)
    assert {name for record in usual for name in record.channels} == {"a", "b"}
    (tmp_path / "detailed").mkdir()
    detailed = Campaign(tmp_path / "detailed")
    records = detailed.run(SerialBackend(), MIXED, purpose=Purpose.SIMULATION_PREDICTIVE)
    assert [row.status for row in rows_of(records)] == [row.status for row in rows_of(usual)]
    digest_of(detailed, MIXED, records)
    details = load_details(detailed.folder / "dataset_full.csv", fake.FakeSimulator.channels)
    usable = [row.status in ("ok", "limit") for row in rows_of(records)]
    np.testing.assert_array_equal(details["stars"], MIXED[usable])


def test_resume_makes_only_what_is_missing(campaign: Campaign) -> None:
    def stop_at_second_shard(progress: Progress) -> None:
        if progress.shard is not None and progress.shard.number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        campaign.run(SerialBackend(), MIXED, on_progress=stop_at_second_shard)
    assert [campaign.count(k) for k in range(13)] == [1] * 8 + [0] * 5
    seen: list[Progress] = []
    records = campaign.run(SerialBackend(), MIXED, on_progress=seen.append)
    assert [campaign.count(k) for k in range(13)] == [1] * 13
    assert seen[1].done == 8
    assert digest_of(campaign, MIXED, records) == GOLDEN_DIGEST
    campaign.run(SerialBackend(), MIXED)
    assert [campaign.count(k) for k in range(13)] == [1] * 13


def test_a_damaged_shard_is_made_again(
    campaign: Campaign, caplog: pytest.LogCaptureFixture
) -> None:
    campaign.run(SerialBackend(), MIXED)
    array = campaign.folder / "shards" / "shard-00001" / "a.npy"
    array.write_bytes(array.read_bytes()[:-1])
    records = campaign.run(SerialBackend(), MIXED)
    assert "shard-00001" in caplog.text
    assert [campaign.count(k) for k in range(13)] == [1] * 4 + [2] * 4 + [1] * 5
    assert digest_of(campaign, MIXED, records) == GOLDEN_DIGEST


def test_progress_counts_every_simulation_once(backend: Backend, campaign: Campaign) -> None:
    seen: list[Progress] = []
    campaign.run(backend, MIXED, on_progress=seen.append)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert {p.done for p in seen} >= {1, 2, 3, 4}
    assert sum(p.shard is not None for p in seen) == 4
    assert (seen[-1].done, seen[-1].total) == (13, 13)
    assert seen[-1].counts == {"ok": 9, "failed": 2, "invalid": 1, "limit": 1}


def test_a_slow_simulation_is_a_row(backend: Backend, campaign: Campaign) -> None:
    theta = theta_of(fake.OK, fake.SPIN, fake.OK)
    rows = rows_of(campaign.run(backend, theta, time_limit=0.5))
    assert [row.status for row in rows] == ["ok", "timeout", "ok"]
    assert rows[1].message == "ran over its limit of 0.5 s"
    assert 0.5 <= rows[1].seconds < 10
    # It was interrupted, and not its process: nothing ran twice.
    assert [campaign.count(k) for k in range(3)] == [1, 1, 1]


def test_a_sleeping_simulation_is_woken(campaign: Campaign) -> None:
    theta = theta_of(fake.OK, fake.SLEEP, fake.OK)
    with ProcessesBackend(1) as backend:
        rows = rows_of(campaign.run(backend, theta, time_limit=0.5))
    assert [row.status for row in rows] == ["ok", "timeout", "ok"]
    assert [campaign.count(k) for k in range(3)] == [1, 1, 1]


def test_a_hanging_simulation_is_a_row(mortal: Backend, campaign: Campaign) -> None:
    theta = theta_of(fake.OK, fake.HANG, fake.OK)
    rows = rows_of(campaign.run(mortal, theta, time_limit=0.5, grace=0.5))
    assert [row.status for row in rows] == ["ok", "timeout", "ok"]
    assert rows[1].message == "ran over 0.5 s and could only be stopped with its process"
    assert [campaign.count(k) for k in range(3)] == [2, 1, 1]
    assert campaign.left_behind() == []


def test_a_simulation_that_kills_its_worker_is_a_row(mortal: Backend, campaign: Campaign) -> None:
    theta = theta_of(fake.OK, fake.KILL, fake.OK, fake.KILL_ONCE, fake.OK, fake.OK)
    rows = rows_of(campaign.run(mortal, theta, max_attempts=2))
    assert [row.status for row in rows] == ["ok", "failed", "ok", "ok", "ok", "ok"]
    assert rows[1].message == "the worker process died 2 times in it"
    assert (rows[1].attempts, rows[3].attempts) == (2, 2)
    assert campaign.count(1) == 2
    assert campaign.left_behind() == []


def test_workers_that_never_reach_a_simulation_give_failed_rows(campaign: Campaign) -> None:
    campaign.spec = {"type": "fake_simulator:KillsWhenBuilt", "args": {}}
    with ProcessesBackend(1) as backend:
        rows = rows_of(campaign.run(backend, theta_of(fake.OK, fake.OK), max_attempts=2))
    assert [row.status for row in rows] == ["failed", "failed"]
    assert "the worker process died 2 times" in rows[0].message
    assert "SIGKILL" in rows[0].message


def test_journals_of_a_killed_driver_are_forgotten(campaign: Campaign) -> None:
    shards = campaign.folder / "shards"
    shards.mkdir(parents=True)
    (shards / ".shard-00000.journal").write_text("\nattempt\n\nsimulation 0\n" * 3)
    (shards / ".shard-00000.abcd").mkdir()
    rows = rows_of(campaign.run(SerialBackend(), theta_of(fake.OK)))
    assert (rows[0].status, rows[0].attempts) == ("ok", 1)
    assert campaign.left_behind() == []


def test_wrong_number_of_channels_is_a_failed_row(campaign: Campaign) -> None:
    rows = rows_of(campaign.run(SerialBackend(), theta_of(fake.OK, fake.SHAPE)))
    assert [row.status for row in rows] == ["ok", "failed"]
    assert "2 channels" in rows[1].message


def test_another_campaign_in_the_folder_is_refused(campaign: Campaign) -> None:
    campaign.run(SerialBackend(), MIXED)
    claim = json.loads((campaign.folder / CAMPAIGN_FILE).read_text())
    assert claim["root_seed"] == ROOT
    changes = [
        (MIXED + 1, {}, "theta"),
        (MIXED, {"root": 5}, "root_seed: 20261122 there, 5 now"),
        (MIXED, {"round": 2}, "round: 1 there, 2 now"),
        (MIXED, {"simulations_per_task": 5}, "simulations_per_task: 4 there, 5 now"),
        (MIXED, {"identity": "other"}, "simulator: fake there, other now"),
    ]
    for theta, options, message in changes:
        with pytest.raises(DataError, match=message):
            campaign.run(SerialBackend(), theta, **options)
    (campaign.folder / CAMPAIGN_FILE).unlink()
    with pytest.raises(DataError, match="other seeds"):
        campaign.run(SerialBackend(), MIXED, root=5)


def test_theta_must_be_a_finite_table(campaign: Campaign) -> None:
    bad = MIXED.copy()
    bad[2, 1] = np.nan
    with pytest.raises(DataError, match="theta row 2"):
        campaign.run(SerialBackend(), bad)
    with pytest.raises(DataError, match=r"shape \(13, 1\); expected \(N, 2\)"):
        campaign.run(SerialBackend(), MIXED[:, :1])
    with pytest.raises(DataError, match=r"N >= 1"):
        campaign.run(SerialBackend(), MIXED[:0])


def test_a_simulator_that_cannot_be_built_ends_the_campaign(
    backend: Backend, campaign: Campaign
) -> None:
    campaign.spec = {"type": "fake_simulator:FakeSimulator", "args": {"call": 3}}
    with pytest.raises(ComputeError, match="simulations 0 to 3 could not be made: .*call"):
        campaign.run(backend, MIXED, max_in_flight=1)
    assert campaign.left_behind() == []


def test_labels_in_another_order_are_refused(campaign: Campaign) -> None:
    with pytest.raises(ComputeError, match="theta has the columns x, mode, the simulator wants"):
        run_campaign(
            campaign.spec,
            MIXED,
            ("x", "mode"),
            ROOT,
            Purpose.SIMULATION_TRAINING,
            0,
            campaign.folder,
            SerialBackend(),
        )


def test_an_unwritable_folder_ends_the_campaign(campaign: Campaign) -> None:
    campaign.run(SerialBackend(), MIXED[:4])
    (campaign.folder / CAMPAIGN_FILE).unlink()
    (campaign.folder / "shards" / "shard-00001").write_text("in the way")
    with pytest.raises(ComputeError, match="simulations 4 to 7 could not be made: DataError"):
        campaign.run(SerialBackend(), MIXED)


def test_a_simulator_is_built_once_a_process(campaign: Campaign) -> None:
    shard_task.build_simulator.cache_clear()
    campaign.run(SerialBackend(), MIXED)
    assert shard_task.build_simulator.cache_info().misses == 1
    assert shard_task.build_simulator.cache_info().hits == 3


def test_worker_processes_stay_light(campaign: Campaign) -> None:
    # what the driver has of torch and sbi is shared with its workers on purpose
    heavy = ("distributed", "mlflow", "mlpop.cli.main", *({"sbi"} - set(sys.modules)))
    with ProcessesBackend(1) as backend:
        campaign.run(backend, theta_of(fake.OK), time_limit=5.0)
        [outcome] = backend.run(_loaded, [heavy])
    assert outcome.result() == []


def _loaded(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name in sys.modules]


def test_five_workers_killed_in_a_round_change_no_bit(mortal: Backend, campaign: Campaign) -> None:
    killed: set[int] = set()

    def kill(progress: Progress) -> None:
        # The process that has just begun a simulation; one that is dead already writes no more.
        pid = int((campaign.calls / "pids").read_text().split()[-1])
        # Apart from each other: whoever loses three workers in one simulation is to blame itself.
        if len(killed) < 5 and progress.done > 4 * len(killed) and pid not in killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)

    records = campaign.run(mortal, PAUSED, simulations_per_task=2, on_progress=kill)
    assert len(killed) == 5
    assert [row.status for row in rows_of(records)] == ["ok"] * 24
    assert max(campaign.count(index) for index in range(24)) > 1
    assert digest_of(campaign, PAUSED, records) == PAUSED_DIGEST
    assert campaign.left_behind() == []


@pytest.mark.parametrize(
    ("simulations", "asked", "size"),
    [(10, 16, 16), (16_000, 16, 16), (16_001, 16, 17), (10**6, 16, 1000), (10**6, 5000, 5000)],
)
def test_shards_grow_with_the_set(tmp_path: Path, simulations: int, asked: int, size: int) -> None:
    assert size_of_shards(tmp_path, simulations, asked) == size
    assert -(-simulations // size) <= 1000
    # a set of before is gone on with as it was begun
    write_json(tmp_path / "campaign.json", {"simulations_per_task": asked})
    assert size_of_shards(tmp_path, simulations, asked) == asked


@pytest.mark.parametrize("per_task", [1, 8, 64, 500])
@pytest.mark.parametrize("simulations", [1, 7, 9, 63, 64, 65, 300, 1000, 10_001])
def test_the_last_tasks_are_small(simulations: int, per_task: int) -> None:
    sizes = task_sizes(simulations, per_task)
    assert sum(sizes) == simulations
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) <= per_task
    # no worker is left with a long task while the others have none
    assert sizes[-1] <= max(per_task // 8, 8)
    # and few are added for that
    assert len(sizes) <= -(-simulations // per_task) + 13


def test_two_workers_end_together() -> None:
    free = [0, 0]
    for size in task_sizes(1000, 64):
        free[free.index(min(free))] += size
    assert max(free) <= 1.01 * 500
