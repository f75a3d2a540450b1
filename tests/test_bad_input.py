"""Wrong datasets and configurations of `mlpop sbi`: exit code 2, one line, nothing left behind.

What can be seen before the start leaves nothing at all; what is found later, row by row, ends
the run FAILED with the same line.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.inputs.checks import check_inputs
from mlpop.tracking import connect, find

LABELS = ("B_initial_log10_mean", "P_initial_log10_mean")
Values = dict[str, Any]


def write(path: Path, values: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(values))
    return path


def write_dataset(
    folder: Path,
    name: str,
    rows: int = 4,
    shape: tuple[int, ...] = (8, 8),
    labels: tuple[str, ...] = LABELS,
    first: float = 0.3,
) -> None:
    """Write a dataset of one channel `m` with single `.npy` maps and labels from `first` on."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    lines = [",".join(["input:m", *labels])]
    for k in range(rows):
        np.save(folder / f"m_{k}.npy", rng.random(shape))
        lines.append(",".join([f"m_{k}.npy", *(f"{first + 0.1 * k}" for _ in labels)]))
    (folder / name).write_text("\n".join(lines) + "\n")


def given_values(tmp_path: Path) -> Values:
    """Write a good experiment on given data; return its configuration."""
    write_dataset(tmp_path / "train", "dataset_full.csv")
    write_dataset(tmp_path / "test", "dataset_full.csv", first=0.25)
    write_dataset(tmp_path / "observed", "dataset_atnf.csv", rows=1, labels=())
    statistics = {"mean": 0.5, "std": 0.1, "min": 0.3, "max": 0.6}
    write(tmp_path / "statistics.json", dict.fromkeys(LABELS, statistics))
    return {
        "name": "given",
        "n_processes": 1,
        "arch": {"args": {"input_shape": [1, 8, 8], "len_output_layer": 4}},
        "prior_ranges": {"labels": list(LABELS), "low": [0, 0], "high": [1, 1]},
        "training_data_loader": {
            "dataset_path_round_0": str(tmp_path / "train"),
            "statistic_path": str(tmp_path / "statistics.json"),
            "filter_inputs": ["m"],
        },
        "test_data_loader": {"testing": True, "dataset_path_round_0": str(tmp_path / "test")},
        "observed_sample": {"dataset_path": str(tmp_path / "observed")},
        "trainer": {"save_dir": str(tmp_path / "output")},
    }


