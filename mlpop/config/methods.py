"""The methods of inference: what each trains, how its posterior is drawn from, what it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlpop.config.estimators import NetworkField

EstimatorKind = Literal["posterior", "likelihood", "ratio"]
"""What is learned: the density of theta given x, that of x given theta, or the ratio of the latter
to the density of x. `mlpop.inference.estimators.estimator.BUILDERS` has a builder for each."""


@dataclass(frozen=True)
class Method:
    """What configuration and inference must know of a method.

    Attributes:
        estimator: what its networks learn.
        network: the field of `density_estimator` that names their kind.
        sampling: how its posterior is drawn from: directly, or by Markov chains.
        corrected: whether its loss must be corrected where theta come from a posterior, by
            comparing theta ("atoms"); draws from the prior, cut or not, need no correction.
        compares: whether its loss compares the theta of a batch in every round.
        needs_vectors: whether x must be a vector: maps need a compression.
        searchable: whether a study can search its networks.
    """

    estimator: EstimatorKind
    network: NetworkField = "type"
    sampling: Literal["direct", "mcmc"] = "direct"
    corrected: bool = False
    compares: bool = False
    needs_vectors: bool = False
    searchable: bool = False


METHODS: Mapping[str, Method] = {
    "snpe": Method("posterior", corrected=True, searchable=True),
    "snle": Method("likelihood", sampling="mcmc", needs_vectors=True),
    "snre": Method(
        "ratio", network="classifier_nre", sampling="mcmc", compares=True, needs_vectors=True
    ),
}
"""`trainer.type` -> method."""

COMPRESSOR_METHOD = "snpe"
"""The method whose embedding network is the compressor `cnn`."""


def network_field(estimator: EstimatorKind) -> NetworkField:
    """Return the field of `density_estimator` that names the networks of such estimators."""
    return next(method.network for method in METHODS.values() if method.estimator == estimator)
