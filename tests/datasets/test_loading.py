"""Reading datasets: filters, cells of every kind, errors that name file, row and column."""

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlpop.config.fields import dataset_root
from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.loading import load_dataset, load_observed, stored_maps, x_shape
from mlpop.errors import DataError

Make = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three simulations of single files: channels p, q (4, 3) and s (4, 2); labels B, P."""
    rng = np.random.default_rng(2)
    lines = ["input:p,input:q,input:s,B,P"]
    for k in range(3):
        for name, shape in (("p", (4, 3)), ("q", (4, 3)), ("s", (4, 2))):
            np.save(tmp_path / f"{name}_{k}.npy", rng.normal(size=shape))
        lines.append(f"p_{k}.npy,q_{k}.npy,s_{k}.npy,{12 + k}.5,-{k}.25")
    (tmp_path / "dataset_full.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def edit(folder: Path, old: str, new: str) -> Path:
    path = folder / "dataset_full.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_positions_and_names_choose_in_the_given_order(folder: Path) -> None:
    path = folder / "dataset_full.csv"
    data = load_dataset(path, filter_inputs=[1, 0], filter_labels=[4, 3])
    assert (data.channels, data.labels) == (("q", "p"), ("P", "B"))
    assert (data.x.shape, data.x.dtype, data.theta.dtype) == ((3, 2, 4, 3), np.float32, float)
    np.testing.assert_array_equal(data.x[2, 0], np.load(folder / "q_2.npy").astype(np.float32))
    np.testing.assert_array_equal(data.theta, [[-0.25, 12.5], [-1.25, 13.5], [-2.25, 14.5]])
    named = load_dataset(path, filter_inputs=["input:q", "p"], filter_labels=["P", "B"])
    np.testing.assert_array_equal(named.x, data.x)
    np.testing.assert_array_equal(named.theta, data.theta)


def test_names_survive_a_file_with_fewer_labels_C12(folder: Path) -> None:
    first = load_dataset(folder / "dataset_full.csv", filter_inputs=[0], filter_labels=[4])
    path = folder / "dataset_full.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join([*f[:3], f[4]]) for f in lines))
    again = load_dataset(path, filter_inputs=first.channels, filter_labels=first.labels)
    np.testing.assert_array_equal(again.theta, first.theta)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"filter_inputs": [0, 9]}, "filter_inputs: index 9 is out of range; .* 0 to 4"),
        ({"filter_inputs": [-1]}, "filter_inputs: index -1 is out of range"),
        ({"filter_inputs": [0, 3]}, r"column 3 \('B'\) is a label, not an input"),
        ({"filter_labels": [0]}, r"column 0 \('input:p'\) is an input, not a label"),
        ({"filter_inputs": ["r"]}, "no column 'r' that is an input; found p, q, s"),
        ({"filter_labels": ["p"]}, "no column 'p' that is a label; found B, P"),
        ({"filter_inputs": [0, 0]}, "filter_inputs: p is chosen twice"),
    ],
)
def test_wrong_filters_N08(folder: Path, filters: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(folder / "dataset_full.csv", **({"filter_inputs": [0]} | filters))


def test_maps_of_unequal_shape_N20(folder: Path) -> None:
    path = folder / "dataset_full.csv"
    with pytest.raises(
        DataError, match=r"on map axis 1 channel 0 \(p\) has size 3, channel 2 \(s\) has size 2"
    ):
        load_dataset(path)


def test_padding_fills_with_the_lowest_value_C25(folder: Path) -> None:
    data = load_dataset(folder / "dataset_full.csv", resize="pad")
    assert data.x.shape == (3, 3, 4, 3)
    small = np.load(folder / "s_1.npy").astype(np.float32)
    np.testing.assert_array_equal(data.x[1, 2, :, :2], small)
    np.testing.assert_array_equal(data.x[1, 2, :, 2], np.full(4, small.min()))


@pytest.mark.parametrize("value", ["", "nan", "inf", "twelve"])
def test_label_that_is_no_number_N07(folder: Path, value: str) -> None:
    path = edit(folder, "13.5", value)
    with pytest.raises(DataError, match=rf"dataset_full.csv: row 1, column 'B': .* '{value}'"):
        load_dataset(path, filter_inputs=[0])
    assert len(load_dataset(path, filter_inputs=[0], filter_labels=["P"])) == 3


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("none.npy", "no such map file 'none.npy'; tried none.npy, "),
        ("", "no map is given"),
        ("broken.npy", "broken.npy: cannot be read"),
        ("cube.npy", r"expected one map of numbers with 2 axes, found shape \(2, 4, 3\)"),
        ("words.npy", "expected one map of numbers with 2 axes"),
        ("wide.npy", r"the map has shape \(4, 5\), the map of row 0 has \(4, 3\)"),
        ("hole.npy", "the map has values that are not finite"),
        ("notes.txt", "expected a .npy or a .png file"),
    ],
)
def test_unreadable_map_is_named_with_row_and_column_N07(
    folder: Path, new: str, message: str
) -> None:
    (folder / "broken.npy").write_bytes((folder / "q_1.npy").read_bytes()[:-3])
    (folder / "notes.txt").write_text("1 2 3")
    np.save(folder / "cube.npy", np.zeros((2, 4, 3)))
    np.save(folder / "words.npy", np.full((4, 3), "x"))
    np.save(folder / "wide.npy", np.zeros((4, 5)))
    np.save(folder / "hole.npy", np.where(np.arange(12).reshape(4, 3) == 5, np.nan, 0.0))
    path = edit(folder, "q_1.npy", new)
    with pytest.raises(DataError, match=rf"(?s)row 1, column 'input:q': .*{message}"):
        load_dataset(path, filter_inputs=[0, 1])


@pytest.mark.parametrize("absolute", [False, True])
def test_a_map_beside_the_index_file_wins_and_a_conflict_is_refused(
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    absolute: bool,
) -> None:
    """A copied dataset whose cells still name the folder that it was copied from."""
    work = tmp_path_factory.mktemp("work")
    monkeypatch.chdir(work)
    before = load_dataset(folder / "dataset_full.csv", filter_inputs=[0]).x
    (work / "gen").mkdir()
    cell = f"{work}/gen/p_1.npy" if absolute else "gen/p_1.npy"
    path = edit(folder, "p_1.npy", cell)
    shutil.copy(folder / "p_1.npy", work / "gen" / "p_1.npy")
    np.testing.assert_array_equal(load_dataset(path, filter_inputs=[0]).x, before)
    np.save(work / "gen" / "p_1.npy", np.full((4, 3), 8.0))
    with pytest.raises(DataError, match=r"row 1, .*'.*gen/p_1.npy' fits two files that differ"):
        load_dataset(path, filter_inputs=[0])


@pytest.mark.parametrize("cell", ["C:\\data\\gen\\p_1.npy", "..\\gen\\p_1.npy"])
def test_a_path_of_windows_is_found_by_its_last_part(folder: Path, cell: str) -> None:
    expected = load_dataset(folder / "dataset_full.csv", filter_inputs=[0]).x
    path = edit(folder, "p_1.npy", cell)
    np.testing.assert_array_equal(load_dataset(path, filter_inputs=[0]).x, expected)


def test_paths_are_sought_beside_the_file_then_as_written_A6(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path_factory.mktemp("work")
    monkeypatch.chdir(work)
    expected = load_dataset(folder / "dataset_full.csv", filter_inputs=[0]).x
    path = edit(folder, "p_1.npy", "output/gen/p_1.npy")
    np.testing.assert_array_equal(load_dataset(path, filter_inputs=[0]).x, expected)
    (work / "output" / "gen").mkdir(parents=True)
    (folder / "p_1.npy").rename(work / "output" / "gen" / "p_1.npy")
    np.testing.assert_array_equal(load_dataset(path, filter_inputs=[0]).x, expected)
    np.save(work / "p_2.npy", np.zeros((4, 3)))
    with pytest.raises(DataError, match="row 2, .*'p_2.npy' fits two files"):
        load_dataset(path, filter_inputs=[0])


def test_packed_dataset_is_read_row_by_row(tmp_path: Path, make_dataset: Make) -> None:
    folder = make_dataset(tmp_path, n=11, per_shard=4, failed={2: "x", 8: "y"})
    data = load_dataset(folder / "dataset_full.csv", filter_inputs=["b", "a"])
    for row, index in enumerate([0, 1, 3, 4, 5, 6, 7, 9, 10]):
        rng = np.random.default_rng([5, index])
        a, b = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
        np.testing.assert_array_equal(data.x[row], np.stack([b, a]).astype(np.float32))


def test_rows_of_an_index_file_may_come_in_any_order(tmp_path: Path, make_dataset: Make) -> None:
    path = make_dataset(tmp_path) / "dataset_full.csv"
    x = load_dataset(path).x
    order = [7, 2, 2, 9, 0]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(lines[1 + k] for k in order)]))
    np.testing.assert_array_equal(load_dataset(path).x, x[order])


def test_packed_files_belong_to_the_dataset_not_to_the_working_directory(
    tmp_path: Path, make_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (make_dataset(tmp_path / name, seed=k) for k, name in enumerate(["one", "two"]))
    monkeypatch.chdir(two)
    expected = np.random.default_rng([0, 0]).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(load_dataset(one / "dataset_full.csv").x[0, 0], expected)


def test_numbers_as_channels(tmp_path: Path, make_dataset: Make) -> None:
    folder = make_dataset(tmp_path, shapes={"x0": (), "x1": (), "x2": ()})
    data = load_dataset(folder / "dataset_full.csv")
    assert data.x.shape == (10, 3)
    rng = np.random.default_rng([5, 7])
    expected = [np.float32(rng.normal()) for _ in range(3)]
    np.testing.assert_array_equal(data.x[7], expected)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("b.npy#2", "b.npy#99", "row 99 of .*b.npy, which holds 4"),
        ("b.npy#2", "c.npy#2", "no such map file 'shards/shard-00000/c.npy'"),
        ("b.npy#2", "b.npy", "packs several maps; write its path with '#row'"),
    ],
)
def test_wrong_packed_cell_is_named(
    tmp_path: Path, make_dataset: Make, old: str, new: str, message: str
) -> None:
    folder = make_dataset(tmp_path)
    path = edit(folder, f"shard-00000/{old}", f"shard-00000/{new}")
    with pytest.raises(DataError, match=rf"(?s)row [02], column 'input:b': .*{message}"):
        load_dataset(path)


def test_damaged_shard_is_refused(tmp_path: Path, make_dataset: Make) -> None:
    folder = make_dataset(tmp_path)
    target = folder / "shards" / "shard-00001" / "b.npy"
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    path = folder / "dataset_full.csv"
    assert load_dataset(path, filter_inputs=["a"]).x.shape == (10, 1, 4, 3)
    with pytest.raises(DataError, match="row 4, column 'input:b': .*differs from the SHA-256"):
        load_dataset(path)
    target.write_bytes(data[:-8])
    with pytest.raises(DataError, match="truncated or altered"):
        load_dataset(path)


def test_pictures_are_read_as_their_red_channel_A6(folder: Path) -> None:
    pixels = np.zeros((3, 4, 4), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(12).reshape(3, 4) * 20, 99
    Image.fromarray(pixels).save(folder / "p_0.png")
    path = edit(folder, "p_0.npy", "p_0.png")
    path.write_text("\n".join(path.read_text().splitlines()[:2]))
    x = load_dataset(path, filter_inputs=[0]).x
    np.testing.assert_allclose(x[0, 0], np.arange(12).reshape(3, 4) * 20 / 255, rtol=1e-6)


def test_broken_index_files_are_refused(folder: Path) -> None:
    path = folder / "dataset_full.csv"
    with pytest.raises(DataError, match="none.csv: no such file"):
        load_dataset(folder / "none.csv")
    text = path.read_text()
    for content, message in [
        ("", "the file is empty"),
        ("a,b\n1,2\n", "no column starts with 'input:'; found a, b"),
        (text.splitlines()[0], "no row below the header"),
        (f" {text}".replace(",", ", "), "column ' input:p' begins or ends with a space"),
        (text + "p_0.npy,q_0.npy\n", "row 3 has 2 fields, the header has 5"),
        (text.replace("input:q", "input:p"), "column input:p appears more than once"),
    ]:
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            load_dataset(path, filter_inputs=[0])


def test_observed_sample_has_empty_cells(folder: Path) -> None:
    path = folder / "dataset_atnf.csv"
    path.write_text("input:p,input:v,input:q,B,P\np_0.npy,,q_0.npy,,\n")
    seen = load_observed(path)
    assert (seen.channels, seen.labels) == (("p", "q"), ())
    assert (seen.x.shape, seen.theta.shape) == ((1, 2, 4, 3), (1, 0))
    assert load_observed(path, filter_inputs=["q"]).channels == ("q",)
    with pytest.raises(DataError, match="row 0, column 'input:v': no map is given"):
        load_observed(path, filter_inputs=[0, 1])
    with pytest.raises(DataError, match="has one row, found 3"):
        load_observed(folder / "dataset_full.csv")


def test_roots_of_rounds_D7() -> None:
    bare = Path("out/data/training_dataset")
    assert dataset_root(bare / "generated_dataset") == dataset_root(bare) == bare


def test_index_keeps_inputs_and_labels_apart(folder: Path) -> None:
    index = DatasetIndex.read(folder / "dataset_full.csv")
    assert (index.channels, index.labels, len(index)) == (("p", "q", "s"), ("B", "P"), 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_many_packed_files_are_read_with_few_open(tmp_path: Path, channels: int) -> None:
    """A process may usually open 1024 files; a set may have many more."""
    count = 150
    names = [f"c{k}" for k in range(channels)]
    rows = []
    for number in range(count):
        cells = []
        for k, name in enumerate(names):
            path = tmp_path / f"{number}-{name}.npy"
            np.save(path, np.full((1, 2, 2), number + 1000.0 * k))
            cells.append(f"{path.name}#0")
        rows.append(",".join([*cells, str(number)]))
    header = ",".join([*(f"input:{name}" for name in names), "B"])
    csv = tmp_path / "dataset_full.csv"
    csv.write_text("\n".join([header, *rows]) + "\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 90, hard))
    try:
        data = load_dataset(csv)
        maps = [float(values[0, 0]) for values in stored_maps(DatasetIndex.read(csv), "c0")]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(data.x[:, -1, 0, 0], np.arange(count) + 1000.0 * (channels - 1))
    assert maps == list(range(count))


def test_numbers_fill_maps(tmp_path: Path, make_dataset: Make) -> None:
    shapes = {"a": (4, 3), "b": (4, 3), "n": (), "m": ()}
    path = make_dataset(tmp_path, 7, 3, shapes=shapes) / "dataset_full.csv"
    lone = load_dataset(path, filter_inputs=["n", "m"])
    assert lone.x.shape == (7, 2)
    data = load_dataset(path, filter_inputs=["b", "n", "m"], numbers=2)
    assert (data.x.shape, data.x.dtype) == ((7, 3, 4, 3), np.float32)
    planes = np.broadcast_to(lone.x[:, :, None, None], (7, 2, 4, 3))
    np.testing.assert_array_equal(data.x[:, 1:], planes)
    np.testing.assert_array_equal(data.x[:, 0], load_dataset(path, filter_inputs=["b"]).x[:, 0])
    index = DatasetIndex.read(path)
    assert x_shape(index, ("b", "n", "m"), 2) == (3, 4, 3)
    # nothing else may stand among maps, nor maps among numbers
    with pytest.raises(DataError, match=r"channel 0 \(b\) has 2 axes, channel 1 \(n\) has 0"):
        load_dataset(path, filter_inputs=["b", "n"])
    with pytest.raises(DataError, match=r"channel a must hold one number, found a map of shape"):
        load_dataset(path, filter_inputs=["b", "a"], numbers=1)
    with pytest.raises(DataError, match="channel n must hold maps, found one number"):
        load_dataset(path, filter_inputs=["a", "n", "m"], numbers=1)
