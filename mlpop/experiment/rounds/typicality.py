"""Whether the observed sample is like the simulations: if not, its posterior is void."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from mlpop.datasets.loading import Dataset
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.experiment.output_tree import RoundFolders
from mlpop.inference.diagnostics.typicality import (
    ALPHA,
    MOST_HELD_OUT,
    MOST_REFERENCES,
    Typicality,
    few_rows,
    is_unlike,
)
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.io.files import read_json_object, write_json

logger = logging.getLogger(__name__)

TYPICALITY = "typicality.safetensors"
TYPICALITY_JSON = "typicality.json"
MISSPECIFIED = "misspecified"


@dataclass(frozen=True)
class TypicalityReport:
    """The p-values of x_o by view, and the files about them."""

    p_values: Mapping[str, float]
    files: Mapping[str, Path]

    @property
    def metrics(self) -> dict[str, float]:
        """`typicality/p_<view>` numbers for MLflow."""
        return {f"typicality/p_{view}": p for view, p in self.p_values.items()}

    @property
    def verdict(self) -> str:
        """The verdict where nothing else is tested; empty if nothing is wrong with x_o."""
        return MISSPECIFIED if is_unlike(self.p_values) else ""


def learn_typicality(
    posterior: Posterior,
    simulated: Dataset,
    validation: Tensor,
    test_set: Dataset | None,
    folders: RoundFolders,
) -> Typicality:
    """Learn what the simulations of a round look like; write `typicality.safetensors`.

    Args:
        posterior: of the round.
        simulated: the training set of the round, not of those before.
        validation: its rows that did not train.
        test_set: the tests of the round, drawn from the same proposal; they count as held out.
        folders: of the round.
    """
    rows = validation.numpy()
    trained = few_rows(np.setdiff1d(np.arange(len(simulated)), rows), MOST_REFERENCES)
    held_out = [simulated.x[few_rows(rows, MOST_HELD_OUT)]]
    held_out += [] if test_set is None else [test_set.x]
    typicality = Typicality.fit(posterior, simulated.x[trained], np.concatenate(held_out))
    typicality.save(folders.models / TYPICALITY)
    return typicality


def judge_observed(
    typicality: Typicality | None,
    posterior: Posterior,
    observed: ObservedSample,
    folders: RoundFolders,
) -> TypicalityReport:
    """Compare x_o with the simulations; write `typicality.json`, warn if it is unlike them.

    Without knowledge of the simulations there is nothing to say, and nothing is written.
    """
    if typicality is None:
        return TypicalityReport({}, {})
    p_values = typicality.p_values(posterior, observed.x)
    if is_unlike(p_values):
        logger.warning("%s", unlike_reason(p_values))
    path = folders.models / TYPICALITY_JSON
    held_out = {view: len(values.held_out) for view, values in typicality.views.items()}
    write_json(
        path, {"p_values": p_values, "held_out": held_out, "misspecified": is_unlike(p_values)}
    )
    return TypicalityReport(p_values, {TYPICALITY_JSON: path})


def recorded_verdict(folder: Path) -> str:
    """Return the verdict by the `typicality.json` of a round; empty where there is none."""
    path = folder / TYPICALITY_JSON
    unlike = path.is_file() and read_json_object(path)["misspecified"]
    return MISSPECIFIED if unlike else ""


def unlike_reason(p_values: Mapping[str, float]) -> str:
    """Say in one line why a posterior at x_o is not to be used."""
    found = ", ".join(f"{view} p = {p:.2g}" for view, p in p_values.items())
    return (
        f"the observed sample is unlike all simulations ({found}; limit "
        f"{ALPHA / len(p_values):.2g}): the simulator cannot make such data, or only in a corner "
        "of the prior that few simulations reach; its posterior is an extrapolation"
    )
