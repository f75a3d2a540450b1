"""MLflow tracking: stores, runs that end truly, live curves, artifacts with digests, lineage.

Importing this package does not import MLflow; connecting does.
"""

from mlpop.tracking.address import project_root
from mlpop.tracking.artifacts import commit, verify
from mlpop.tracking.curves import CurveBuffer, replay
from mlpop.tracking.lineage import Node, StatusRow, find, recorded_datasets, root_of, status, tree
from mlpop.tracking.pages.description import (
    Estimate,
    RoundLine,
    experiment_note,
    member_note,
    point_note,
    round_note,
)
from mlpop.tracking.pages.figure import save_figure
from mlpop.tracking.pages.links import (
    compare_link,
    no_runs_yet,
    refuse_without_runs,
    run_link,
    ui_command,
    where_to_look,
)
from mlpop.tracking.pages.views import prepare_pages
from mlpop.tracking.params import flatten, parameters
from mlpop.tracking.provenance import record_provenance
from mlpop.tracking.run import TrackedRun
from mlpop.tracking.runs import note_attempt, open_run, tell_given_run
from mlpop.tracking.signals import graceful_signals
from mlpop.tracking.store import Store, check_artifacts, connect, connect_to_read

__all__ = [
    "CurveBuffer",
    "Estimate",
    "Node",
    "RoundLine",
    "StatusRow",
    "Store",
    "TrackedRun",
    "check_artifacts",
    "commit",
    "compare_link",
    "connect",
    "connect_to_read",
    "experiment_note",
    "find",
    "flatten",
    "graceful_signals",
    "member_note",
    "no_runs_yet",
    "note_attempt",
    "open_run",
    "parameters",
    "point_note",
    "prepare_pages",
    "project_root",
    "record_provenance",
    "recorded_datasets",
    "refuse_without_runs",
    "replay",
    "root_of",
    "round_note",
    "run_link",
    "save_figure",
    "status",
    "tell_given_run",
    "tree",
    "ui_command",
    "verify",
    "where_to_look",
]
