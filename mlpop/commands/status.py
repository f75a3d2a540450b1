"""`mlpop status`: the run tree as text."""

from mlpop.tracking import (
    Node,
    connect_to_read,
    no_runs_yet,
    refuse_without_runs,
    root_of,
    status,
    tree,
)
from mlpop.tracking.address import without_credentials
from mlpop.tracking.pages.description import clock

SHOWN = 50  # runs at the top


def status_table(run_id: str | None = None, *, every: bool = False) -> str:
    """Return one line a run: name, state, what lives, age, id; of one tree, also its outlook.

    Where there is no store yet, none is made.

    Args:
        run_id: any run of a tree; by default the newest runs at the top of all trees.
        every: whether all runs at the top are shown, however many there are.

    Raises:
        TrackingError: there is no such run, or the store cannot be read.
    """
    if run_id is not None:
        refuse_without_runs(f"run {run_id}")
    elif nothing := no_runs_yet():
        return nothing
    store = connect_to_read()
    limit = None if every or run_id is not None else SHOWN + 1
    rows = status(run_id, store=store, limit=limit)
    more = limit is not None and len(rows) == limit
    if not rows:
        return f"no runs in {without_credentials(store.uri)}"
    shown = rows[:SHOWN] if more else rows
    width = max(len(_name(row.depth, row.node)) for row in shown)
    lines = [
        f"{'run':<{width}} {'state':<10} {'status':<8} {'life':<5} {'age':>9} {'took':>8}  id",
        *(_line(row.depth, row.node, row.age, row.duration, width) for row in shown),
    ]
    if more:
        lines.append(f"the newest {SHOWN}; `mlpop status --all` shows every run")
    if run_id is not None:
        # what reads artifacts takes its time to import
        from mlpop.experiment.resume.outlook import outlook

        lines += ["", *outlook(store, tree(store, root_of(store, run_id)))]
    return "\n".join(lines)


def _name(depth: int, node: Node) -> str:
    return "  " * depth + node.name


def _line(depth: int, node: Node, age: float, duration: float, width: int) -> str:
    reason = f"  {node.error}" if node.error else ""
    return (
        f"{_name(depth, node):<{width}} {node.state or '–':<10} {node.status:<8} "
        f"{node.life:<5} {clock(age):>9} {clock(duration):>8}  {node.run_id}{reason}"
    )
