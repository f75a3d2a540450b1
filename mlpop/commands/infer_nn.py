"""`mlpop infer-nn`: point estimates of a trained network for the rows of a dataset."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mlpop.config.files.regression import (
    LoaderConfig,
    RegressionConfig,
    from_json,
    loader_differences,
    shape_problems,
)
from mlpop.errors import ConfigError
from mlpop.experiment.logs import show_on_terminal
from mlpop.experiment.point.figures import log_figures
from mlpop.experiment.point.setup import check_same_columns, load, network_args
from mlpop.experiment.session import session
from mlpop.io.files import sha256_of
from mlpop.networks.device import network_device
from mlpop.networks.registry import build
from mlpop.regression.checkpoint import PointModel, check_weights, load_model
from mlpop.regression.losses import build_loss
from mlpop.regression.prediction import (
    Predictions,
    check_resolution,
    predict,
    selected_rows,
    summary,
    write_results,
)
from mlpop.tracking import parameters, point_note

logger = logging.getLogger(__name__)

KIND = "infer_nn"
RESULTS = "inference_results.csv"
CONFIG = "config.json"


@dataclass(frozen=True)
class InferNnResult:
    """What a launch gave.

    Attributes:
        run_id: its MLflow run.
        csv: the table of results.
        rows: of the dataset, in order.
        predictions: of these rows.
        numbers: label -> bias, MAE, RMSE, spread, RMSE over spread.
    """

    run_id: str
    csv: Path
    rows: tuple[int, ...]
    predictions: Predictions
    numbers: Mapping[str, Mapping[str, float]]


def infer_nn(
    config: RegressionConfig, trained_model: Path, samples: Sequence[int] = ()
) -> InferNnResult:
    """Predict the labels of the test set and write them beside the true ones.

    Args:
        config: which data; type, columns and scaling must be those of the training.
        trained_model: a `.pth` file of `train_nn`.
        samples: row numbers of the test set; all if empty.

    Raises:
        ConfigError: the configuration does not fit the trained model.
        DataError: the dataset or the model is missing, broken, or does not fit.
    """
    show_on_terminal(config.trainer.verbosity)
    loader = config.test_data_loader
    if loader is None:
        raise ConfigError("test_data_loader: is required by infer-nn")
    model, _ = load_model(trained_model)
    _check_trained(config, loader, model, trained_model)
    loss = build_loss(model.loss, model.loss_args)
    args = network_args(config, loss, len(model.labels))
    with torch.device("meta"):
        network = build(config.arch.type, args)
    check_weights(network, model.weights, str(trained_model))
    data = load(loader, model.scaling.mode, model.scaling)
    check_resolution(model, data.shape, data.source)
    check_same_columns(data, model.channels, model.labels, "test_data_loader")
    rows = selected_rows(samples, len(data), data.source)
    device = network_device(config.n_gpu)
    data.to(device)
    resolved = config.resolved()
    with session(
        KIND,
        config.name,
        resolved,
        config_file=CONFIG,
        save_dir=config.infer.save_dir or config.trainer.save_dir,
        models=False,
        params=parameters(resolved)
        | {
            "trained_model": str(trained_model),
            "trained_model_sha256": sha256_of(trained_model),
            "num_samples": len(rows),
        },
    ) as launch:
        run, tree = launch.run, launch.tree
        logger.info("%s, epoch %d, on %s", trained_model, model.epoch, device)
        run.log_dataset("test", data.digest, str(data.source), "testing", {"num_rows": len(data)})
        trained = model.build_network(str(trained_model)).to(device)
        found = predict(trained, data, loss, model.scaling, rows)
        truth = np.ascontiguousarray(data.theta[rows])
        csv = launch.files[RESULTS] = tree.logs / RESULTS
        write_results(csv, found, truth)
        numbers = summary(found, truth)
        log_figures(run, tree, found, truth, "test")
        flat = {f"{k}/{label}": v for label, n in numbers.items() for k, v in n.items()}
        run.log_metrics(flat)
        about = f"`{trained_model.name}` on {len(rows)} of {len(data)} samples of `{data.source}`."
        run.set_note(point_note(run.experiment_id, about, numbers))
        for label, values in numbers.items():
            text = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
            logger.info("%-28s %s", label, text)
        logger.info("wrote %s", csv)
        return InferNnResult(run.run_id, csv, tuple(rows), found, numbers)


def _check_trained(
    config: RegressionConfig, loader: LoaderConfig, model: PointModel, path: Path
) -> None:
    """Refuse a test loader of another type, selection or scaling than the training's."""
    trained = from_json(model.config, f"configuration in {path}")
    assert trained.training_data_loader is not None
    name = "test_data_loader"
    different = loader_differences(loader, trained.training_data_loader, f"the training of {path}")
    problems = [(f"{name}.{field}", message) for field, message in different]
    problems += shape_problems(name, loader, config.arch)
    if problems:
        raise ConfigError("; ".join(f"{field}: {message}" for field, message in problems))
    if config.arch.type != model.arch:
        raise ConfigError(f"arch.type: is '{config.arch.type}', but {path} is a '{model.arch}'")
