"""A posterior that knows its x_o."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpop
from mlpop.errors import DataError
from mlpop.experiment.models.known_posterior import KnownPosterior
from mlpop.networks.rng import generator_from_seed
from mlpop.tracking import connect


def test_an_experiments_posterior_is_sampled_without_x(
    gaussian: Any, at_work: Path, tmp_path: Path
) -> None:
    x_o = gaussian.result.rounds[0].observed.x
    known = [
        gaussian.result.posterior,
        mlpop.load_posterior(gaussian.models),
        mlpop.load_posterior(f"runs:/{gaussian.result.run_id}"),
        mlpop.load_posterior(f"models:/{gaussian.config.name}/{_version(gaussian)}"),
    ]
    theta = known[0].sample(50, x_o, generator_from_seed(3))
    for posterior in known:
        np.testing.assert_array_equal(posterior.x_o, x_o)
        np.testing.assert_array_equal(posterior.sample(50, seed=3), theta)
        np.testing.assert_array_equal(posterior.log_prob(theta), known[0].log_prob(theta, x_o))
        assert posterior.labels == ("theta_1", "theta_2")
    truth = gaussian.config.observed_sample.synthetic.theta
    assert known[1].truth == truth
    assert known[0].map(seed=1).shape == (2,)
    assert not np.array_equal(known[0].sample(50, seed=4), theta)
    figure = known[1].pairplot(500)
    seen = np.vstack([known[1].sample(500, seed=0), list(truth.values())])
    for k, panel in enumerate((figure.axes[0], figure.axes[3])):
        assert panel.get_xlim() == (seen[:, k].min(), seen[:, k].max())
    figure.savefig(tmp_path / "corner.png")
    assert (tmp_path / "corner.png").stat().st_size > 10_000


def test_a_later_round_by_its_run_id_knows_the_x_o_of_its_experiment(
    run: Any, vectors: Any, at_work: Path, tmp_path: Path
) -> None:
    done = run(
        vectors(
            tmp_path,
            training_data_loader__num_sim=60,
            test_data_loader__testing=False,
            trainer__num_rounds=2,
            trainer__truncated_prior=True,
            trainer__append_simulations=True,
            trainer__max_num_epochs=1,
        )
    )
    for round_ in done.result.rounds:
        posterior = mlpop.load_posterior(f"runs:/{round_.run_id}")
        np.testing.assert_array_equal(posterior.x_o, round_.observed.x)
        assert posterior.sample(5, seed=1).shape == (5, 2)


def _version(done: Any) -> str:
    """Return the registered version of this experiment: another test may have moved the alias."""
    runs = {done.result.run_id, *(round_.run_id for round_ in done.result.rounds)}
    versions = connect().client.search_model_versions(f"name='{done.config.name}'")
    (version,) = (str(found.version) for found in versions if found.run_id in runs)
    return version


def test_without_an_x_o_one_must_be_given(gaussian: Any) -> None:
    bare = KnownPosterior(gaussian.result.posterior.posterior)
    with pytest.raises(DataError, match="stored without its x_o: give x"):
        bare.sample(3)
    assert bare.sample(3, gaussian.result.rounds[0].observed.x).shape == (3, 2)
