from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from point_data import CHANNELS, LABELS, blob_maps, draw_theta, write_dataset

from mlpop.datasets import loading
from mlpop.datasets.dataset import assemble
from mlpop.datasets.scaling import LabelScaling, label_statistics, scale_inputs
from mlpop.datasets.shards import SimulationRow, finished_shards, write_shard
from mlpop.errors import DataError
from mlpop.io.files import write_csv
from mlpop.regression.data import MemorySet, Selection, StreamedSet, load_set

ARRAYS = Selection("array", [0, 1, 2], [3, 4], "standardize")
NO_SCALING = partial(LabelScaling, "none", {})


def standardized(theta):
    return LabelScaling("standardize", label_statistics(theta, LABELS), LABELS)


@pytest.fixture
def arrays(tmp_path):
    theta = draw_theta(11, 0)
    return write_dataset(tmp_path, "set", theta), theta


def all_x(data):
    return torch.cat(list(data.evaluation()))


def test_arrays_A6_N07(arrays):
    csv, theta = arrays
    data = load_set(csv, ARRAYS, standardized(theta))
    assert isinstance(data, MemorySet)
    assert data.channels == CHANNELS
    expected = scale_inputs(blob_maps(theta).astype(np.float32), "standardize")
    np.testing.assert_allclose(all_x(data).numpy(), expected, atol=1e-6)
    assert data.theta.tolist() == theta.tolist()


def test_order_of_filters_N08(arrays):
    csv, theta = arrays
    chosen = Selection("array", [2, 0], [4, 3], "none")
    data = load_set(csv, chosen, NO_SCALING)
    assert data.labels == LABELS[::-1]
    assert data.channels == (CHANNELS[2], CHANNELS[0])
    np.testing.assert_allclose(all_x(data).numpy(), blob_maps(theta)[:, [2, 0]].astype(np.float32))
    assert data.theta.tolist() == theta[:, ::-1].tolist()


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        ([0, 9], [3, 4], "filter_inputs: index 9 is out of range"),
        ([0, 3], [4], "filter_inputs: column 3 .* is a label"),
        ([0, 1], [2, 3], "filter_labels: column 2 .* is an input"),
    ],
)
def test_wrong_filters_N08(arrays, inputs, labels, message):
    csv, _ = arrays
    with pytest.raises(DataError, match=message):
        load_set(csv, Selection("array", inputs, labels, "none"), NO_SCALING)


def test_label_scaling_goldens_A7_N09():
    train = {
        LABELS[0]: dict(mean=12.850782234358956, std=0.4711881884041647, max=1, min=0),
        LABELS[1]: dict(mean=-0.9125141724417387, std=0.3607400958095005, max=1, min=0),
    }
    scaling = LabelScaling("standardize", train, LABELS)
    scaled = scaling.scale([12.942382264486357, -0.95971740507355])
    assert scaled.tolist() == pytest.approx([0.19440222, -0.13085108], abs=5e-9)
    theta = draw_theta(100, 3)
    for mode in ("standardize", "normalize"):
        scaling = LabelScaling(mode, label_statistics(theta, LABELS), LABELS)
        float32 = scaling.scale(theta).astype(np.float32)
        np.testing.assert_allclose(scaling.inverse(float32), theta, atol=1e-6)


def test_pictures_A6_N07(tmp_path):
    theta = draw_theta(5, 0)
    csv = write_dataset(tmp_path, "set", theta, kind="image")
    data = load_set(csv, Selection("image", [0, 1, 2], [3, 4], "none"), standardized(theta))
    x = all_x(data).numpy()
    assert x.min() >= 0
    assert x.max() <= 1
    # pictures run transposed and top down, and high is dark
    maps = blob_maps(theta)[:, 0]
    level = maps / maps.max(axis=(1, 2), keepdims=True)
    upright = x[:, 0, ::-1, :].transpose(0, 2, 1)
    assert np.corrcoef(upright.ravel(), level.ravel())[0, 1] < -0.95
    with pytest.raises(DataError, match=r"expected a \.npy file"):
        load_set(csv, ARRAYS, standardized(theta))


