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
from mlpop.inference.posteriors.model_files import load_packed
from mlpop.networks.rng import generator_from_seed


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
            params: `num_samples` draws for each, and `seed`; MLflow fills in the defaults of the
                signature.
        """
        assert params is not None
        number, seed = int(params["num_samples"]), int(params["seed"])
        if number < 1 or seed < 0:
            raise DataError(
                "num_samples must be 1 or more and seed 0 or more, but got "
                f"num_samples {number}, seed {seed}"
            )
        x = np.asarray(model_input)
        labels, generator = self.posterior.labels, generator_from_seed(seed)
        # one by one: then the draws for the first x are those that it has alone
        draws = [self.posterior.sample(number, one, generator) for one in x]
        table = pd.DataFrame(np.concatenate([np.empty((0, len(labels))), *draws]), columns=labels)
        table.insert(0, "observation", np.repeat(np.arange(len(x)), number))
        return table


set_model(ServedPosterior())
