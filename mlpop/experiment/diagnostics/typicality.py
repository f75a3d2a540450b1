"""Whether the observed sample is like the simulations: if not, its posterior is void."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

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
)
from mlpop.io.files import read_json_object, write_json

logger = logging.getLogger(__name__)

MEMORY = "typicality.safetensors"
REPORT = "typicality.json"


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

        Without knowledge of the simulations there is nothing to say, and nothing is written.
        """
        typicality: Typicality | None = evidence.learned.get(self.name)
        if typicality is None:
            return ()
        p_values = typicality.p_values(evidence.posterior, evidence.observed.x)
        unlike = is_unlike(p_values)
        if unlike:
            # at such an x_o drawing may fail: this is then why
            logger.warning("%s", _reason(p_values))
        held_out = {view: len(values.held_out) for view, values in typicality.views.items()}
        path = evidence.folder / REPORT
        write_json(path, {"p_values": p_values, "held_out": held_out, "misspecified": unlike})
        return (path,)

    def finding(self, folder: Path) -> Finding:
        """Read the p-values; only a bad x_o is a verdict."""
        path = folder / REPORT
        values = read_json_object(path) if path.is_file() else {}
        p_values: Mapping[str, float] = values.get("p_values", {})
        verdict = None
        if values.get("misspecified"):
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
            verdict=verdict,
            rows={
                "p-value of the observed sample, as stored": p_values.get("x"),
                "p-value of the observed sample, embedded": p_values.get("embedding"),
            },
            calibration={"typicality": p_values},
        )


def _reason(p_values: Mapping[str, float]) -> str:
    views = ", ".join(f"{view} p = {p:.2g}" for view, p in p_values.items())
    return (
        f"the observed sample is unlike all simulations ({views}; limit "
        f"{ALPHA / len(p_values):.2g}): the simulator cannot make such data, or only in a corner "
        "of the prior that few simulations reach; its posterior is an extrapolation"
    )
