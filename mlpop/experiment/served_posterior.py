"""The code of a posterior in MLflow: observations in, draws of physical parameters out.

MLflow copies this file into the model ("models from code") and runs it when the model is loaded;
nothing is pickled.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from mlpop.errors import DataError
from mlpop.inference.packed import load_packed
from mlpop.inference.rng import generator_from_seed


class ServedPosterior(PythonModel):
    """Serves a trained posterior."""

    def load_context(self, context: Any) -> None:
        """Rebuild the posterior; every file is compared with its digest."""
        folder = Path(context.artifacts["posterior"])
        self.posterior = load_packed(folder, context.model_config["digest"])

    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return draws: a row a draw, a column a label, in physical units.

        The column `observation` tells which x the draw is for, from 0; the draws of the first x
        come first. The same seed gives the same draws.

        Args:
            context: of MLflow.
            model_input: (b, *x_shape) observations as they are stored in a dataset.
            params: `num_samples` draws for each, and `seed`.
        """
        given = {"num_samples": 1000, "seed": 0} | dict(params or {})
        number, seed = int(given["num_samples"]), int(given["seed"])
        if number < 1 or seed < 0:
            raise DataError(
                "num_samples must be 1 or more and seed 0 or more, but got "
                f"num_samples {number}, seed {seed}"
            )
        x = np.asarray(model_input, dtype=np.float32)
        theta = self.posterior.sample_batched(number, x, generator_from_seed(seed))
        columns = {"observation": np.repeat(np.arange(len(x)), number)}
        labels = self.posterior.labels
        return pd.DataFrame(columns | {name: theta[..., k].T.ravel() for k, name in enumerate(labels)})


set_model(ServedPosterior())
