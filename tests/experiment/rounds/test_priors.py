"""Whole experiments under priors that are not flat, whose posteriors are known in closed form."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.loading import load_dataset
from mlpop.datasets.scaling import LabelScaling
from mlpop.errors import ConfigError
from mlpop.inference.posteriors.store import load_posterior
from mlpop.io.digits import needed_digits
from mlpop.networks.rng import generator_from_seed

Values = dict[str, Any]
NOISE = 0.4
LOC, SCALE = 2.0, 0.8
CUT = {"loc": -0.5, "scale": 0.7, "low": -1.0, "high": 1.0}
WIDE = (0.3, 10.0)
TRUTH = {"theta_1": 3.1, "theta_2": -0.8, "theta_3": 1.5}
PRIOR = {
    "labels": ["theta_1", "theta_2", "theta_3"],
    "low": [None, CUT["low"], WIDE[0]],
    "high": [None, CUT["high"], WIDE[1]],
    "distributions": {
        "theta_1": {"type": "normal", "args": {"loc": LOC, "scale": SCALE}},
        "theta_2": {
            "type": "truncated_normal",
            "args": {"loc": CUT["loc"], "scale": CUT["scale"]},
        },
        "theta_3": {"type": "log_uniform"},
    },
}


def exact(x: NDArray[np.float64]) -> list[Any]:
    """Return the posteriors of x = theta + N(0, NOISE) of every label."""

    def product(loc: float, scale: float, centre: float) -> tuple[float, float]:
        precision = scale**-2 + NOISE**-2
        return (loc * scale**-2 + centre * NOISE**-2) / precision, precision**-0.5

    mean, spread = product(CUT["loc"], CUT["scale"], float(x[1]))
    edges = [(CUT[name] - mean) / spread for name in ("low", "high")]
    # no distribution of scipy: from a fine histogram
    lines = np.linspace(*WIDE, 4001)
    centres = (lines[1:] + lines[:-1]) / 2
    weights = np.exp(-0.5 * ((centres - x[2]) / NOISE) ** 2) / centres
    return [
        stats.norm(*product(LOC, SCALE, float(x[0]))),
        stats.truncnorm(*edges, loc=mean, scale=spread),
        stats.rv_histogram((weights, lines), density=True),
    ]


@pytest.fixture(scope="module")
def values(vectors: Callable[..., Values]) -> Callable[..., Values]:
    """Values of an experiment with the three priors."""

    def make(save_dir: Any, **changes: Any) -> Values:
        return vectors(
            save_dir,
            prior_ranges=PRIOR,
            observed_sample={"synthetic": {"theta": TRUTH}},
            simulator={"type": "gaussian_linear", "args": {"dimension": 3, "noise": NOISE}},
            training_data_loader={"simulate": True, "num_sim": 2000},
            test_data_loader={"testing": True, "simulate": True, "num_sim": 12},
            trainer__max_num_epochs=30,
            # a constant learning rate makes single steps jump
            trainer__ema_decay=0.99,
            **changes,
        )

    return make


@pytest.mark.parametrize(
    "method",
    [
        "snpe",
        pytest.param("snle", marks=pytest.mark.slow),
        pytest.param("snre", marks=pytest.mark.slow),
    ],
)
def test_posterior_is_the_exact_one(
    values: Callable[..., Values], run: Callable, tmp_path: Any, method: str
) -> None:
    done = run(values(tmp_path, name=f"priors {method}", trainer__type=method))
    x = np.asarray(done.result.rounds[0].observed.x, dtype=np.float64).ravel()
    posteriors = exact(x)
    file = torch.load(done.models / "round_0" / "samples_posterior.pt", weights_only=True)
    draws = LabelScaling.from_dict(done.summary()["scaling"]).inverse(file)
    for k, law in enumerate(posteriors):
        mean, std = law.mean(), law.std()
        assert draws[:, k].mean() == pytest.approx(mean, abs=0.4 * std), k
        assert draws[:, k].std() == pytest.approx(std, rel=0.35), k
    assert draws[:, 1].min() >= CUT["low"] - 1e-6
    assert draws[:, 2].min() >= WIDE[0] - 1e-6
    # the prior pulls: the posterior of the first label is not centred on x
    assert abs(posteriors[0].mean() - x[0]) > 0.1
    # training and test sets follow the prior
    prior = done.result.rounds[0].problem.prior
    csv = done.dataset("training") / "dataset_full.csv"
    theta = load_dataset(csv, filter_labels=tuple(TRUTH)).theta
    for column, marginal in zip(theta.T, prior.marginals, strict=True):
        assert stats.kstest(column, marginal.cdf).pvalue > 1e-3
    # the stored posterior: density and mode in physical units
    loaded = load_posterior(done.models / "round_0" / "posterior.json")
    places = np.array([law.ppf([0.2, 0.5, 0.8]) for law in posteriors]).T
    expected = sum(law.logpdf(places[:, k]) for k, law in enumerate(posteriors))
    found = loaded.log_prob(places, x.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1.0)
    mode = loaded.map(x.astype(np.float32), generator_from_seed(0))
    modes = [posteriors[0].mean(), None, (x[2] + (x[2] ** 2 - 4 * NOISE**2) ** 0.5) / 2]
    for k in (0, 2):
        assert mode[k] == pytest.approx(modes[k], abs=0.6 * posteriors[k].std()), k


def test_a_truth_that_the_prior_does_not_reach_is_refused(
    values: Callable[..., Values], tmp_path: Any
) -> None:
    far = {"synthetic": {"theta": TRUTH | {"theta_1": LOC + 6 * SCALE}}}
    with pytest.raises(
        ConfigError, match=r"theta_1: must lie in the prior range \[-2.24, 6.24\), found 6.8"
    ):
        SbiConfig.parse(values(tmp_path) | {"observed_sample": far})


@pytest.mark.parametrize(
    ("offset", "width"),
    [
        (60000.0, 0.01),
        pytest.param(-2.46e6, 1.0, marks=pytest.mark.slow),
        pytest.param(0.0, 1e-15, marks=pytest.mark.slow),
    ],
)
def test_numbers_are_logged_with_the_digits_that_their_interval_needs(
    vectors: Callable[..., Values], run: Callable, tmp_path: Path, offset: float, width: float
) -> None:
    labels = ["theta_1", "theta_2"]
    truth = offset + 0.7 * width
    document = vectors(
        tmp_path,
        prior_ranges={"labels": labels, "low": [offset] * 2, "high": [offset + width] * 2},
        observed_sample={"synthetic": {"theta": dict.fromkeys(labels, truth)}},
        simulator={"type": "gaussian_linear", "args": {"dimension": 2, "noise": width / 10}},
        training_data_loader={"simulate": True, "num_sim": 300},
        test_data_loader={"testing": True, "simulate": True, "num_sim": 60},
        trainer__max_num_epochs=3,
    )
    done = run(document)
    summary = done.summary()["posterior"]
    (node,) = done.tree.children
    of_round = done.store.client.get_run(node.run_id).data.metrics
    of_experiment = done.store.client.get_run(done.result.run_id).data.metrics
    for label in labels:
        near = pytest.approx(summary[label]["median"], abs=width / 100, rel=0.0)
        assert of_experiment[f"posterior/{label}/median"] == near
        assert of_round[f"posterior/{label}/median"] == near
        assert of_round[f"posterior/{label}/low_95"] < of_round[f"posterior/{label}/high_95"]
    page = (done.models / "report.html").read_text()
    assert f"{truth:.{needed_digits(offset, truth, offset + width)}g}" in page
