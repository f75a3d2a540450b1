"""The files of experiments/ from the command line to their posterior; minutes each, so `slow`.

They share a store, a cache and a data folder, as they do for a user: files that ask for the same
simulations make them once.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlpop.config.base import read_json
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.scaling import LabelScaling
from mlpop.tracking import connect, find, tree, verify

pytestmark = pytest.mark.slow

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NAMES = (
    *("npe", "tsnpe", "snpe_c", "snle_pca", "snre_pca", "snle_cnn", "snre_cnn"),
    *("gaussian_linear", "two_moons"),
)
LOGS = {"log.txt", "profile.json", "profile.log"}
POSTERIOR = {"corner_plot_observed_sample.pdf", "samples_posterior.pt"}
TESTING = {"coverage_plot.pdf", "coverage_probability.npy", "posterior_samples_test_data.npz"}


@dataclass(frozen=True)
class Done:
    """An experiment that ended."""

    config: SbiConfig
    output: str
    logs: Path
    models: Path


@pytest.fixture(scope="module")
def command(
    workplace: Callable[[], AbstractContextManager[Path]],
) -> Callable[..., str]:
    """Run `mlpop` in the session's workplace, and return what it says."""

    def start(*arguments: str) -> str:
        with workplace() as folder:
            done = subprocess.run(
                [sys.executable, "-m", "mlpop", *arguments],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=1800,
            )
        assert done.returncode == 0, done.stderr[-5000:]
        return done.stderr

    return start


@pytest.fixture(scope="module")
def experiment(
    command: Callable[..., str], workplace: Callable[[], AbstractContextManager[Path]]
) -> Callable[[str], Done]:
    """Run one of the experiments from the command line, once for all tests."""

    begun: set[str] = set()

    @cache
    def run(name: str) -> Done:
        # one that failed would only fail again, minutes later
        assert name not in begun, f"{name} has failed already"
        begun.add(name)
        file = EXPERIMENTS / f"{name}.json"
        output = command("sbi", "--configuration", str(file))
        with workplace() as folder:
            (logs,) = (folder / "output" / "logs" / name).iterdir()
            (models,) = (folder / "output" / "models" / name).iterdir()
        return Done(SbiConfig.parse(read_json(file)), output, logs, models)

    return run


@pytest.fixture
def done(request: pytest.FixtureRequest, experiment: Callable[[str], Done]) -> Done:
    """The experiment that a test is about."""
    return experiment(request.param)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def draws(folder: Path) -> np.ndarray:
    """Posterior draws of a round, physical units."""
    scaled = torch.load(folder / "samples_posterior.pt", weights_only=True)
    scaling = json.loads((folder / "summary.json").read_text())["scaling"]
    return LabelScaling.from_dict(scaling).inverse(scaled.numpy())


def members(config: SbiConfig, single: str, ensemble: str) -> set[str]:
    count = config.trainer.members
    ensembled = config.trainer.ensemble
    return {ensemble.format(j) for j in range(count)} if ensembled else {single}


