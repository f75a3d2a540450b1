import json
import resource
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from mlpop.errors import TrackingError
from mlpop.tracking import Store, TrackedRun, commit, open_run, save_figure, verify
from mlpop.tracking.artifacts import MANIFEST, fetched, read_manifest, send


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    theta = tmp_path / "drawn.npy"
    theta.write_bytes(bytes(range(256)) * 40)
    weights = tmp_path / "estimator.safetensors"
    weights.write_bytes(b"weights" * 100)
    return {"theta.npy": theta, "member_00/estimator.safetensors": weights}


@pytest.fixture
def run(store: Store) -> TrackedRun:
    with open_run("round", "round_00", store=store, experiment="artifacts") as run:
        pass
    return run


def stored(run: TrackedRun, name: str) -> Path:
    uri = run.store.client.get_run(run.run_id).info.artifact_uri
    return Path(uri.removeprefix("file://")) / name


def test_committed_run_verifies(run: TrackedRun, files: dict[str, Path]) -> None:
    client = run.store.client
    assert read_manifest(client, run.run_id) is None
    assert verify(client, run.run_id) == [f"{MANIFEST} is missing"]
    manifest = commit(client, run.run_id, files)
    assert verify(client, run.run_id) == []
    assert read_manifest(client, run.run_id) == manifest
    assert manifest["artifacts"]["theta.npy"] == {
        "sha256": "e96760a87768717bcebcfd25ddc7d46b4dbc95a4b0014def080c08539f7d90d0",
        "bytes": 10240,
    }
    with fetched(client, run.run_id, "theta.npy") as path:
        assert path.read_bytes() == files["theta.npy"].read_bytes()


def test_digest_depends_on_content_alone(
    store: Store, run: TrackedRun, files: dict[str, Path]
) -> None:
    with open_run("round", "round_00", store=store, experiment="artifacts") as other:
        second = commit(store.client, other.run_id, dict(reversed(files.items())))
    assert commit(store.client, run.run_id, files)["digest"] == second["digest"]


def test_what_happened_to_an_artifact_is_found(run: TrackedRun, files: dict[str, Path]) -> None:
    client = run.store.client
    commit(client, run.run_id, files)
    theta = stored(run, "theta.npy")
    whole = theta.read_bytes()

    theta.write_bytes(whole[:4096])
    assert verify(client, run.run_id) == ["theta.npy: 4096 bytes, 10240 expected"]
    theta.write_bytes(whole[:-1] + b"x")
    (line,) = verify(client, run.run_id)
    assert line.startswith("theta.npy: SHA-256 ")
    theta.unlink()
    assert verify(client, run.run_id) == ["theta.npy: missing"]
    theta.write_bytes(whole)
    assert verify(client, run.run_id) == []


def test_broken_manifest_is_no_manifest(run: TrackedRun, files: dict[str, Path]) -> None:
    client = run.store.client
    commit(client, run.run_id, files)
    path = stored(run, MANIFEST)
    text = path.read_text()
    manifest = json.loads(text)

    path.write_text(text[:40])
    assert "cannot be read" in verify(client, run.run_id)[0]
    path.write_text(json.dumps(manifest | {"schema": 99}))
    assert "schema 99" in verify(client, run.run_id)[0]
    del manifest["artifacts"]["theta.npy"]
    path.write_text(json.dumps(manifest))
    assert "does not fit its list" in verify(client, run.run_id)[0]
    path.write_text("[]")
    assert "cannot be read" in verify(client, run.run_id)[0]


def test_nothing_is_marked_complete_when_a_file_is_missing_or_was_stored_short(
    run: TrackedRun, files: dict[str, Path]
) -> None:
    client = run.store.client
    with pytest.raises(TrackingError, match=r"gone\.npy: no such file"):
        commit(client, run.run_id, files | {"gone.npy": Path("gone.npy")})
    earlier = {"theta.npy": send(client, run.run_id, files["theta.npy"], "theta.npy")}
    stored(run, "theta.npy").write_bytes(b"short")
    with pytest.raises(TrackingError, match="theta.npy has 5 bytes in the store, 10240 were sent"):
        commit(client, run.run_id, {}, earlier)
    assert read_manifest(client, run.run_id) is None


def test_artifact_kept_from_an_earlier_process_is_in_the_manifest(
    store: Store, run: TrackedRun, files: dict[str, Path]
) -> None:
    run.send(files["theta.npy"], "shards/shard-00000.npy")
    with open_run("round", "round_00", store=store, run_id=run.run_id) as again:
        again.keep("shards/shard-00000.npy")
        manifest = again.commit({})
    assert list(manifest["artifacts"]) == ["shards/shard-00000.npy"]
    assert verify(store.client, run.run_id) == []


@pytest.mark.parametrize("name", [MANIFEST, "theta.npy", "member_00/estimator.safetensors"])
@pytest.mark.parametrize("what", ["loop", "link", "folder"])
def test_what_is_in_the_way_of_an_artifact_counts_as_missing_and_is_moved_away(
    run: TrackedRun, files: dict[str, Path], tmp_path: Path, what: str, name: str
) -> None:
    (tmp_path / "mine").write_text("mine")
    client = run.store.client
    commit(client, run.run_id, files)
    place = stored(run, name)
    place.unlink()
    if what == "folder":
        (place / "within").mkdir(parents=True)
    else:
        place.symlink_to(place.name if what == "loop" else tmp_path / "mine")
    assert len(verify(client, run.run_id)) == 1
    commit(client, run.run_id, files)
    assert verify(client, run.run_id) == []
    assert (tmp_path / "mine").read_text() == "mine"


def test_store_that_cannot_be_written_is_a_tracking_error(
    run: TrackedRun, files: dict[str, Path]
) -> None:
    place = stored(run, "shards")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    with pytest.raises(TrackingError, match=f"artifact shards/a.npy of run {run.run_id}"):
        run.send(files["theta.npy"], "shards/a.npy")


def test_artifact_that_finds_no_room_names_its_folder(
    run: TrackedRun, files: dict[str, Path]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(TrackingError) as error:
            send(run.store.client, run.run_id, files["theta.npy"], "theta.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = stored(run, "theta.npy").parent
    assert str(error.value) == (
        f"artifact theta.npy of run {run.run_id}: {folder}: cannot be written: File too large"
    )


def test_dataset_input_is_shown_with_its_digest(run: TrackedRun) -> None:
    digest = "0123456789abcdef" * 4
    run.log_dataset("round_0", digest, "/data/dataset_full.csv", "training", {"num_rows": 1000})
    (shown,) = run.store.client.get_run(run.run_id).inputs.dataset_inputs
    assert shown.dataset.name == "round_0"
    assert shown.dataset.digest == digest[:36]
    assert json.loads(shown.dataset.source) == {"uri": "/data/dataset_full.csv", "digest": digest}
    assert json.loads(shown.dataset.profile) == {"num_rows": 1000}
    assert [(tag.key, tag.value) for tag in shown.tags] == [("mlflow.data.context", "training")]


def test_figure_is_written_as_pdf_and_png_with_the_same_bytes_again(tmp_path: Path) -> None:
    with mpl.rc_context({"svg.hashsalt": "mlpop"}):
        figure = Figure()
        figure.subplots().plot([0, 1], [0, 1])
        pdf, png = save_figure(figure, tmp_path / "coverage_plot.pdf")
        again, _ = save_figure(figure, tmp_path / "again.pdf")
    assert pdf.read_bytes()[:4] == b"%PDF"
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert pdf.read_bytes() == again.read_bytes()
