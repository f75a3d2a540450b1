"""Whether the observed sample is like the simulations: if not, its posterior is void."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlpop.experiment.diagnostics.diagnostic import (
    Diagnostic,
    Evidence,
    Finding,
    Grade,
    Simulations,
    Verdict,
)
from mlpop.inference.diagnostics.typicality import (
    ALPHA,
    MOST_HELD_OUT,
    MOST_REFERENCES,
    Typicality,
    few_rows,
    is_unlike,
    needed_held_out,
)
from mlpop.io.files import read_json_object, write_json

logger = logging.getLogger(__name__)

MEMORY = "typicality.safetensors"
REPORT = "typicality.json"

ELSEWHERE = (
    "its simulations were drawn where the posterior of another observed sample is, that of the "
    "training, and not of this one"
)


class TypicalityDiagnostic(Diagnostic):
    """Compares x_o with the simulations that the round was trained on."""

    name = "typicality"
    memory = (MEMORY,)

    def learn(self, simulations: Simulations) -> Typicality:
        """Learn what the simulations of a round look like."""
        training, rows = simulations.training, simulations.validation.numpy()
        trained = few_rows(np.setdiff1d(np.arange(len(training)), rows), MOST_REFERENCES)
        held_out = [training.x[few_rows(rows, MOST_HELD_OUT)]]
        held_out += [] if simulations.tests is None else [simulations.tests.x]
        typicality = Typicality.fit(
            simulations.posterior, training.x[trained], np.concatenate(held_out)
        )
        typicality.save(simulations.folder / MEMORY)
        return typicality

    def load(self, folder: Path) -> Typicality | None:
        """Return what the simulations of a round look like."""
        path = folder / MEMORY
        return Typicality.load(path) if path.is_file() else None

    def examine_observed(self, evidence: Evidence) -> Sequence[Path]:
        """Write the p-values of x_o by view; warn if it is unlike the simulations.

        Without knowledge of the simulations there is nothing to say, and nothing is written,
        unless they were made for another x_o.
        """
        typicality: Typicality | None = evidence.learned.get(self.name)
        if typicality is None and not evidence.elsewhere:
            return ()
        p_values, held_out = {}, {}
        if typicality is not None:
            p_values = typicality.p_values(evidence.posterior, evidence.observed.x)
            held_out = {view: len(values.held_out) for view, values in typicality.views.items()}
        unlike = is_unlike(p_values)
        values = {
            "p_values": p_values,
            "held_out": held_out,
            "misspecified": unlike or evidence.elsewhere,
            "elsewhere": evidence.elsewhere,
        }
        if evidence.elsewhere:
            logger.warning("round %d: %s", evidence.round, ELSEWHERE)
        elif unlike:
            # at such an x_o drawing may fail: this is then why
            logger.warning("%s", _reason(p_values))
        elif text := _silence(values):
            logger.warning("round %d: %s", evidence.round, text)
        path = evidence.folder / REPORT
        write_json(path, values)
        return (path,)

    def finding(self, folder: Path) -> Finding:
        """Read the p-values; only a bad x_o is a verdict."""
        path = folder / REPORT
        values = read_json_object(path) if path.is_file() else {}
        p_values: Mapping[str, float] = values.get("p_values", {})
        verdict = None
        silence = _silence(values)
        if values.get("elsewhere"):
            verdict = Verdict(
                "misspecified",
                Grade.BAD,
                "this round learned from simulations for another observed sample: its posterior "
                "at this one means nothing",
                ELSEWHERE,
                "round 0, which knows no observed sample, or a training with this one",
            )
        elif values.get("misspecified"):
            verdict = Verdict(
                "misspecified",
                Grade.BAD,
                "the observed sample is unlike all simulations: whatever the tests say, its "
                "posterior is an extrapolation",
                _reason(p_values),
                "to compare its maps with simulated ones; other physics or selection, or a wider "
                "prior",
            )
        return Finding(
            numbers={f"typicality/p_{view}": p for view, p in p_values.items()},
            warnings=[f"{silence}."] if silence else [],
            verdict=verdict,
            rows={
                "p-value of the observed sample, as stored": p_values.get("x"),
                "p-value of the observed sample, embedded": p_values.get("embedding"),
            },
            calibration={"typicality": p_values},
        )


def _silence(values: Mapping[str, Any]) -> str:
    """Return that the check could not have said no, if so; empty if it could."""
    held_out: Mapping[str, int] = values.get("held_out", {})
    if not held_out or values["misspecified"]:
        return ""
    fewest, needed = min(held_out.values()), needed_held_out(len(held_out))
    if fewest >= needed:
        return ""
    return (
        f"nobody has checked whether the observed sample is like the simulations: that takes "
        f"{needed} that were not trained on, and there are {fewest} (a larger "
        "test_data_loader.num_sim or trainer.validation_fraction)"
    )


def _reason(p_values: Mapping[str, float]) -> str:
    views = ", ".join(f"{view} p = {p:.2g}" for view, p in p_values.items())
    return (
        f"the observed sample is unlike all simulations ({views}; limit "
        f"{ALPHA / len(p_values):.2g}): the simulator cannot make such data, or only in a corner "
        "of the prior that few simulations reach; its posterior is an extrapolation"
    )