@pytest.mark.parametrize("done", NAMES, indirect=True)
class TestExperiment:
    """What every one of them must give."""

    def test_every_documented_file_is_there_S27_S28(self, done: Done) -> None:
        config = done.config
        assert names(done.logs) >= LOGS
        assert "config_sbi.json" in names(done.models)
        for r in range(config.trainer.num_rounds):
            logged, modelled = names(done.logs / f"round_{r}"), names(done.models / f"round_{r}")
            for single, ensemble in (
                ("training_statistics.json", "training_statistics_{}.json"),
                ("training_stats.pdf", "training_stats_{}.pdf"),
            ):
                assert members(config, single, ensemble) <= logged
            for single, ensemble in (
                ("trained_model.pickle", "trained_model_ensemble_{}.pickle"),
                ("inference.pickle", "inference_ensemble_{}.pickle"),
            ):
                assert members(config, single, ensemble) <= modelled
            assert modelled >= POSTERIOR | TESTING | {"posterior.json", "COMPLETE.json"}
            proposal = {f"corner_plot_prior_round_{r + 1}.pdf", f"samples_prior_{r + 1}.pt"}
            assert (proposal <= modelled) == config.trainer.plot_proposal

    def test_runs_are_complete_and_whole(self, done: Done, at_work: Path) -> None:
        store = connect()
        (root,) = find(store, {"mlpop.kind": "experiment", "mlpop.name": done.config.name})
        nodes = [node for _, node in tree(store, root.info.run_id).walk()]
        rounds = done.config.trainer.num_rounds
        kinds = [node.kind for node in nodes]
        assert kinds.count("round") == rounds
        assert kinds.count("member") == rounds * done.config.trainer.members
        for node in nodes:
            assert (node.status, node.state) == ("FINISHED", "complete"), node.name
            assert verify(store.client, node.run_id) == [], node.name

    def test_posterior_has_learnt_and_covers_the_truth(self, done: Done) -> None:
        config = done.config
        truth = config.observed_sample.synthetic.theta
        last = done.models / f"round_{config.trainer.num_rounds - 1}"
        theta, ranges = draws(last), config.prior_ranges
        assert theta.shape == (config.trainer.num_posterior_samples, len(ranges.labels))
        width = np.array(ranges.high) - np.array(ranges.low)
        assert (theta >= np.array(ranges.low) - 1e-5 * width).all()
        assert (theta <= np.array(ranges.high) + 1e-5 * width).all()
        # two crescents fill the box of their labels less than a uniform prior does, but not much
        narrow = theta.std(0) / (width / 12**0.5)
        assert narrow.min() < 0.8, narrow
        low, high = np.quantile(theta, [0.0005, 0.9995], axis=0)
        for k, label in enumerate(ranges.labels):
            assert low[k] <= truth[label] <= high[k], (label, truth[label], low[k], high[k])

    def test_later_rounds_come_from_a_proposal(self, done: Done, at_work: Path) -> None:
        store = connect()
        (root,) = find(store, {"mlpop.kind": "experiment", "mlpop.name": done.config.name})
        trainer = done.config.trainer
        for node in tree(store, root.info.run_id).children[1:]:
            artifacts = store.client.get_run(node.run_id).info.artifact_uri
            path = Path(str(artifacts).removeprefix("file://")) / "proposal.json"
            proposal: Mapping[str, Any] = json.loads(path.read_text())
            assert proposal["kind"] == ("truncated" if trainer.truncated_prior else "posterior")
            assert 0 < proposal["acceptance"] <= 1
            if trainer.truncated_prior:
                assert 0 < proposal["volume_fraction"] <= 1
                assert proposal["outside_fraction"] == 0


@pytest.mark.parametrize("done", ["tsnpe", "snle_pca"], indirect=True)
def test_infer_on_trained_rounds_S29(
    done: Done, command: Callable[..., str], workplace: Callable[..., Any]
) -> None:
    """An ensemble, and chains on compressed maps: the same draws as in training come out."""
    name = done.config.name
    file = str(EXPERIMENTS / f"{name}.json")
    command("infer", "--configuration", file, "--save_dir", f"inferred_{name}")
    with workplace() as folder:
        (logs,) = (folder / f"inferred_{name}" / "logs" / name).iterdir()
    assert names(logs) >= LOGS
    for r in range(done.config.trainer.num_rounds):
        assert names(logs / f"round_{r}") >= POSTERIOR | TESTING
        trained = np.load(done.models / f"round_{r}" / "coverage_probability.npy")
        np.testing.assert_array_equal(
            np.load(logs / f"round_{r}/coverage_probability.npy"), trained
        )
        here, there = draws(logs / f"round_{r}"), draws(done.models / f"round_{r}")
        assert len(here) == 5000
        np.testing.assert_allclose(here.mean(0), there.mean(0), atol=0.15 * there.std(0).max())
