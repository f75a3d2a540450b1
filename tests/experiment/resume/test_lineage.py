"""Nothing damaged is taken for whole: it is done again, to the same bits, and the log says so."""

import hashlib
import io
import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.store.artifact import local_artifact_repo
from resume_checks import (
    SMALL,
    check_tree,
    experiment_called,
    results,
    without_figures,
)

from mlpop.commands.sbi import resume_experiment, run_experiment
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import DataError, TrackingError
from mlpop.experiment.resume import download as restoring
from mlpop.experiment.resume.lineage import Lineage, member_of
from mlpop.experiment.rounds import member_files as member_state
from mlpop.experiment.rounds.member_files import (
    FOLDER,
    INDEX,
    SLOTS,
    CheckpointSender,
    restore_checkpoint,
)
from mlpop.inference.estimators.store import WEIGHTS
from mlpop.tracking import Node, Store, artifacts, connect, open_run, tree
from mlpop.tracking.artifacts import MANIFEST, _content_digest, manifest_records

Values = dict[str, Any]
NAME = "damaged"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the experiment that these tests damage."""
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def whole(workplace: Any, vectors: Callable[..., Values], place: Path) -> dict[str, str]:
    """The results of the experiment before it is damaged."""
    with workplace(), pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        run_experiment(SbiConfig.parse(vectors(place, name=NAME, **SMALL)))
        store = connect()
        return results(store, experiment_called(store, NAME))


@pytest.fixture
def store(whole: dict[str, str], at_work: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that has the experiment."""
    without_figures(monkeypatch)
    return connect()


def node_of(store: Store, place: str) -> Node:
    """Return the run of `round_01` or `round_01/member_00`."""
    node = experiment_called(store, NAME)
    for name in place.split("/"):
        (node,) = [child for child in node.children if child.name == name]
    return node


def artifact(store: Store, place: str, name: str) -> Path:
    """Return the file that the store keeps an artifact in."""
    uri = store.client.get_run(node_of(store, place).run_id).info.artifact_uri
    path = Path(uri.removeprefix("file://"), name)
    assert path.is_file()
    return path


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "weights": (
        "round_01/member_01",
        WEIGHTS,
        flip_a_byte,
        "member_01 of round 1",
    ),
    "manifest of a round": ("round_01", MANIFEST, Path.unlink, "round_01"),
    "manifest of a member": ("round_00/member_00", MANIFEST, cut_short, "member_00 of round 0"),
    "shard": ("round_00", "training/shards/shard-00001.zip", cut_short, "round_00"),
    "theta": ("round_01", "training/theta.npy", flip_a_byte, "round_01"),
    "samples": ("round_00", "samples_posterior.pt", flip_a_byte, "round_00"),
}
FAST = ("weights",)


