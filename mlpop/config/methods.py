"""The methods of inference, and the networks that they train: what each is and needs.

Configuration and inference read the same tables. A density estimator is one entry of `DENSITIES`;
a method is one entry of `METHODS`, and a builder where it learns something new.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Network:
    """One kind of network.

    Attributes:
        arguments: the sizes that it takes; it ignores the other ones of
            `density_estimator.args`.
        blind_alone: whether a single transform leaves some components of its input blind to the
            condition.
        permutes: whether its transforms shuffle their components at random.
    """

    arguments: tuple[str, ...]
    blind_alone: bool = False
    permutes: bool = False


_FLOW = ("hidden_features", "num_transforms")
_SPLINE = (*_FLOW, "num_bins")

DENSITIES: Mapping[str, Network] = {
    "mdn": Network(("hidden_features", "num_components")),
    "maf": Network(_FLOW, blind_alone=True, permutes=True),
    "nsf": Network(_SPLINE, blind_alone=True),
    "zuko_nice": Network(_FLOW, blind_alone=True),
    "zuko_maf": Network(_FLOW),
    "zuko_nsf": Network(_SPLINE),
    "zuko_bpf": Network(_FLOW),
}
"""Densities of a vector given a vector, of a posterior or a likelihood, by sbi's names.

sbi's are of unbounded vectors: theta reach them through probit. Only the `mdn` of a posterior is
mlpop's own, on the unit cube.

`nsf` has couplings and `zuko_nsf` is autoregressive: the former reached the lower loss on
two_moons at equal cost of training, and draws in half the time.

Of sbi's other flows, `zuko_ncsf` is a density on a torus, which integrates to more than 1 here;
`zuko_gf` looks for its draws between -10 and 10 only; draws from `zuko_sospf` pile up at the edges
of the interval that its inverse is searched in; and a draw from `zuko_naf` or `zuko_unaf` takes
milliseconds.
"""

CLASSIFIERS: Mapping[str, Network] = {
    "linear": Network(()),
    "mlp": Network(("hidden_features",)),
    "resnet": Network(("hidden_features",)),
}
"""Classifiers of pairs of vectors: of a ratio."""

NetworkField = Literal["type", "classifier_nre"]

NETWORKS: Mapping[NetworkField, Mapping[str, Network]] = {
    "type": DENSITIES,
    "classifier_nre": CLASSIFIERS,
}
"""Field of `density_estimator` -> what it may be."""

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
