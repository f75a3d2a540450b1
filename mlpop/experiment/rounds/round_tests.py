"""The tests of a round: where their theta come from, and what their posteriors are compared with.

The truth of a test is like draws of the posterior under the distribution that theta of the tests
come from. Networks of `snpe` learn the posterior under that of their training set: the prior, or
the prior truncated to a support, in which tests of all rounds are alike. A likelihood, a ratio,
and `snpe` with the atomic loss give the posterior under the whole prior, wherever they were
trained: of their draws those are kept that tests could have come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.datasets.loading import Dataset
from mlpop.errors import DataError
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.experiment.rounds.context import OpenRound
from mlpop.experiment.rounds.datasets import joined
from mlpop.experiment.rounds.learned_region import inside
from mlpop.experiment.rounds.proposals import round_proposal
from mlpop.inference.diagnostics.reweighting import LogRatio
from mlpop.inference.diagnostics.theta_check import ThetaCheck, check_set_theta
from mlpop.inference.prior import Prior
from mlpop.inference.proposals.proposal import Proposal
from mlpop.inference.proposals.theta_mixture import ThetaMixture
from mlpop.inference.proposals.truncation import Support
from mlpop.networks.rng import generator_from_seed

REFERENCE_DRAWS = 5000
"""Of a proposal, with which the theta of a given test set are compared."""


@dataclass(frozen=True, eq=False)
class RoundTests:
    """The tests that a posterior is examined by.

    Attributes:
        data: all of them.
        log_ratio: of what their theta come from to what the posterior is under; None if these
            are the same.
        checks: set -> how its theta compare with what they should follow; of those sets that the
            round did not draw itself.
    """

    data: Dataset
    log_ratio: LogRatio | None = None
    checks: Mapping[str, ThetaCheck] = field(default_factory=dict)


def round_tests(
    current: OpenRound,
    prior: Prior,
    sets: Mapping[int, Dataset],
    within: Support | None,
    observed: ObservedSample,
    *,
    foreign: bool = False,
) -> RoundTests | None:
    """Join the tests of a round with those of earlier ones.

    Args:
        current: the round.
        prior: of theta.
        sets: round -> its tests; without any there is nothing to return.
        within: the support that the networks learned in, of which tests are kept; None if they
            learned everywhere.
        observed: the x_o that later rounds drew theta for.
        foreign: whether the sets of later rounds were read, not simulated by this launch.

    Raises:
        DataError: no test lies in the support.
        SamplingError: a proposal cannot be drawn from.
    """
    if not sets:
        return None
    kept = sets if within is None else inside(within, prior, sets).sets
    if not kept:
        raise DataError(
            f"round {current.number}: none of {sum(map(len, sets.values()))} tests lies where its "
            "networks learned, in the prior truncated to the posterior of the round before; give "
            "tests of this round, or let them be simulated"
        )
    sets = kept
    proposals: dict[int, Proposal | None] = dict.fromkeys(sets)

    def propose(round_: int) -> Proposal:
        return round_proposal(current.launch, current.past[round_ - 1], round_, observed)

    trainer = current.launch.config.trainer
    if trainer.method.estimator != "posterior" or trainer.loss(current.number) == "atomic":
        proposals.update({number: propose(number) for number in sets if number})
    tests = ThetaMixture({number: len(data) for number, data in sets.items()}, proposals)
    checks = {}
    for number, data in sets.items():
        if number == 0 and not current.launch.config.test_data_loader.simulate:
            checks["tests of round 0"] = check_set_theta(prior, data.theta)
        elif number and foreign:
            draw = propose(number).draw(REFERENCE_DRAWS, _generator(current, number))
            reference = draw.theta.double().numpy()
            checks[f"tests of round {number}"] = check_set_theta(prior, data.theta, reference)
    log_ratio = None if tests.is_prior() else tests.log_ratio
    return RoundTests(joined(sets.values()), log_ratio, checks)


def _generator(current: OpenRound, number: int) -> torch.Generator:
    seed = seed_sequence(current.launch.root_seed, Purpose.DIAGNOSTICS, current.number, 1, number)
    return generator_from_seed(torch_seed(seed))