def edit(folder: str, name: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(tmp_path: Path) -> None:
        path = tmp_path / folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return apply


def save(name: str, values: Any) -> Callable[[Path], None]:
    return lambda tmp_path: np.save(tmp_path / name, values)


def remove(name: str) -> Callable[[Path], None]:
    return lambda tmp_path: (tmp_path / name).unlink()


def pictures(*folders: str, shape: tuple[int, int] = (8, 8)) -> Callable[[Path], None]:
    """Write pictures in place of the arrays of these sets."""

    def apply(tmp_path: Path) -> None:
        pixels = np.random.default_rng(4).integers(0, 255, (*shape, 4), dtype=np.uint8)
        for folder in folders:
            for array in (tmp_path / folder).glob("*.npy"):
                Image.fromarray(pixels).save(array.with_suffix(".png"))
            for csv in (tmp_path / folder).glob("*.csv"):
                csv.write_text(csv.read_text().replace(".npy", ".png"))

    return apply


def nothing(_: Path) -> None:
    """The configuration alone is wrong."""


def test_given_values_are_good(tmp_path: Path) -> None:
    check_inputs(SbiConfig.parse(given_values(tmp_path)))


STARS = (
    'dyn_data_loader={"database": {"NS_number": 6000, "t_age_max": 3e7}}',
    'simulator={"args": {"population": {"birth_rate_max": 0.02}}}',
)
SKY, PPDOT = "survey_PMPS_position_map_radec", "survey_PMPS_ppdot_map"
ARRAY = "observed_sample={'path': '{tmp}/x.npy'}".replace("'", '"')
BAD: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "unknown field": (nothing, ["trainer.learning_rate=1"], "trainer.learning_rate: "),
    "wrong type": (nothing, ["trainer.batch_size=many"], "trainer.batch_size: must be an integer"),
    "name with a slash": (nothing, ["name=a/b"], "name: must be a single file or folder name"),
    "no index file": (
        remove("train/dataset_full.csv"),
        [],
        "train: holds no dataset_full.csv; make one with `mlpop simulate`",
    ),
    "no test index file": (remove("test/dataset_full.csv"), [], "test: holds no dataset_full.csv"),
    "label is no column": (
        edit("train", "dataset_full.csv", LABELS[1], "other"),
        [],
        f"train/dataset_full.csv: filter_labels: no column '{LABELS[1]}'",
    ),
    "label is no column of the test set": (
        edit("test", "dataset_full.csv", LABELS[0], "other"),
        [],
        f"test/dataset_full.csv: filter_labels: no column '{LABELS[0]}'",
    ),
    "label is not a number": (
        edit("train", "dataset_full.csv", "0.5,", "nan,"),
        [],
        f"train/dataset_full.csv: row 2, column '{LABELS[0]}': expected a finite number",
    ),
    "labels in another order": (
        nothing,
        ["training_data_loader.filter_labels=[2, 1]"],
        "prior_ranges.labels: ",
    ),
    "map is no column": (
        nothing,
        ['training_data_loader.filter_inputs=["survey"]'],
        "train/dataset_full.csv: filter_inputs: no column 'survey'",
    ),
    "map is missing": (
        remove("train/m_0.npy"),
        [],
        "train/dataset_full.csv: row 0, column 'input:m': no such map file 'm_0.npy'",
    ),
    "map is cut off": (
        lambda tmp_path: (tmp_path / "train/m_0.npy").write_bytes(b"\x93NUMPY"),
        [],
        "train/m_0.npy: cannot be read",
    ),
    "maps of another shape": (
        lambda tmp_path: write_dataset(tmp_path / "train", "dataset_full.csv", shape=(16, 16)),
        [],
        "arch.args.input_shape: is [1, 8, 8], but",
    ),
    "test maps of another shape": (
        lambda tmp_path: write_dataset(tmp_path / "test", "dataset_full.csv", shape=(16, 16)),
        [],
        "test/dataset_full.csv holds maps of shape [1, 16, 16]",
    ),
    "no rows": (
        lambda tmp_path: write_dataset(tmp_path / "train", "dataset_full.csv", rows=0),
        [],
        "train/dataset_full.csv: no row below the header",
    ),
    "no statistics": (remove("statistics.json"), [], "statistics.json: no such file"),
    "statistics without the label": (
        edit("", "statistics.json", LABELS[1], "other"),
        [],
        f"the statistics have no label '{LABELS[1]}'",
    ),
    "statistics without spread": (
        edit("", "statistics.json", '"std": 0.1', '"std": 0'),
        [],
        f"label '{LABELS[0]}' cannot be scaled: its std is 0",
    ),
    "no observed sample": (
        remove("observed/dataset_atnf.csv"),
        [],
        "observed/dataset_atnf.csv: no such file",
    ),
    "observed maps of another shape": (
        lambda tmp_path: write_dataset(
            tmp_path / "observed", "dataset_atnf.csv", rows=1, shape=(16, 16)
        ),
        [],
        "observed/dataset_atnf.csv",
    ),
    "observed maps made otherwise": (
        lambda tmp_path: [
            write(tmp_path / kind / "generator.json", {"resolution_ppdot": resolution})
            for kind, resolution in (("train", 8), ("observed", 16))
        ],
        [],
        "dataset_atnf.csv: generator.resolution_ppdot is 16, the training set",
    ),
    "two observed samples": (
        lambda tmp_path: write_dataset(
            tmp_path / "observed", "dataset_atnf.csv", rows=2, labels=()
        ),
        [],
        "an observed sample has one row, found 2",
    ),
    "no observed array": (nothing, [ARRAY], "observed_sample.path: "),
    "observed array of another shape": (
        save("x.npy", np.zeros((1, 4, 4))),
        [ARRAY],
        "x.npy holds maps of shape [1, 4, 4]",
    ),
    "observed array with NaN": (
        save("x.npy", np.full((1, 8, 8), np.nan)),
        [ARRAY],
        "x.npy: must hold finite numbers, found NaN or infinity",
    ),
    "observed array of text": (save("x.npy", np.array(["a"])), [ARRAY], "found type <U1"),
    "save_dir below a file": (
        nothing,
        ["trainer.save_dir={tmp}/statistics.json/out"],
        "trainer.save_dir: ",
    ),
    "one row to train on": (
        lambda tmp_path: write_dataset(tmp_path / "train", "dataset_full.csv", rows=1),
        [],
        "train/dataset_full.csv: training needs at least 2 simulations, found 1",
    ),
    "data root that takes no folder": (
        nothing,
        [
            'training_data_loader={"simulate": true, "dataset_path": "/proc/mlpop"}',
            'simulator={"type": "gaussian_linear", "args": {"dimension": 2}}',
            "arch=null",
        ],
        "training_data_loader.dataset_path: '/proc/mlpop' cannot be written: /proc",
    ),
    "save_dir that takes no folder": (
        nothing,
        ["trainer.save_dir=/proc/mlpop"],
        "trainer.save_dir: '/proc/mlpop' cannot be written: /proc",
    ),
    "index file of another name": (
        lambda tmp_path: (tmp_path / "train/dataset_full.csv").rename(
            tmp_path / "train/dataset.csv"
        ),
        [],
        "train: holds no dataset_full.csv; make one with `mlpop simulate`",
    ),
    "empty index file": (
        lambda tmp_path: (tmp_path / "train/dataset_full.csv").write_text(""),
        [],
        "train/dataset_full.csv",
    ),
    "row of another length": (
        edit("train", "dataset_full.csv", "m_2.npy,", "m_2.npy,7,"),
        [],
        "train/dataset_full.csv",
    ),
    "index file without maps": (
        edit("train", "dataset_full.csv", "input:m", "m"),
        [],
        "train/dataset_full.csv: no column starts with 'input:'; found m, ",
    ),
    "map index out of range": (
        nothing,
        ["training_data_loader.filter_inputs=[7]"],
        "train/dataset_full.csv: filter_inputs: index 7 is out of range; the header has the "
        "columns 0 to 2",
    ),
    "label index out of range": (
        nothing,
        ["training_data_loader.filter_labels=[1, 3]"],
        "train/dataset_full.csv: filter_labels: index 3 is out of range",
    ),
    "map index of a label": (
        nothing,
        ["training_data_loader.filter_inputs=[2]"],
        f"train/dataset_full.csv: filter_inputs: column 2 ('{LABELS[1]}') is a label, not an",
    ),
    "label index of a map": (
        nothing,
        [
            'training_data_loader={"filter_inputs": ["m"], "filter_labels": [0, 1], '
            '"dataset_path_round_0": "{tmp}/train", "statistic_path": "{tmp}/statistics.json"}'
        ],
        "train/dataset_full.csv: filter_labels: column 0 ('input:m') is an input, not a label",
    ),
    "label that is empty": (
        edit("train", "dataset_full.csv", "m_2.npy,0.5,", "m_2.npy,,"),
        [],
        f"train/dataset_full.csv: row 2, column '{LABELS[0]}': expected a finite number, found ''",
    ),
    "map missing in a later row": (
        remove("train/m_3.npy"),
        [],
        "train/dataset_full.csv: row 3, column 'input:m': no such map file 'm_3.npy'",
    ),
    "map of a test row that is missing": (
        remove("test/m_0.npy"),
        [],
        "test/dataset_full.csv: row 0, column 'input:m': no such map file 'm_0.npy'",
    ),
    "map with three axes": (
        save("train/m_0.npy", np.zeros((2, 8, 8))),
        [],
        "train/m_0.npy: expected one map of numbers with 2 axes, found shape (2, 8, 8)",
    ),
    "map that is a pickle": (
        lambda tmp_path: np.save(tmp_path / "train/m_0.npy", np.array([{}]), allow_pickle=True),
        [],
        "train/m_0.npy: cannot be read",
    ),
    "pictures of another size": (
        pictures("train", "test", "observed", shape=(16, 16)),
        [],
        "arch.args.input_shape: is [1, 8, 8], but",
    ),
    "picture that is none": (
        lambda tmp_path: [
            pictures("train", "test", "observed")(tmp_path),
            (tmp_path / "train/m_0.png").write_text("no picture"),
        ],
        [],
        "train/m_0.png: cannot be read as a picture",
    ),
    "pictures to train on, arrays to test on": (
        pictures("train", "observed"),
        [],
        "test/dataset_full.csv: its maps are arrays (.npy), those of the training set are "
        "pictures (.png)",
    ),
    "arrays to train on, a picture observed": (
        pictures("observed"),
        [],
        "observed/dataset_atnf.csv: its maps are pictures (.png), those of the training set are "
        "arrays (.npy)",
    ),
    "pictures and arrays in one set": (
        lambda tmp_path: [
            pictures("train")(tmp_path),
            edit("train", "dataset_full.csv", "m_3.png", "m_3.npy")(tmp_path),
        ],
        [],
        "train/dataset_full.csv: its maps are pictures (.png) in some places and arrays (.npy)",
    ),
    "observed sample with other maps": (
        edit("observed", "dataset_atnf.csv", "input:m", "input:n"),
        [],
        "observed/dataset_atnf.csv: filter_inputs: no column 'm' that is an input; found n",
    ),
    "observed sample with an empty map": (
        edit("observed", "dataset_atnf.csv", "m_0.npy", '""'),
        [],
        "observed/dataset_atnf.csv: row 0, column 'input:m': no map is given",
    ),
    "statistics that are no JSON": (
        edit("", "statistics.json", "{", "["),
        [],
        "statistics.json",
    ),
    "statistics without a mean": (
        edit("", "statistics.json", '"mean": 0.5, ', ""),
        [],
        "mean",
    ),
    "statistics that are not finite": (
        edit("", "statistics.json", '"mean": 0.5', '"mean": NaN'),
        [],
        "statistics.json",
    ),
    "later rounds without stars": (
        nothing,
        ["trainer.num_rounds=2", "training_data_loader.filter_inputs=[0]"],
        "dyn_data_loader: must have dataset_path or database: pulsar populations are simulated",
    ),
    "later rounds with a map that is not simulated": (
        nothing,
        ["trainer.num_rounds=2", *STARS],
        "training_data_loader.filter_inputs[0]: is no map that is simulated, found 'm'",
    ),
    "later rounds with a position that is not simulated": (
        nothing,
        ["trainer.num_rounds=2", "training_data_loader.filter_inputs=[0]", *STARS],
        "train/dataset_full.csv has the map m, which the simulator 'pulsar' does not make",
    ),
    "later rounds with maps of another size": (
        edit("train", "dataset_full.csv", "input:m", f"input:{SKY}"),
        [
            "trainer.num_rounds=2",
            "test_data_loader.testing=false",
            "training_data_loader.filter_inputs=[0]",
            "generator.resolution_dyn=16",
            *STARS,
        ],
        f"generator.resolution_dyn: gives the map {SKY} the shape [16, 8] in what is simulated",
    ),
    "later rounds with maps made otherwise": (
        lambda tmp_path: [
            edit("train", "dataset_full.csv", "input:m", f"input:{PPDOT}")(tmp_path),
            write(
                tmp_path / "train/generator.json", {"resolution_ppdot": 8, "smoothing_sigma": 3.0}
            ),
        ],
        [
            "trainer.num_rounds=2",
            "test_data_loader.testing=false",
            "training_data_loader.filter_inputs=[0]",
            *STARS,
        ],
        "train/dataset_full.csv: generator.smoothing_sigma is 3.0, what is simulated in this",
    ),
    "posterior proposals with all rounds (S22)": (
        nothing,
        ["trainer.num_rounds=2", "trainer.append_simulations=true"],
        "trainer.append_simulations: must be false for snpe with several rounds unless "
        "truncated_prior is true",
    ),
    "likelihood of maps": (
        nothing,
        ["trainer.type=snle"],
        "compression_input.use_compression: must be true when trainer.type is 'snle'",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_message_and_nothing_is_written(
    case: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    break_it, assignments, message = BAD[case]
    file = write(tmp_path / "sbi.json", given_values(tmp_path))
    break_it(tmp_path)
    flags = [text.replace("{tmp}", str(tmp_path)) for text in assignments]
    line = refused("sbi", "-c", file, *(part for flag in flags for part in ("--set", flag)))
    assert message in line


def test_there_are_enough_wrong_datasets() -> None:
    assert len(BAD) + len(LATE) >= 55


LATE: dict[str, tuple[Callable[[Path], None], str]] = {
    "map cut off in a later row": (
        lambda tmp_path: (tmp_path / "train/m_2.npy").write_bytes(b"\x93NUMPY"),
        "train/dataset_full.csv: row 2, column 'input:m': ",
    ),
    "map of another shape in a later row": (
        save("train/m_1.npy", np.zeros((8, 4))),
        "train/dataset_full.csv: row 1, column 'input:m': the map has shape (8, 4), the map of "
        "row 0 has (8, 8)",
    ),
    "map with NaN in a later row": (
        save("train/m_1.npy", np.full((8, 8), np.nan)),
        "train/dataset_full.csv: row 1, column 'input:m': the map has values that are not finite",
    ),
    "map of text in a later row": (
        save("train/m_1.npy", np.array([["a"]])),
        "train/m_1.npy: expected one map of numbers with 2 axes",
    ),
    "test map of another shape in a later row": (
        save("test/m_3.npy", np.zeros((4, 4))),
        "test/dataset_full.csv: row 3, column 'input:m': the map has shape (4, 4)",
    ),
    "test map with infinity in a later row": (
        save("test/m_2.npy", np.full((8, 8), np.inf)),
        "test/dataset_full.csv: row 2, column 'input:m': the map has values that are not finite",
    ),
}


@pytest.mark.parametrize("case", list(LATE))
def test_bad_row_ends_the_run_failed_with_one_message(
    case: str,
    mlpop: Callable[..., Any],
    at_work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_it, message = LATE[case]
    values = given_values(tmp_path) | {"name": f"bad row {tmp_path.name}", "n_gpu": 0}
    values["trainer"] |= {"max_num_epochs": 1, "num_posterior_samples": 10}
    values["density_estimator"] = {"args": {"hidden_features": 4, "num_components": 1}}
    break_it(tmp_path)
    ended = mlpop("sbi", "-c", write(tmp_path / "sbi.json", values))
    assert ended.code == 2, ended.err
    (line,) = (text for text in ended.err.splitlines() if text.startswith("Error: "))
    assert message in line
    assert "Traceback" not in ended.err
    runs = find(connect(), {"mlpop.name": str(values["name"])})
    tree = find(connect(), {"mlpop.root": runs[0].info.run_id})
    assert len(tree) >= 2
    ended = {run.data.tags["mlpop.kind"]: run for run in tree}
    assert {ended[kind].info.status for kind in ("experiment", "round")} == {"FAILED"}
    assert {ended[kind].data.tags["mlpop.state"] for kind in ("experiment", "round")} == {
        "stopped"
    }
    # a member whose training was over by then is kept for the resume
    assert {run.info.status for run in tree} <= {"FAILED", "FINISHED"}
    assert message in runs[0].data.tags["mlpop.error"]
    assert not list(tmp_path.rglob("COMPLETE.json"))
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("training_arrays"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "sbi.json: no such file"),
        ("{", "sbi.json:1: not valid JSON"),
        ("[]", "sbi.json: expected a JSON object, found list"),
        ('{"name": "a", "name": "b"}', "sbi.json: field 'name' is given twice"),
    ],
)
def test_bad_configuration_file(
    refused: Callable[..., str], tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "sbi.json").write_text(text)
    assert message in refused("sbi", "-c", tmp_path / "sbi.json")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            'dyn_data_loader={"dataset_path": "gone"}',
            "gone: holds neither final_pop_dyn.csv nor a stellar database",
        ),
        ("simulator.args.population.birth_rate_max=99", "NS_number"),
        (
            'simulator={"type": "no.such:Thing"}',
            "simulator.type: 'no.such:Thing' cannot be imported",
        ),
        ('simulator={"type": "two_moons"}', "prior_ranges.labels: "),
        ("generator.resolution_ppdot=16", "arch.args.input_shape"),
    ],
)
def test_simulations_that_cannot_work(
    refused: Callable[..., str],
    smoke: Callable[..., Values],
    tmp_path: Path,
    assignment: str,
    message: str,
) -> None:
    file = write(tmp_path / "sbi.json", smoke(tmp_path / "output"))
    assert message in refused("sbi", "-c", file, "--set", assignment)


def test_observed_sky_of_another_resolution_than_the_simulations(
    refused: Callable[..., str], smoke: Callable[..., Values], tmp_path: Path
) -> None:
    values = smoke(tmp_path / "output")
    observed = tmp_path / "observed"
    observed.mkdir()
    channels = values["training_data_loader"]["filter_inputs"]
    for channel in channels:
        np.save(observed / f"{channel}_0.npy", np.ones((32, 32)))
    header = ",".join(f"input:{channel}" for channel in channels)
    cells = ",".join(f"{channel}_0.npy" for channel in channels)
    (observed / "dataset_atnf.csv").write_text(f"{header}\n{cells}\n")
    write(observed / "generator.json", {"resolution_dyn": 32, "smoothing_sigma": 4.0})
    values["observed_sample"] = {"dataset_path": str(observed)}
    file = write(tmp_path / "sbi.json", values)
    assert "generator.smoothing_sigma is 4.0, the simulated training set has" in refused(
        "sbi", "-c", file
    )