@pytest.mark.parametrize(
    "what", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in DAMAGES]
)
def test_damaged_artifact_is_made_again(
    what: str,
    store: Store,
    whole: dict[str, str],
    place: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    where, name, damage, told = DAMAGES[what]
    damage(artifact(store, where, name))
    for folder in place.iterdir():
        # the copies on this machine must not help
        if what == "shard":
            shutil.rmtree(folder)
    caplog.set_level(logging.INFO)
    root = experiment_called(store, NAME)
    resume_experiment(root.run_id)
    root = experiment_called(store, NAME)
    check_tree(store, root)
    assert results(store, root) == whole
    assert f"{told} is done again: " in caplog.text
    warned = [r for r in caplog.records if r.levelno == logging.WARNING and told in r.message]
    assert warned
    assert name in warned[0].message


def test_complete_members_of_a_damaged_round_are_kept(
    store: Store, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_member(*_: Any) -> None:
        raise AssertionError("a member is trained again")

    artifact(store, "round_01", "summary.json").unlink()
    monkeypatch.setattr("mlpop.experiment.rounds.ensemble.train_member", train_member)
    root = experiment_called(store, NAME)
    before = [node_of(store, f"round_01/member_0{j}").ended for j in (0, 1)]
    resume_experiment(root.run_id)
    assert results(store, experiment_called(store, NAME)) == whole
    assert [node_of(store, f"round_01/member_0{j}").ended for j in (0, 1)] == before


def test_artifacts_of_a_complete_round_are_fetched_once(
    store: Store, whole: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read back to be verified, and put back from what was read."""
    fetched: Counter[tuple[str, str]] = Counter()
    download = artifacts.download

    def counted(client: Any, run_id: str, name: str, path: Path) -> None:
        fetched[run_id, name] += name != MANIFEST
        download(client, run_id, name, path)

    class Elsewhere:
        """No store is on this machine."""

    artifact(store, "round_01", "summary.json").unlink()
    for folder in place.iterdir():
        shutil.rmtree(folder)
    for module in (artifacts, restoring):
        monkeypatch.setattr(module, "download", counted)
    monkeypatch.setattr(local_artifact_repo, "LocalArtifactRepository", Elsewhere)
    root = experiment_called(store, NAME)
    resume_experiment(root.run_id)
    assert results(store, experiment_called(store, NAME)) == whole
    first = node_of(store, "round_00")
    complete = {node.run_id for _, node in first.walk()}
    counts = {key: count for key, count in fetched.items() if key[0] in complete and count}
    assert len(counts) > 10
    assert set(counts.values()) == {1}


def objects() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


MALFORMED = [
    ("round_00", "summary.json", b"{}"),
    ("round_01", "summary.json", b'{"posterior": [1]}'),
    ("round_01", "proposal.json", b'{"threshold": "a", "box": {}}'),
    ("round_00", "training/theta.npy", objects()),
    ("round_00", "posterior.json", b"[" * 100_000),
    ("round_00/member_00", "training_statistics.json", b"[1]"),
    ("round_00/member_01", "estimator.json", b'{"record": [1]}'),
]


@pytest.mark.slow
@pytest.mark.parametrize(("where", "name", "content"), MALFORMED)
def test_record_that_is_whole_but_says_nothing_is_made_again(
    store: Store,
    whole: dict[str, str],
    caplog: pytest.LogCaptureFixture,
    where: str,
    name: str,
    content: bytes,
) -> None:
    """Its digest is that of the manifest, as if mlpop, or somebody else, had written it so.

    Theta are read by rounds that are still to be done.
    """
    if name.endswith(".npy"):
        artifact(store, "round_01", MANIFEST).unlink()
    artifact(store, where, name).write_bytes(content)
    path = artifact(store, where, MANIFEST)
    manifest = json.loads(path.read_text())
    manifest["artifacts"][name] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    manifest["digest"] = _content_digest(manifest_records(manifest))
    path.write_text(json.dumps(manifest))
    root = experiment_called(store, NAME)
    store.client.set_terminated(root.run_id, "KILLED")
    store.client.set_tag(root.run_id, "mlpop.ended", "KILLED")
    resume_experiment(root.run_id)
    assert "done again" in caplog.text or "trained anew" in caplog.text
    assert results(store, experiment_called(store, NAME)) == whole


@pytest.mark.parametrize("evil", ["../../evil", "/tmp/evil", "training/../../evil"])
def test_manifest_that_names_files_outside_is_refused(
    evil: str, store: Store, place: Path
) -> None:
    path = artifact(store, "round_01", MANIFEST)
    before = path.read_text()
    manifest = json.loads(before)
    manifest["artifacts"][evil] = manifest["artifacts"]["summary.json"]
    manifest["digest"] = _content_digest(manifest_records(manifest))
    path.write_text(json.dumps(manifest))
    files = set(place.rglob("*")) | set(place.parent.iterdir())
    try:
        with pytest.raises(TrackingError, match="evil"):
            resume_experiment(experiment_called(store, NAME).run_id)
    finally:
        path.write_text(before)
    assert set(place.rglob("*")) | set(place.parent.iterdir()) == files
    assert not Path("/tmp/evil").exists()


def test_changed_given_data_are_refused(
    store: Store, vectors: Callable[..., Values], place: Path, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    (made,) = (place / "data" / "training_dataset" / "generated_dataset").glob("round_0")
    shutil.copytree(made, given)
    changes = SMALL | {
        "name": "given",
        "trainer__num_rounds": 1,
        "test_data_loader__testing": False,
        "training_data_loader__simulate": False,
        "training_data_loader__dataset_path_round_0": str(given),
        "training_data_loader__statistic_path": str(given / "statistics_full.json"),
    }
    first = run_experiment(SbiConfig.parse(vectors(tmp_path / "out", **changes)))
    csv = given / "dataset_full.csv"
    head, *rows = csv.read_text().splitlines()
    csv.write_text("\n".join([head, *rows[:-1]]) + "\n")
    more = SbiConfig.parse(vectors(tmp_path / "out", **changes | {"trainer__num_rounds": 2}))
    with pytest.raises(DataError, match="round_00 of the run learned from .*give the same"):
        resume_experiment(first.run_id, more)


# --- what a lineage tells -----------------------------------------------------------------------


def test_newest_run_of_a_round_and_of_a_member_counts(store: Store) -> None:
    with open_run("experiment", "several", store=store) as root:
        for number in (0, 0, 1):
            place = {"mlpop.round": number}
            with open_run("round", f"round_{number:02d}", root.run_id, place) as round_:
                for _ in range(2):
                    with open_run("member", "member_00", round_.run_id, {"mlpop.member": 0}):
                        pass
    lineage = Lineage(store, tree(store, root.run_id))
    rounds = tree(store, root.run_id).children
    assert [node and node.run_id for node in map(lineage.round, range(3))] == [
        rounds[1].run_id,
        rounds[2].run_id,
        None,
    ]
    assert member_of(rounds[0], 0) == rounds[0].children[1]
    assert member_of(rounds[0], 1) is None
    assert member_of(None, 0) is None
    assert Lineage(store).round(0) is None


def test_run_that_ended_badly_is_not_complete_whatever_its_manifest_says(store: Store) -> None:
    with open_run("experiment", "killed", store=store) as run:
        run.send_json("a.json", 1)
        run.commit()
    lineage = Lineage(store, tree(store, run.run_id))
    assert lineage.root is not None
    assert lineage.is_complete(lineage.root)
    assert lineage.seems_complete(lineage.root)
    store.client.set_terminated(run.run_id, "KILLED")
    store.client.set_tag(run.run_id, "mlpop.ended", "KILLED")
    lineage = Lineage(store, tree(store, run.run_id))
    assert lineage.root is not None
    assert not lineage.is_complete(lineage.root)
    assert not lineage.seems_complete(lineage.root)


def test_fetched_file_is_compared_with_the_manifest(store: Store, tmp_path: Path) -> None:
    with open_run("experiment", "fetch", store=store) as run:
        run.send_json("a.json", {"k": 1})
        run.commit()
    lineage = Lineage(store, tree(store, run.run_id))
    node = lineage.root
    assert node is not None
    target = tmp_path / "a.json"
    assert lineage.fetch(node, "a.json", target) == target
    assert json.loads(target.read_text()) == {"k": 1}
    written = target.stat().st_mtime_ns
    lineage.fetch(node, "a.json", target)
    assert target.stat().st_mtime_ns == written
    target.write_text("mine")
    lineage.fetch(node, "a.json", target)
    assert lineage.json(node, "a.json") == {"k": 1}
    store.client.log_text(run.run_id, '{"k": 2}', "a.json")
    target.unlink()
    with pytest.raises(TrackingError, match="SHA-256 .* its manifest says"):
        lineage.fetch(node, "a.json", target)
    assert not target.exists()
    assert lineage.has(node, "a.json")
    assert not lineage.has(node, "b.json")
    assert lineage.names(node) == ["a.json"]


# --- checkpoints --------------------------------------------------------------------------------


@pytest.fixture
def kept(store: Store, tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """An open member run, and the folder of its training."""
    with open_run("member", "member_00", store=store, experiment="checkpoints") as run:
        yield run, tmp_path / "member_00"


def write_checkpoint(folder: Path, epoch: int) -> None:
    """Write a checkpoint as a training does."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    tensors = folder / FOLDER / f"checkpoint_{epoch:06d}.safetensors"
    tensors.write_bytes(b"weights of epoch %d" % epoch)
    record = member_state.file_record(tensors)
    values = {"file": tensors.name, "sha256": record.sha256, "epoch": epoch}
    (folder / FOLDER / INDEX).write_text(json.dumps(values))


def restored_epoch(store: Store, run: Any, folder: Path) -> int | None:
    """Return the epoch of the checkpoint that another machine finds."""
    restore_checkpoint(Lineage(store), tree(store, run.run_id), folder)
    index = folder / FOLDER / INDEX
    if not index.exists():
        return None
    values = json.loads(index.read_text())
    tensors = folder / FOLDER / values["file"]
    assert tensors.read_bytes() == b"weights of epoch %d" % values["epoch"]
    return int(values["epoch"])


def test_newest_checkpoint_is_found_on_another_machine(
    store: Store, kept: tuple[Any, Path], tmp_path: Path
) -> None:
    run, folder = kept
    assert restored_epoch(store, run, tmp_path / "none") is None
    send = CheckpointSender(run, folder)
    for epoch in (1, 2, 3):
        write_checkpoint(folder, epoch)
        send()
        assert restored_epoch(store, run, tmp_path / str(epoch)) == epoch
        # the training that goes on reads it: nothing of how it was stored is left in it
        indices = [
            json.loads((place / FOLDER / INDEX).read_text())
            for place in (folder, tmp_path / str(epoch))
        ]
        assert indices[0] == indices[1]


@pytest.mark.parametrize("before", [1, 2, 3])
def test_death_between_two_files_leaves_the_last_whole_checkpoint(
    store: Store,
    kept: tuple[Any, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: int,
) -> None:
    """Also in a launch that went on: it must not write into the slot that the index names."""
    run, folder = kept
    send = CheckpointSender(run, folder)
    for epoch in range(1, before + 1):
        write_checkpoint(folder, epoch)
        send()
    again = CheckpointSender(run, folder)
    monkeypatch.setattr(type(run), "spare_text", lambda *_: False)
    write_checkpoint(folder, 9)
    again()
    assert restored_epoch(store, run, tmp_path / "elsewhere") == before


def test_index_that_could_not_be_stored_leaves_its_slot_alone(
    store: Store, kept: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = kept
    send = CheckpointSender(run, folder)
    write_checkpoint(folder, 1)
    send()
    with monkeypatch.context() as patch:
        patch.setattr(type(run), "spare_text", lambda *_: False)
        for epoch in (2, 3):
            write_checkpoint(folder, epoch)
            send()
    assert restored_epoch(store, run, tmp_path / "elsewhere") == 1


def test_training_may_replace_its_checkpoint_while_it_is_stored(
    store: Store,
    kept: tuple[Any, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, folder = kept
    spare = type(run).spare

    def while_training(self: Any, path: Path, name: str) -> bool:
        for old in (folder / FOLDER).glob("*.safetensors"):
            old.unlink()
        return spare(self, path, name)

    write_checkpoint(folder, 1)
    monkeypatch.setattr(type(run), "spare", while_training)
    send = CheckpointSender(run, folder)
    send()
    send()
    assert restored_epoch(store, run, tmp_path / "elsewhere") == 1
    assert not caplog.records


def test_checkpoint_here_is_used_unless_it_is_damaged(
    store: Store, kept: tuple[Any, Path], caplog: pytest.LogCaptureFixture
) -> None:
    run, folder = kept
    write_checkpoint(folder, 1)
    CheckpointSender(run, folder)()
    write_checkpoint(folder, 2)
    assert restored_epoch(store, run, folder) == 2
    (folder / FOLDER / "checkpoint_000002.safetensors").write_bytes(b"half")
    assert restored_epoch(store, run, folder) == 1
    assert "the checkpoint is damaged and is not used" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": "../../evil.safetensors"},
        {"file": ".."},
        {"file": "/tmp/evil.safetensors"},
        {"sha256": "0" * 64},
        {"slot": SLOTS[1]},
        {"slot": None},
    ],
)
def test_checkpoint_that_is_not_what_it_says_is_left_out(
    store: Store,
    kept: tuple[Any, Path],
    tmp_path: Path,
    changes: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, folder = kept
    write_checkpoint(folder, 1)
    CheckpointSender(run, folder)()
    values = json.loads((folder / FOLDER / INDEX).read_text()) | {"slot": SLOTS[0]} | changes
    run.spare_text(json.dumps(values), f"{FOLDER}/{INDEX}")
    assert restored_epoch(store, run, tmp_path / "elsewhere") is None
    assert "member_00: its checkpoint cannot be used" in caplog.text
    assert not list((tmp_path / "elsewhere").rglob("*.safetensors"))


def test_store_that_is_away_does_not_hold_up_the_training(
    kept: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = kept
    write_checkpoint(folder, 1)
    monkeypatch.setattr(type(run), "answers", lambda _: False)
    monkeypatch.setattr(type(run), "spare", lambda *_: pytest.fail("it is asked all the same"))
    CheckpointSender(run, folder)()