def test_colour_pictures_A6_N07(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"p{i}.png")
    theta = draw_theta(4, 0)
    rows = [[f"p{i}.png", *map(float, t)] for i, t in enumerate(theta)]
    csv = tmp_path / "rgb.csv"
    write_csv(csv, ["picture", *LABELS], rows)
    for cache in (100, 0):
        data = load_set(
            csv, Selection("rgb", [0], None, "none"), standardized(theta), cache_mb=cache
        )
        assert data.labels == LABELS
        assert data.shape == (3, 8, 6)
        expected = np.moveaxis(pixels, -1, 1).astype(np.float32) / 255
        np.testing.assert_allclose(all_x(data).numpy(), expected, rtol=1e-6)


def test_packed_maps_of_mlpop_are_read(tmp_path):
    theta = draw_theta(7, 2)
    maps = blob_maps(theta)
    for shard, rows in enumerate((range(4), range(4, 7))):
        write_shard(
            tmp_path,
            shard,
            [
                SimulationRow(
                    i, f"0:{i}", status="ok", maps=dict(zip(CHANNELS, maps[i], strict=True))
                )
                for i in rows
            ],
        )
    made = assemble(tmp_path, LABELS, theta, CHANNELS, finished_shards(tmp_path).values())
    memory = load_set(made.csv, ARRAYS, standardized(theta))
    streamed = load_set(made.csv, ARRAYS, standardized(theta), cache_mb=0)
    assert isinstance(streamed, StreamedSet)
    np.testing.assert_allclose(
        all_x(memory).numpy(),
        scale_inputs(maps.astype(np.float32), "standardize"),
        atol=1e-5,
    )
    assert torch.equal(all_x(memory), all_x(streamed))


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_batches_are_those_of_memory(arrays, workers):
    csv, theta = arrays
    memory = load_set(csv, ARRAYS, standardized(theta))
    streamed = load_set(csv, ARRAYS, standardized(theta), cache_mb=0, num_workers=workers)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(3))
    before = torch.get_rng_state()
    for _ in range(2):
        pairs = list(zip(memory.batches(order, 4), streamed.batches(order, 4), strict=True))
        assert [len(x) for (x, _), _ in pairs] == [4, 4, 3]
        for (x, t), (y, u) in pairs:
            assert torch.equal(x, y)
            assert torch.equal(t, u)
    assert torch.equal(torch.get_rng_state(), before)
    rows = torch.tensor([7, 2])
    assert torch.equal(
        torch.cat(list(memory.evaluation(rows))), torch.cat(list(streamed.evaluation(rows)))
    )


def test_a_long_tmpdir_is_no_obstacle(arrays, long_tmpdir):
    csv, theta = arrays
    streamed = load_set(csv, ARRAYS, standardized(theta), cache_mb=0, num_workers=1)
    assert sum(len(x) for x in streamed.evaluation()) == len(theta)


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_map_is_one_clear_line_whoever_reads_it(arrays, workers):
    csv, theta = arrays
    data = load_set(csv, ARRAYS, standardized(theta), cache_mb=0, num_workers=workers)
    broken = csv.parent / f"set_{CHANNELS[1]}_5.npy"
    broken.write_bytes(b"no array")
    with pytest.raises(DataError) as caught:
        list(data.evaluation())
    assert f"row 5, column 'input:{CHANNELS[1]}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_channels_of_unequal_shape_N20_C25(tmp_path):
    theta = draw_theta(3, 0)
    csv = write_dataset(tmp_path, "set", theta)
    for i in range(3):
        path = tmp_path / f"set_{CHANNELS[1]}_{i}.npy"
        np.save(path, np.load(path)[:, :6])
    message = "on map axis 1 channel 0 .* has size 12, channel 1 .* has size 6"
    for cache in (100, 0):
        with pytest.raises(DataError, match=message):
            load_set(csv, ARRAYS, standardized(theta), cache_mb=cache)
        padded = Selection("array", [0, 1, 2], [3, 4], "standardize", "pad")
        data = load_set(csv, padded, standardized(theta), cache_mb=cache)
        assert data.shape == (3, 12, 12)


@pytest.mark.parametrize("offset", [0.0, 1e7, -3e9, 1e11])
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e20])
def test_maps_that_float32_loses_are_scaled_alike_in_memory_and_streamed(tmp_path, offset, scale):
    theta = draw_theta(5, 2)
    maps = blob_maps(theta)
    csv = write_dataset(tmp_path, "set", theta)
    for i, c in np.ndindex(*maps.shape[:2]):
        np.save(tmp_path / f"set_{CHANNELS[c]}_{i}.npy", (offset + maps[i, c]) * scale)
    memory = load_set(csv, ARRAYS, standardized(theta))
    streamed = load_set(csv, ARRAYS, standardized(theta), cache_mb=0)
    plain = scale_inputs(maps, "standardize")
    np.testing.assert_allclose(all_x(streamed).numpy(), plain, atol=2e-3)
    np.testing.assert_allclose(all_x(streamed).numpy(), all_x(memory).numpy(), atol=2e-3)


