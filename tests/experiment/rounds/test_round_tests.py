"""Tests of a round are compared with draws under what they come from, whatever was learned."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mlpop.config.methods import METHODS
from mlpop.datasets.loading import Dataset
from mlpop.errors import DataError
from mlpop.experiment.rounds import round_tests as module
from mlpop.experiment.rounds.round_tests import RoundTests, round_tests
from mlpop.inference.prior import Prior
from mlpop.inference.proposals.proposal import Proposal, make_proposal
from mlpop.inference.proposals.truncation import Support
from mlpop.networks.rng import generator_from_seed

PRIOR = Prior(("t0", "t1"), (-1.0, -1.0), (1.0, 1.0))


@pytest.fixture(params=["posterior", "truncated"])
def proposal(request: pytest.FixtureRequest, mixture_at: Callable[..., Any]) -> Proposal:
    conditioned = mixture_at([[0.3, 0.3]], [0.01 * np.eye(2)])
    return make_proposal(conditioned, generator_from_seed(1), kind=request.param)


def dataset(theta: np.ndarray) -> Any:
    x = theta.astype(np.float32)
    return Dataset(theta=theta, x=x, labels=PRIOR.labels, channels=("x",), source=Path("set"))


def prepared(
    monkeypatch: pytest.MonkeyPatch,
    proposal: Proposal,
    method: str,
    sets: dict[int, Any],
    within: Support | None,
    simulated: bool = False,
    **options: Any,
) -> RoundTests:
    monkeypatch.setattr(module, "round_proposal", lambda *arguments: proposal)
    number = max(sets)
    kind = METHODS[method]
    atomic = kind.corrected and number > 0 and not hasattr(proposal.source, "pilot")
    trainer = SimpleNamespace(
        method=kind, loss=lambda round_: "atomic" if atomic else "maximum_likelihood"
    )
    loader = SimpleNamespace(simulate=simulated)
    config = SimpleNamespace(trainer=trainer, test_data_loader=loader)
    launch = SimpleNamespace(config=config, root_seed=1)
    current: Any = SimpleNamespace(launch=launch, number=number, past=[None] * number)
    observed: Any = None
    found = round_tests(current, PRIOR, sets, within, observed, **options)
    assert found is not None
    return found


def drawn(proposal: Proposal, count: int) -> Any:
    return dataset(PRIOR.to_physical(proposal.draw(count, generator_from_seed(2)).theta))


@pytest.mark.parametrize("method", METHODS)
def test_round_0_needs_no_correction(
    method: str, proposal: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    theta = np.random.default_rng(1).uniform(-1, 1, (300, 2))
    found = prepared(monkeypatch, proposal, method, {0: dataset(theta)}, None)
    assert found.log_ratio is None
    assert found.checks["tests of round 0"].follows
    # what the round has drawn itself needs no check
    again = prepared(monkeypatch, proposal, method, {0: dataset(theta)}, None, simulated=True)
    assert not again.checks


@pytest.mark.parametrize("method", METHODS)
def test_only_posteriors_under_a_truncated_prior_are_left_as_they_are(
    method: str, proposal: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {1: drawn(proposal, 100)}
    left = method == "snpe" and proposal.support is not None
    found = prepared(monkeypatch, proposal, method, sets, proposal.support if left else None)
    assert (found.log_ratio is None) is left
    # the round drew them itself
    assert not found.checks
    if found.log_ratio is not None:
        far, near = found.log_ratio(torch.tensor([[0.05, 0.05], [0.65, 0.65]])).tolist()
        assert far < -20 < near


def test_joined_tests_are_those_in_the_support(
    proposal: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    if proposal.support is None:
        pytest.skip("the atomic loss does not join rounds")
    theta = np.random.default_rng(1).uniform(-1, 1, (1000, 2))
    sets = {0: dataset(theta), 1: drawn(proposal, 100)}
    found = prepared(monkeypatch, proposal, "snpe", sets, proposal.support)
    assert found.log_ratio is None
    kept = int(proposal.support.contains(PRIOR.to_unit(theta)).sum())
    assert 20 < kept < 200
    assert len(found.data.theta) == 100 + kept
    assert bool(proposal.support.contains(PRIOR.to_unit(found.data.theta)).all())
    # networks that learned everywhere are tested on everything, whatever it was drawn from
    found = prepared(monkeypatch, proposal, "snle", sets, None)
    assert found.log_ratio is not None
    assert len(found.data.theta) == 1100


def test_tests_that_lie_elsewhere_are_refused(
    proposal: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    if proposal.support is None:
        pytest.skip("has no support")
    far = dataset(np.full((30, 2), -0.95))
    with pytest.raises(DataError, match="round 1: none of 30 tests lies where its networks"):
        prepared(monkeypatch, proposal, "snpe", {1: far}, proposal.support)


def test_sets_that_were_read_are_compared_with_the_proposal(
    proposal: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    theta = np.random.default_rng(1).uniform(-1, 1, (200, 2))
    for data, follows in ((drawn(proposal, 200), True), (dataset(theta), False)):
        found = prepared(monkeypatch, proposal, "snle", {1: data}, None, foreign=True)
        assert found.checks["tests of round 1"].follows is follows


def test_no_tests(proposal: Proposal) -> None:
    nothing: Any = None
    assert round_tests(nothing, PRIOR, {}, None, nothing) is None
