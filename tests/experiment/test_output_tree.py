import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from mlpop.errors import ConfigError, DataError
from mlpop.experiment.output_tree import (
    RUN_MARK,
    OutputTree,
    dataset_root,
    dataset_round,
    init_folders,
    output_tree,
)

NOW = datetime(2026, 11, 22, 9, 8, 7)


def test_documented_tree_of_a_training(tmp_path: Path) -> None:
    tree = output_tree(tmp_path, "SBI_ConvolutionMDN", now=NOW)
    first = tree.round(0)
    logs = tmp_path / "logs/SBI_ConvolutionMDN/20261122_090807"
    models = tmp_path / "models/SBI_ConvolutionMDN/20261122_090807"
    assert (tree.logs, tree.models, tree.logs.name) == (logs, models, "20261122_090807")
    assert tree.log_file == logs / "log.txt"
    assert tree.folders == {"mlpop.log_dir": logs, "mlpop.save_dir": models}
    assert (logs / "round_0").is_dir()
    assert (models / "round_0").is_dir()
    assert first.training_statistics() == logs / "round_0/training_statistics.json"
    assert first.training_statistics(1) == logs / "round_0/training_statistics_1.json"
    assert first.training_stats_plot() == logs / "round_0/training_stats.pdf"
    assert first.training_stats_plot(0) == logs / "round_0/training_stats_0.pdf"
    assert first.trained_model() == models / "round_0/trained_model.pickle"
    assert first.trained_model(2) == models / "round_0/trained_model_ensemble_2.pickle"
    assert first.inference() == models / "round_0/inference.pickle"
    assert first.inference(0) == models / "round_0/inference_ensemble_0.pickle"
    assert first.samples_posterior == models / "round_0/samples_posterior.pt"
    assert first.corner_plot == models / "round_0/corner_plot_observed_sample.pdf"
    assert first.corner_plot_prior(1) == models / "round_0/corner_plot_prior_round_1.pdf"
    assert first.samples_prior(1) == models / "round_0/samples_prior_1.pt"


def test_inference_writes_a_logs_tree_only(tmp_path: Path) -> None:
    tree = output_tree(tmp_path, "SBI", models=False, now=NOW)
    folders = tree.round(3)
    assert tree.models == tree.logs
    assert tree.folders == {"mlpop.log_dir": tree.logs}
    assert folders.corner_plot == tree.logs / "round_3/corner_plot_observed_sample.pdf"
    assert not (tmp_path / "models").exists()


def test_launches_of_the_same_second_get_their_own_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        trees = list(pool.map(lambda _: output_tree(tmp_path, "SBI", now=NOW), range(8)))
    stamps = {tree.logs.name for tree in trees}
    assert stamps == {"20261122_090807"} | {f"20261122_090807_{i}" for i in range(1, 8)}
    assert all(tree.models.name == tree.logs.name for tree in trees)


def test_models_without_logs_are_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "models/SBI/20261122_090807").mkdir(parents=True)
    tree = output_tree(tmp_path, "SBI", now=NOW)
    assert tree.logs.name == "20261122_090807_1"
    assert [path.name for path in (tmp_path / "logs/SBI").iterdir()] == ["20261122_090807_1"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a"])
def test_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a folder"):
        output_tree(tmp_path, name)


def test_folder_that_cannot_be_made_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(DataError, match=r"logs/SBI: cannot be made"):
        output_tree(tmp_path, "SBI")


def test_resume_goes_on_in_the_folders_of_the_run_if_they_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = output_tree(Path("output"), "SBI", run_id="7f", now=NOW)
    assert tree.models == tmp_path / "output/models/SBI/20261122_090807"
    tags = {tag: str(folder) for tag, folder in tree.folders.items()}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert output_tree(Path("output"), "SBI", tags, run_id="7f") == tree
    shutil.rmtree(tree.models)
    moved = output_tree(Path("output"), "SBI", tags, run_id="7f", now=NOW)
    assert moved.models == tmp_path / "elsewhere/output/models/SBI/20261122_090807"
    assert moved.models.is_dir()
    assert moved.logs.is_dir()


def run_in(project: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[OutputTree, dict[str, str]]:
    """Return the folders of a run in a new project, and its tags."""
    project.mkdir()
    monkeypatch.chdir(project)
    tree = output_tree(Path("output"), "SBI", run_id="7f", now=NOW)
    return tree, {tag: str(folder) for tag, folder in tree.folders.items()}


def test_resume_in_a_moved_project_goes_on_in_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tags = run_in(tmp_path / "before", monkeypatch)
    (tmp_path / "before").rename(tmp_path / "after")
    monkeypatch.chdir(tmp_path / "after")
    found = output_tree(Path("output"), "SBI", tags, run_id="7f")
    assert found.models == tmp_path / "after/output/models/SBI/20261122_090807"
    assert not (tmp_path / "before").exists()


def test_resume_in_a_copied_project_leaves_the_first_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, tags = run_in(tmp_path / "first", monkeypatch)
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    found = output_tree(Path("output"), "SBI", tags, run_id="7f")
    assert found.models == tmp_path / "copy/output/models/SBI/20261122_090807"
    monkeypatch.chdir(tmp_path)
    assert output_tree(Path("output"), "SBI", tags, run_id="7f") == tree


@pytest.mark.parametrize("mark", [None, "", "another run", b"\xff\xfe"])
def test_tags_do_not_decide_into_which_folder_is_written(
    tmp_path: Path, mark: str | bytes | None
) -> None:
    """Whoever has the store can change them: a folder must say itself that it is of the run."""
    chosen = [tmp_path / "home" / "logs", tmp_path / "home" / ".ssh"]
    for folder in chosen:
        folder.mkdir(parents=True)
        if mark is not None:
            content = mark if isinstance(mark, bytes) else mark.encode()
            (folder / RUN_MARK).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    tags = {"mlpop.log_dir": str(chosen[0]), "mlpop.save_dir": str(chosen[1])}
    tree = output_tree(tmp_path / "output", "SBI", tags, run_id="7f", now=NOW)
    assert tree.logs == tmp_path / "output/logs/SBI/20261122_090807"
    assert sorted(path for path in tmp_path.rglob("*") if "output" not in path.parts) == before


@pytest.mark.parametrize("given", ["data/train", "data/train/generated_dataset"])
def test_dataset_paths_end_in_generated_dataset_or_not_D7(given: str) -> None:
    root = Path("data/train")
    assert dataset_root(Path(given)) == root
    assert dataset_round(Path(given), 2) == root / "generated_dataset/round_2"


def test_init_folders_makes_the_documented_tree_again_and_again_S03(tmp_path: Path) -> None:
    folders = init_folders(tmp_path)
    (folders[0] / "dataset_full.csv").touch()
    assert init_folders(tmp_path) == folders
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_dir()}
    assert made == {
        "data",
        "data/training_dataset",
        "data/training_dataset/generated_dataset",
        "data/training_dataset/generated_dataset/round_0",
        "data/training_dataset/simulations",
        "data/test_dataset",
        "data/test_dataset/generated_dataset",
        "data/test_dataset/generated_dataset/round_0",
        "data/test_dataset/simulations",
    }
    assert (folders[0] / "dataset_full.csv").exists()