@pytest.mark.parametrize("cache_mb", [0, 2048])
@pytest.mark.parametrize("value", [3.5e38, -1e300])
def test_a_number_beyond_float32_is_refused(arrays, cache_mb, value):
    csv, theta = arrays
    broken = csv.parent / f"set_{CHANNELS[1]}_5.npy"
    np.save(broken, np.load(broken).astype(np.float64) + value)
    with pytest.raises(DataError, match=r"row 5.*values beyond 3.4e\+38"):
        all_x(load_set(csv, ARRAYS, standardized(theta), cache_mb=cache_mb))


def test_few_packed_files_are_open_at_a_time(tmp_path, monkeypatch):
    theta = draw_theta(9, 2)
    maps = blob_maps(theta)
    for i in range(9):
        row = SimulationRow(i, f"0:{i}", maps=dict(zip(CHANNELS, maps[i], strict=True)))
        write_shard(tmp_path, i, [row])
    made = assemble(tmp_path, LABELS, theta, CHANNELS, finished_shards(tmp_path).values())
    monkeypatch.setattr(loading, "MOST_OPEN", 4)
    before = len(list(Path("/proc/self/fd").iterdir()))
    streamed = load_set(made.csv, ARRAYS, standardized(theta), cache_mb=0)
    read = all_x(streamed)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 4
    assert torch.equal(read, all_x(load_set(made.csv, ARRAYS, standardized(theta))))


def test_missing_file_and_nan_label_N07(arrays):
    csv, theta = arrays
    text = csv.read_text()
    (csv.parent / f"set_{CHANNELS[0]}_2.npy").rename(csv.parent / "elsewhere.npy")
    with pytest.raises(DataError, match=f"row 2, column 'input:{CHANNELS[0]}': no such map file"):
        load_set(csv, ARRAYS, standardized(theta))
    (csv.parent / "elsewhere.npy").rename(csv.parent / f"set_{CHANNELS[0]}_2.npy")
    csv.write_text(text.replace(repr(float(theta[4, 1])), "nan"))
    with pytest.raises(DataError, match=f"row 4, column '{LABELS[1]}': expected a finite number"):
        load_set(csv, ARRAYS, standardized(theta))
    with pytest.raises(DataError, match="no such file"):
        load_set(Path("nowhere.csv"), ARRAYS, standardized(theta))
    with pytest.raises(DataError, match="has no label|have no label"):
        load_set(csv, ARRAYS, partial(LabelScaling, "standardize", {}))


def test_digest_is_that_of_the_content(arrays, tmp_path):
    csv, theta = arrays
    first = load_set(csv, ARRAYS, standardized(theta)).digest
    again = write_dataset(tmp_path / "again", "other", theta)
    assert load_set(again, ARRAYS, standardized(theta)).digest == first
    theta[3, 1] += 1e-9
    changed = write_dataset(tmp_path / "changed", "set", theta)
    assert load_set(changed, ARRAYS, standardized(theta)).digest != first


@pytest.mark.parametrize("kind", ["array", "image"])
def test_digest_is_the_same_in_memory_and_streamed(tmp_path, kind):
    theta = draw_theta(5, 0)
    csv = write_dataset(tmp_path, "set", theta, kind=kind)
    chosen = Selection(kind, [2, 0], [3, 4], "none" if kind == "image" else "standardize")
    kept, streamed = (
        load_set(csv, chosen, standardized(theta), cache_mb=cache) for cache in (100, 0)
    )
    assert isinstance(streamed, StreamedSet)
    assert streamed.digest == kept.digest


def test_a_changed_map_of_a_streamed_set_is_seen(arrays):
    csv, theta = arrays
    first = load_set(csv, ARRAYS, standardized(theta), cache_mb=0).digest
    path = csv.parent / csv.read_text().splitlines()[-1].split(",")[0]
    values = np.load(path)
    values[0, 0] += 1
    np.save(path, values)
    assert load_set(csv, ARRAYS, standardized(theta), cache_mb=0).digest != first
