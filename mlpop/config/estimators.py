"""The networks that inference trains, by name: what each takes. sbi builds most of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Network:
    """One kind of network.

    Attributes:
        arguments: the sizes that it takes; it ignores the other ones of
            `density_estimator.args`.
        keywords: sbi's name of a size -> ours, where they differ.
        blind_alone: whether a single transform leaves some components of its input blind to the
            condition.
        permutes: whether its transforms shuffle their components at random.
    """

    arguments: tuple[str, ...]
    keywords: Mapping[str, str] = field(default_factory=dict)
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
    "zuko_gf": Network((*_FLOW, "num_components"), {"components": "num_components"}),
    "zuko_bpf": Network(_FLOW),
}
"""Densities of a vector given a vector, by sbi's names: of a posterior or a likelihood.

`nsf` has couplings and `zuko_nsf` is autoregressive: the former reached the lower loss on
two_moons at equal cost of training, and draws in half the time.

Of sbi's other flows, `zuko_ncsf` is a density on a torus, which integrates to more than 1 here;
draws from `zuko_sospf` pile up at the edges of the interval that its inverse is searched in; and
a draw from `zuko_naf` or `zuko_unaf` takes milliseconds.
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
