"""Where to look: links into MLflow's pages and the command that opens them.

MLflow's own links land on an overview page; these go straight to the table, the charts and the
comparison of runs.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from mlpop.errors import TrackingError
from mlpop.tracking.address import project_root, resolve_uri, sqlite_file
from mlpop.tracking.store import Store

LOCAL_SERVER = "http://127.0.0.1:5000"
TRAINING_MODE = "workflowType=machine_learning"
"""MLflow 3.17 opens its pages for language models unless the link says otherwise."""
MOST_COMPARED = 30
"""More runs make a link that terminals break and a page that nobody reads."""


def base_url(store: Store) -> str:
    """Return the address of MLflow's pages, for an embedded store once `ui_command` runs."""
    if store.uri.startswith(("http://", "https://")):
        return store.safe_uri.rstrip("/")
    return LOCAL_SERVER


def runs_link(store: Store, experiment_id: str) -> str:
    """Return the link to the table of runs."""
    return f"{base_url(store)}/#/experiments/{experiment_id}/runs?{TRAINING_MODE}"


def view_link(store: Store, experiment_id: str, view: str) -> str:
    """Return the link to a table of `views.VIEWS`."""
    return f"{runs_link(store, experiment_id)}&viewStateShareKey={view}"


def charts_link(store: Store, experiment_id: str) -> str:
    """Return the link to the charts of all runs."""
    return f"{runs_link(store, experiment_id)}&compareRunsMode=CHART"


def run_link(store: Store, experiment_id: str, run_id: str) -> str:
    """Return the link to one run."""
    return f"{base_url(store)}{run_path(experiment_id, run_id)}"


def run_path(experiment_id: str, run_id: str) -> str:
    """Return the link to one run within MLflow's pages, for use in descriptions."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}?{TRAINING_MODE}"


def compare_link(store: Store, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the link to the page that compares runs."""
    runs = quote(json.dumps(list(run_ids), separators=(",", ":")))
    places = quote(json.dumps([experiment_id], separators=(",", ":")))
    return f"{base_url(store)}/#/compare-runs?runs={runs}&experiments={places}&{TRAINING_MODE}"


def ui_command(store: Store, folder: Path | None = None) -> str | None:
    """Return what to type to see the pages, None where a server shows them already.

    Args:
        store: the tracking store.
        folder: where it will be typed, by default the working directory.
    """
    if store.uri.startswith(("http://", "https://")):
        return None
    if store.is_default:
        if (folder or Path.cwd()).absolute() == store.root:
            return "mlflow ui"
        return f"cd {shlex.quote(str(store.root))} && mlflow ui"
    if store.safe_uri != store.uri:
        # a password does not belong on a terminal
        return 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"'
    return f"mlflow ui --backend-store-uri {shlex.quote(store.uri)}"


def where_to_look(
    store: Store,
    experiment_id: str,
    run_id: str,
    others: Mapping[str, Sequence[str]] | None = None,
    folder: Path | None = None,
) -> str:
    """Return the lines that a command prints at its start and end.

    Args:
        store: the tracking store.
        experiment_id: the MLflow experiment.
        run_id: the run at the top.
        others: name of a view, such as `rounds` -> runs of this launch that it shows.
        folder: where they are read, by default the working directory.
    """
    command = ui_command(store, folder)
    lines = [f"Run     {run_id}"]
    if command:
        lines.append(f"Look    {command}")
    lines += [
        f"  run         {run_link(store, experiment_id, run_id)}",
        f"  table       {runs_link(store, experiment_id)}",
        f"  charts      {charts_link(store, experiment_id)}",
    ]
    for name, runs in (others or {}).items():
        lines.append(f"  {name:11} {view_link(store, experiment_id, name)}")
        if 1 < len(runs) <= MOST_COMPARED:
            lines.append(f"    compare   {compare_link(store, experiment_id, runs)}")
    return "\n".join(lines)


def no_runs_yet(start: Path | None = None) -> str | None:
    """Return where a first run would be recorded and how to start it; None if there is a store.

    Args:
        start: the folder whose project is meant, by default the working directory.
    """
    database = sqlite_file(resolve_uri(project_root(start)))
    if database is None or database.exists():
        return None
    return (
        f"no runs yet: there is no {database}; start one here with `mlpop sbi -c FILE` "
        "(`mlpop init FOLDER` makes a project with such files), or go to the project that has "
        "runs"
    )


def refuse_without_runs(what: str) -> None:
    """Refuse a launch that needs an earlier run where there is no store yet.

    Args:
        what: needs it, for the message.

    Raises:
        TrackingError: there is no store.
    """
    nothing = no_runs_yet()
    if nothing is not None:
        raise TrackingError(f"{what}: {nothing}")
