"""What a study gave: figures, importances, tables, and the experiment file of its best trial."""

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from mlpop.io.files import write_atomically
from mlpop.plots.style import write
from mlpop.study.figures import study_figures
from mlpop.study.space import Space
from mlpop.study.storage import TrialRecord, best, front
from mlpop.study.trial_runs import short
from mlpop.tracking.pages.links import run_path

logger = logging.getLogger(__name__)

BEST_CONFIG = "best_config.json"
IMPORTANCE_SEED = 0
LEAST_TRIALS = 4
"""Complete trials that importances need."""
SHOWN = 10
"""Trials in the description of a study."""


def importances(study: optuna.Study, space: Space) -> dict[str, dict[str, float]]:
    """Return how much of the variation of the validation loss each field explains (fANOVA).

    Fields that are always searched are compared over all complete trials, under `all`; fields
    that are searched under a condition over the trials that meet it, under that condition.
    """
    always = [path for path, dimension in space.items() if not dimension.when]
    groups: dict[str, list[str]] = {"all": always}
    for path, dimension in space.items():
        if dimension.when:
            name = ", ".join(
                f"{k} = {' or '.join(map(str, v))}" for k, v in dimension.conditions().items()
            )
            groups.setdefault(name, list(always)).append(path)
    found = {}
    for name, paths in groups.items():
        complete = [
            trial
            for trial in study.get_trials(
                deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)
            )
            if set(paths) <= trial.params.keys()
        ]
        varied = [p for p in paths if len({str(t.params[p]) for t in complete}) > 1]
        if len(complete) < LEAST_TRIALS or not varied:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = optuna.importance.get_param_importances(
                    study,
                    evaluator=optuna.importance.FanovaImportanceEvaluator(seed=IMPORTANCE_SEED),
                    params=varied,
                    target=lambda trial: trial.values[0],
                )
        except (RuntimeError, ValueError) as error:
            logger.info("no importances for %s: %s", name, error)
            continue
        found[name] = {path: round(float(value), 4) for path, value in values.items()}
    return found


def write_tables(
    folder: Path,
    trials: Sequence[TrialRecord],
    weights: Mapping[str, Mapping[str, float]],
    second: str | None,
) -> dict[str, Path]:
    """Write `trials.json`, `importances.json` and, with two objectives, `pareto.json`."""
    tables: dict[str, Any] = {
        "trials.json": [_plain(record) for record in trials],
        "importances.json": weights,
    }
    if second is not None:
        tables["pareto.json"] = [_plain(record) for record in front(trials)]
    for name, table in tables.items():
        write_atomically(folder / name, json.dumps(table, indent=1) + "\n")
    return {name: folder / name for name in tables}


def study_note(
    experiment_id: str,
    run_id: str,
    about: str,
    trials: Sequence[TrialRecord],
    run_ids: Mapping[int, str],
) -> str:
    """Describe a study in Markdown: its result first, then its best trials with links."""
    leader = best(trials)
    complete = sorted((r for r in trials if r.state == "complete"), key=lambda r: r.value)
    counts = {s: sum(r.state == s for r in trials) for s in ("complete", "pruned", "failed")}
    parts = [about]
    if leader is not None:
        own = next((r for r in complete if r.slot == 0), None)
        gain = f"; of the experiment as it was {own.value:.4f}" if own else ""
        parts = [
            f"**Best validation loss {leader.value:.4f} ({leader.name}){gain}.**",
            about,
            f"`{BEST_CONFIG}` is the experiment of that trial: "
            f"`mlpop sbi --configuration runs:/{run_id}/{BEST_CONFIG}`.",
        ]
    parts.append(", ".join(f"{number} {state}" for state, number in counts.items()) + ".")
    if complete:
        lines = ["| trial | loss | epochs | seconds | |", "| --- | --- | --- | --- | --- |"]
        for record in complete[:SHOWN]:
            link = f"[{record.name}]({run_path(experiment_id, run_ids[record.slot])})"
            point = ", ".join(f"{k} {_text(v)}" for k, v in short(record.point).items())
            lines.append(
                f"| {link} | {record.value:.4f} | {record.epochs} | {record.seconds:.3g} "
                f"| {point} |"
            )
        parts.append("\n".join(lines))
    failed = [r for r in trials if r.state == "failed"]
    parts += [f"{record.name} failed: {record.reason}" for record in failed[:3]]
    return "\n\n".join(parts) + "\n"


def write_findings(
    folder: Path,
    study: optuna.Study,
    trials: Sequence[TrialRecord],
    space: Space,
    second: str | None,
) -> tuple[dict[str, Path], dict[str, dict[str, float]]]:
    """Write the tables and the figures of a finished study.

    Returns:
        Artifact name -> file, and the importances.
    """
    weights = importances(study, space)
    files = write_tables(folder, trials, weights, second)
    numbered = study.get_trials(deepcopy=False)
    ended = [numbered[record.number] for record in trials]
    for name, figure in study_figures(ended, weights, second).items():
        for path in write(figure, folder / "figures" / name):
            files[f"figures/{path.name}"] = path
    return files, weights


def _plain(record: TrialRecord) -> dict[str, Any]:
    return {
        "slot": record.slot,
        "state": record.state,
        "value": record.values[0] if record.values else None,
        "values": record.values,
        "losses": dict(record.losses),
        "point": dict(record.point),
        "optuna_trial": record.number,
        "epochs": record.epochs,
        "seconds": record.seconds,
        "parameters": record.result.get("parameters"),
        "reason": record.reason,
    }


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
