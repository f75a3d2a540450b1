"""`mlpop status`: the run tree as text."""

from mlpop.tracking import StatusRow, status


def status_table(run_id: str | None = None) -> str:
    """Return one line a run: name, state, what lives, age, id.

    Args:
        run_id: any run of a tree; by default all trees of the store.

    Raises:
        TrackingError: there is no such run, or the store cannot be read.
    """
    rows = status(run_id)
    if not rows:
        return "no runs"
    lines = [f"{'run':<34} {'state':<12} {'status':<10} {'life':<6} {'age':>9} {'took':>9}  id"]
    return "\n".join(lines + [_line(row) for row in rows])


def _line(row: StatusRow) -> str:
    node = row.node
    name = "  " * row.depth + node.name
    reason = f"  {node.error}" if node.error else ""
    return (
        f"{name:<34} {node.state or '–':<12} {node.status:<10} {node.life:<6} "
        f"{_time(row.age):>9} {_time(row.duration):>9}  {node.run_id}{reason}"
    )


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
