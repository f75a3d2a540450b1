"""The code of a point-estimate model in MLflow: maps in, labelled physical values out.

MLflow copies this file into the model ("models from code") and runs it when the model is loaded;
nothing is pickled.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from mlpop.regression.prediction import PREDICTED, SIGMA, PointEstimator


class PointEstimates(PythonModel):
    """Serves a trained network."""

    def load_context(self, context: Any) -> None:
        """Rebuild the network from its weights."""
        self.estimator = PointEstimator.load(Path(context.artifacts["model"]))

    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return a column `predicted:<label>` a label, in physical units.

        Args:
            context: of MLflow.
            model_input: (n, C, H, W) maps as they are stored in a dataset.
            params: none are known.
        """
        found = self.estimator(np.asarray(model_input))
        columns = {PREDICTED + name: found.predicted[:, d] for d, name in enumerate(found.labels)}
        if found.sigma is not None:
            columns |= {SIGMA + name: found.sigma[:, d] for d, name in enumerate(found.labels)}
        return pd.DataFrame(columns)


set_model(PointEstimates())
