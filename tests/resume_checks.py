"""What an interrupted and resumed experiment must have in common with an undisturbed one."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pytest
from matplotlib.figure import Figure

from mlpop.tracking import Node, Store, find, tree, verify
from mlpop.tracking.artifacts import manifest_records, read_manifest

TIMED = re.compile(
    r"(training|test|predictive)/(shards/.*|manifest\.csv)|x_o\.json|.*\.pickle|training_statistics\.json"
    r"|config_sbi\.json|log\.txt|profile\.(json|log)|posterior_model/.*"
    r"|report\.html"
)
"""Artifacts that tell times, places or ids: they are there, but differ from launch to launch.

What else a report tells is compared in `tests/experiment/report/test_html.py`."""

EPOCHS = 6
SMALL = {
    "training_data_loader__num_sim": 60,
    "compute__simulations_per_task": 20,
    "trainer__num_rounds": 2,
    "trainer__truncated_prior": True,
    "trainer__append_simulations": True,
    "trainer__plot_proposal": True,
    "trainer__ensemble": True,
    "trainer__size_ensemble": 2,
    "trainer__max_num_epochs": EPOCHS,
    "trainer__stop_after_epochs": EPOCHS,
    "trainer__checkpoint_seconds": 0,
    "trainer__num_posterior_samples": 200,
}
"""Changes to the experiment `vectors`: two rounds and two members, as small as can be."""

CURVES = ("train/loss", "val/loss", "train/epoch_seconds")


def without_figures(patch: pytest.MonkeyPatch) -> None:
    """Leave out the work of drawing: it takes longer than all the rest."""
    patch.setattr(Figure, "savefig", lambda _, file, **__: file.write(b"figure"))


def experiment_called(store: Store, name: str) -> Node:
    """Return the tree of the only experiment of this name that is no branch."""
    found = find(store, {"mlpop.kind": "experiment", "mlpop.name": name})
    (run,) = [run for run in found if "mlpop.branch_of" not in run.data.tags]
    return tree(store, run.info.run_id)


def results(store: Store, root: Node) -> dict[str, str]:
    """Return place -> SHA-256 of all that must not depend on how often a launch was stopped."""
    found: dict[str, str] = {}
    for place, node in placed(root):
        manifest = read_manifest(store.client, node.run_id)
        assert manifest is not None, place
        for name, record in manifest_records(manifest).items():
            # a commit meanwhile changes which of these files there are
            if name.startswith("provenance/"):
                continue
            found[f"{place}/{name}"] = "timed" if TIMED.fullmatch(name) else record.sha256
        if node.kind == "round":
            inputs = store.client.get_run(node.run_id).inputs
            for item in inputs.dataset_inputs if inputs else ():
                digest = json.loads(item.dataset.source)["digest"]
                found[f"{place}/input {item.dataset.name}"] = digest
        if node.kind == "member":
            found[f"{place}/losses"] = repr(losses(store, node))
    return found


def placed(root: Node) -> Iterable[tuple[str, Node]]:
    """Yield `round_00`, `round_00/member_00`, ... with their runs."""
    yield "", root
    for child in root.children:
        if child.kind == "round":
            yield child.name, child
            for member in child.children:
                yield f"{child.name}/{member.name}", member


def losses(store: Store, member: Node) -> Mapping[int, tuple[float, ...]]:
    """Return epoch -> values of both losses."""
    curves = [
        store.client.get_metric_history(member.run_id, curve)
        for curve in ("train/loss", "val/loss")
    ]
    values = [{point.step: point.value for point in curve} for curve in curves]
    return {step: tuple(curve[step] for curve in values) for step in sorted(values[0])}


def check_tree(
    store: Store,
    root: Node,
    *,
    rounds: Sequence[int] = (0, 1),
    kept: int = 0,
    members: int = 2,
    epochs: int = EPOCHS,
) -> None:
    """Exactly one complete run for each round and member; no point missing, none twice.

    Args:
        store: the tracking store.
        root: of the experiment.
        rounds: those that it has made.
        kept: number of rounds that it has from what it is a branch of.
        members: of every round.
        epochs: of every training.
    """
    names = [(depth, node.name) for depth, node in root.walk() if node.kind != "attempt"]
    each = [(2, f"member_{j:02d}") for j in range(members)]
    expected = [(0, root.name)]
    for r in rounds:
        expected += [(1, f"round_{r:02d}"), *each]
    assert names == expected
    for _, node in root.walk():
        if node.kind == "attempt":
            continue
        assert (node.status, node.state, node.error) == ("FINISHED", "complete", ""), node
        assert verify(store.client, node.run_id) == [], node.name
        check_points(store, node, epochs)
    assert len(histories(store, root)["val/best_loss"]) == kept + len(rounds)


def histories(store: Store, node: Node) -> dict[str, list[int]]:
    """Return curve -> its steps, in order."""
    keys = store.client.get_run(node.run_id).data.metrics
    return {
        key: sorted(point.step for point in store.client.get_metric_history(node.run_id, key))
        for key in keys
    }


def check_points(store: Store, node: Node, epochs: int = EPOCHS) -> None:
    """No curve has two points at one step; those of a training have one every epoch."""
    steps = histories(store, node)
    for key, found in steps.items():
        twice = [step for step, count in Counter(found).items() if count > 1]
        assert not twice, (node.name, key, twice)
    if node.kind == "member":
        number = int(store.client.get_run(node.run_id).data.metrics["epochs"])
        assert number == epochs
        for curve in CURVES:
            assert steps[curve] == list(range(1, number + 1)), (node.name, curve)
