"""What MLflow's pages show first: tables with the columns that runs of a kind are compared by.

MLflow keeps such a table as a tag of the experiment, as its button "Share view" makes them.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlpop.errors import TrackingError
from mlpop.tracking.params import PREFIX
from mlpop.tracking.store import Store, translated

logger = logging.getLogger(__name__)

EXPERIMENT_KIND = "mlflow.experimentKind"
MODEL_TRAINING = "custom_model_development"
VIEW_TAG = "mlflow.sharedViewState."


@dataclass(frozen=True)
class View:
    """One table.

    Attributes:
        kind: of the runs in it.
        order: what they are sorted by. Sorted by time MLflow shows nested runs below their
            parents alone, folded away.
        metrics: first columns.
        params: next columns, without their prefix.
        tags: first columns of all.
    """

    kind: str
    order: str
    metrics: tuple[str, ...]
    params: tuple[str, ...]
    tags: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return what MLflow keeps of a shared view."""
        columns = [f"tags.`{name}`" for name in self.tags]
        columns += [f"metrics.`{name}`" for name in self.metrics]
        columns += [f"params.`{PREFIX}{name}`" for name in self.params]
        return {
            "searchFilter": f"tags.`mlpop.kind` = '{self.kind}'",
            "orderByKey": self.order,
            "orderByAsc": True,
            "selectedColumns": columns,
        }


_BY_LOSS = "metrics.`best_val_loss`"
_NETWORK = (
    "trainer.lr",
    "trainer.lr_decay",
    "trainer.batch_size",
    "trainer.ema_decay",
    "trainer.embedding_weight_decay",
    "trainer.stop_after_epochs",
    "arch.type",
    "arch.args.len_output_layer",
    "density_estimator.type",
    "density_estimator.args.hidden_features",
    "weights_initializer.type",
    "parameters",
)

VIEWS: Mapping[str, View] = {
    "experiments": View(
        "experiment",
        "metrics.`val/best_loss`",
        ("val/best_loss", "coverage/ece", "sim/trained_on"),
        (
            "trainer.type",
            "trainer.num_rounds",
            "trainer.truncated_prior",
            "trainer.ema_decay",
            "training_data_loader.num_sim",
            "prior_ranges.low",
            "prior_ranges.high",
            "density_estimator.type",
            "members",
            "root_seed",
        ),
        ("mlpop.calibration",),
    ),
    "rounds": View(
        "round",
        f"params.`{PREFIX}round`",
        ("val/best_loss", "coverage/ece", "sim/failed_fraction", "proposal/acceptance"),
        (
            "round",
            "proposal",
            "simulations",
            "trained_on",
            "loss",
            "proposal_epsilon",
            "proposal_box",
        ),
        ("mlpop.calibration",),
    ),
    "members": View(
        "member",
        _BY_LOSS,
        ("best_val_loss", "best_epoch", "epochs", "seconds"),
        _NETWORK,
    ),
    "trials": View(
        "trial",
        _BY_LOSS,
        ("best_val_loss", "epochs", "seconds"),
        _NETWORK,
        ("optuna.state",),
    ),
}
"""Name in the link -> table."""


def prepare_pages(store: Store, experiment_id: str) -> None:
    """Give an MLflow experiment its tables, and the mode for the training of models.

    What is there already is left alone. A store that refuses is no reason not to run.
    """
    tags = {EXPERIMENT_KIND: MODEL_TRAINING}
    tags |= {f"{VIEW_TAG}{name}": json.dumps(view.state()) for name, view in VIEWS.items()}
    try:
        with translated(f"tags of MLflow experiment {experiment_id}"):
            there = store.client.get_experiment(experiment_id).tags
            for key, value in tags.items():
                if there.get(key) != value:
                    store.client.set_experiment_tag(experiment_id, key, value)
    except TrackingError as error:
        logger.debug("MLflow's pages keep their own columns: %s", error)
