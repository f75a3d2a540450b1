"""A round that an earlier launch completed: put back in its folders, ready for the next one."""

import logging

from mlpop.datasets.layout import FULL_CSV, THETA
from mlpop.datasets.remote.mirror import localized
from mlpop.datasets.shards import SHARDS_FOLDER
from mlpop.errors import DataError
from mlpop.experiment.diagnostics.table import read_findings
from mlpop.experiment.inputs.observed import load_observed_copy
from mlpop.experiment.inputs.problem import PROBLEM, load_problem
from mlpop.experiment.output_tree import PROPOSAL_JSON, dataset_csv
from mlpop.experiment.resume.download import restore_files, restore_shards
from mlpop.experiment.resume.lineage import member_of
from mlpop.experiment.rounds.context import Launch
from mlpop.experiment.rounds.datasets import (
    TEST,
    TRAINING,
    SetKind,
    place,
    set_kinds,
)
from mlpop.experiment.rounds.ensemble import make_posterior
from mlpop.experiment.rounds.member_files import restore_member
from mlpop.experiment.rounds.proposals import round_support
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.simulations.simulated_set import SuppliedSet, given_set
from mlpop.inference.posteriors.store import POSTERIOR_FILE
from mlpop.io.files import read_json_object
from mlpop.io.records import malformed, read_numbers
from mlpop.tracking import Estimate, Node, recorded_datasets
from mlpop.tracking.artifacts import MANIFEST

logger = logging.getLogger(__name__)


def restore_round(
    launch: Launch, node: Node, previous: RoundResult | None, *, with_sets: bool
) -> RoundResult:
    """Return a complete round as if it had just been run.

    Its files are fetched from MLflow where they are not in the folders of this launch.

    Args:
        node: the run of the round.
        previous: the round before; None for round 0.
        with_sets: whether rounds follow; its simulations are then fetched too, if those learn
            from them.

    Raises:
        BrokenRecord: a file is whole and yet not what it should be: the round is to be done again.
        TrackingError, DataError: a file is missing or damaged.
    """
    lineage, config = launch.lineage, launch.config
    round_ = 0 if previous is None else previous.number + 1
    folders = launch.tree.round(round_)
    names = lineage.names(node)
    simulated = {name.removesuffix(THETA) for name in names if name.endswith(f"/{THETA}")}
    datasets = (f"{TRAINING.use}/", f"{TEST.use}/", *simulated)
    names = [name for name in names if not name.startswith(datasets)]
    restore_files(
        lineage.store, node.run_id, [*names, MANIFEST], folders.models, lineage.downloads
    )
    what = f"{node.name} (run {node.run_id})"
    with malformed(what):
        if previous is None:
            problem = load_problem(folders.models / PROBLEM)
            observed = load_observed_copy(folders.models)
        else:
            problem, observed = previous.problem, previous.observed
    members, member_runs = [], {}
    for j in range(config.trainer.members):
        run = member_of(node, j)
        if run is None:
            raise DataError(f"round {round_} is complete, but its member {j} is not")
        with malformed(f"{run.name} (run {run.run_id})"):
            restore_member(lineage, run, folders, j, config.trainer.ensemble)
        members.append(folders.member(j))
        member_runs[run.name] = run.run_id
    sets: dict[str, SuppliedSet] = {}
    if with_sets and config.trainer.append_simulations:
        sets = {kind.use: _set(launch, node, kind, round_) for kind in set_kinds(config)}
    logger.info("round %d is complete already (run %s)", round_, node.run_id)
    record = folders.models / PROPOSAL_JSON
    with malformed(what):
        proposal = read_json_object(record) if record.is_file() else {}
        summary = read_json_object(folders.models / "summary.json")
        # nothing here needs it, but whoever loads the posterior later does
        read_json_object(folders.models / POSTERIOR_FILE)
        result = RoundResult(
            number=round_,
            run_id=node.run_id,
            problem=problem,
            observed=observed,
            posterior=make_posterior(launch, members, problem),
            members=tuple(members),
            sets=sets,
            estimates=[
                Estimate(label, e["median"], e["low_95"], e["high_95"], e["truth"])
                for label, e in summary["posterior"].items()
            ],
            findings=read_findings(folders.models),
            numbers=lineage.metrics(node),
            support=round_support(launch, previous, proposal, observed),
            member_runs=member_runs,
        )
    lineage.downloads.forget(node.run_id)
    return result


def _set(launch: Launch, node: Node, kind: SetKind, round_: int) -> SuppliedSet:
    """Return a set of a complete round; a given one may have been changed since then."""
    lineage, loader = launch.lineage, kind.loader(launch.config)
    if round_ == 0 and not loader.simulate:
        assert loader.dataset_path_round_0 is not None
        supplied = given_set(dataset_csv(localized(loader.dataset_path_round_0)))
    else:
        supplied = _restored_set(launch, node, kind, round_)
    recorded = {
        dataset.digest
        for dataset in recorded_datasets(lineage.store.client, node.run_id, kind.use)
    }
    if recorded and supplied.digest not in recorded:
        raise DataError(
            f"{supplied.csv}: SHA-256 {supplied.digest[:12]}…, {node.name} of the run learned "
            f"from {' or '.join(sorted(digest[:12] + '…' for digest in recorded))}; give the same "
            f"{kind.use} set, or begin a new experiment"
        )
    return supplied


def _restored_set(launch: Launch, node: Node, kind: SetKind, round_: int) -> SuppliedSet:
    """Return a simulated set, put back where this launch expects it."""
    lineage = launch.lineage
    name = f"{kind.use}/{THETA}"
    with lineage.downloads.opened(lineage.store, node.run_id, name) as path:
        theta = read_numbers(path, f"artifact {name} of run {node.run_id}")
    folder = place(launch, kind, round_, theta)[0]
    prefix = f"{kind.use}/"
    names = {
        name: name.removeprefix(prefix)
        for name in lineage.names(node)
        if name.startswith(prefix) and not name.startswith(f"{prefix}{SHARDS_FOLDER}/")
    }
    restore_files(lineage.store, node.run_id, names, folder, lineage.downloads)
    restore_shards(lineage.store, node.run_id, kind.use, folder, lineage.downloads)
    return given_set(folder / FULL_CSV)
