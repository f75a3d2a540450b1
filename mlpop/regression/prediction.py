"""Point estimates of trained networks, and the documented table of results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mlpop.datasets.precision import as_numbers, float32_holds
from mlpop.datasets.scaling import LabelScaling, scale_inputs
from mlpop.errors import DataError
from mlpop.io.files import write_csv
from mlpop.networks.registry import build
from mlpop.regression.checkpoint import PointModel, load_model, weight_problems
from mlpop.regression.data import EVALUATION_CHUNK, PointSet
from mlpop.regression.evaluation import apply
from mlpop.regression.losses import Loss, build_loss

TARGET, PREDICTED, SIGMA = "target:", "predicted:", "sigma:"


@dataclass(frozen=True)
class Predictions:
    """Estimates of n samples in physical units.

    Attributes:
        labels: D names.
        predicted: (n, D).
        sigma: (n, D) predicted standard deviations, None where the loss gives none.
    """

    labels: tuple[str, ...]
    predicted: NDArray[np.float64]
    sigma: NDArray[np.float64] | None


class PointEstimator:
    """A trained network that takes maps as they are stored; messages call it `source`."""

    def __init__(self, model: PointModel, source: str) -> None:
        self.model = model
        self._loss = build_loss(model.loss, model.loss_args)
        self._network = model.build_network(source)

    @classmethod
    def load(cls, path: Path) -> "PointEstimator":
        """Read a trained model from a `.pth` file."""
        return cls(load_model(path)[0], str(path))

    def __call__(self, maps: NDArray) -> Predictions:
        """Return the estimates for maps (n, C, H, W) in the units of the dataset.

        Raises:
            DataError: the maps have another shape than those of the training.
        """
        values = as_numbers(maps)
        if values.ndim != 4 or values.shape[1:] != self.model.shape:
            raise DataError(
                f"expected maps of shape (n, {', '.join(map(str, self.model.shape))}) with the "
                f"channels {', '.join(self.model.channels)}, found {values.shape}"
            )
        if float32_holds(values, (2, 3)):
            # as the training has seen them
            values = values.astype(np.float32)
        x = torch.from_numpy(scale_inputs(values, self.model.input_scaling))
        with torch.no_grad():
            outputs = torch.cat([self._network(piece) for piece in x.split(EVALUATION_CHUNK)])
        return _predictions(outputs, self._loss, self.model.scaling)


def predict(
    network: nn.Module,
    data: PointSet,
    loss: Loss,
    scaling: LabelScaling,
    rows: Sequence[int] | None = None,
) -> Predictions:
    """Return the estimates for rows of a set, by default all, in the order of the rows.

    The network is on the device of the data; `loss` says what its outputs mean.
    """
    chosen = None if rows is None else torch.tensor(list(rows), dtype=torch.long)
    return _predictions(apply(network, data, chosen), loss, scaling)


def selected_rows(samples: Sequence[int], count: int, source: Path) -> list[int]:
    """Return the chosen rows in the order of the dataset, each once; all if none is chosen.

    Raises:
        DataError: a row does not exist.
    """
    wrong = [row for row in samples if not 0 <= row < count]
    if wrong:
        raise DataError(
            f"--samples: {source} has the rows 0 to {count - 1}, "
            f"found {', '.join(map(str, wrong))}"
        )
    return sorted(set(samples)) or list(range(count))


def check_resolution(model: PointModel, shape: tuple[int, ...], source: Path) -> None:
    """Refuse maps of another shape than those of the training.

    Raises:
        DataError: naming the layer that would have to change, and both shapes.
    """
    if shape == model.shape:
        return
    problems = []
    if "input_shape" in model.arch_args:
        with torch.device("meta"):
            other = build(model.arch, {**model.arch_args, "input_shape": list(shape)})
        problems = weight_problems(other, model.weights)
    raise DataError(
        f"{source}: maps have shape {shape}, the model was trained on {model.shape}"
        + "".join(f"; {problem}" for problem in problems)
    )


def write_results(path: Path, predictions: Predictions, truth: NDArray[np.float64]) -> None:
    """Write `inference_results.csv`: targets `truth` (n, D), then predictions, a row a sample."""
    header = [TARGET + name for name in predictions.labels]
    header += [PREDICTED + name for name in predictions.labels]
    columns = [truth, predictions.predicted]
    if predictions.sigma is not None:
        header += [SIGMA + name for name in predictions.labels]
        columns.append(predictions.sigma)
    write_csv(path, header, np.hstack(columns).tolist())


def summary(predictions: Predictions, truth: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Return label -> bias, MAE, RMSE, standard deviation of the truth (n, D), and RMSE over it.

    The last is 1 for a guess of the mean; it is left out where the truth does not vary.
    """
    numbers = {}
    for d, label in enumerate(predictions.labels):
        residual = predictions.predicted[:, d] - truth[:, d]
        rmse, std = float(np.sqrt(np.mean(residual**2))), float(np.std(truth[:, d]))
        numbers[label] = {
            "bias": float(np.mean(residual)),
            "mae": float(np.mean(np.abs(residual))),
            "rmse": rmse,
            "std": std,
        }
        if std > 0:
            numbers[label]["rmse_over_std"] = rmse / std
    return numbers


def _predictions(outputs: torch.Tensor, loss: Loss, scaling: LabelScaling) -> Predictions:
    shift = torch.from_numpy(scaling.shift).to(outputs.device)
    width = torch.from_numpy(scaling.width).to(outputs.device)
    physical = loss.physical(outputs.double(), shift, width)
    sigma = loss.sigma(physical)
    return Predictions(
        scaling.labels,
        loss.point(physical).cpu().numpy(),
        None if sigma is None else sigma.cpu().numpy(),
    )
