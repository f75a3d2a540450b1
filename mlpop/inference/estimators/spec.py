"""What an estimator is: everything that is needed to rebuild it, apart from its weights."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mlpop.config.base import StrictModel
from mlpop.config.blocks.network import ZScore
from mlpop.config.fields import OneOf
from mlpop.config.methods import NETWORKS, EstimatorKind, network_field

MODELS = tuple(dict.fromkeys(name for networks in NETWORKS.values() for name in networks))
"""Names of all networks."""


class EmbeddingSpec(StrictModel):
    """The network that compresses x, by name, and how its weights start."""

    type: str
    args: dict[str, Any] = Field(default_factory=dict)
    initializer: str | None = None
    include_conv: bool = False

    @field_validator("args")
    @classmethod
    def _plain(cls, args: dict[str, Any]) -> dict[str, Any]:
        # as they will be read back, so that a spec equals its copy from disk
        plain: dict[str, Any] = json.loads(json.dumps(args))
        return plain


class EstimatorSpec(StrictModel):
    """Everything that is needed to rebuild an estimator, apart from its weights.

    `kind` says what is learned, see `EstimatorKind`. `model` is one of `DENSITIES`, or for a ratio
    one of `CLASSIFIERS`, where it says which of the sizes it takes.

    `dimension` is the number of labels, which networks see in the unit cube of the prior. A
    posterior may live in a part of it only, the box with the edges `domain` of every label.
    `z_score_x` is done for every component of a vector, for every channel of maps
    (`independent`), or once for all (`structured`); maps that are already scaled want `none`.
    """

    schema_version: Literal[2] = 2
    kind: EstimatorKind = "posterior"
    model: Annotated[str, OneOf(MODELS)] = "mdn"
    hidden_features: int = Field(default=32, ge=1)
    num_components: int = Field(default=10, ge=1)
    num_transforms: int = Field(default=5, ge=1)
    num_bins: int = Field(default=10, ge=2)
    z_score_theta: ZScore = "independent"
    z_score_x: ZScore = "none"
    embedding: EmbeddingSpec | None = None
    x_shape: tuple[int, ...] = Field(min_length=1)
    dimension: int = Field(ge=1)
    domain: tuple[tuple[float, float], ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> "EstimatorSpec":
        if self.domain is not None and (
            self.kind != "posterior"
            or len(self.domain) != self.dimension
            or any(not 0 <= low < high <= 1 for low, high in self.domain)
        ):
            raise ValueError(
                f"a domain is of a posterior, and has low < high from 0 to 1 for each of "
                f"{self.dimension} labels, found {self.domain} of a {self.kind}"
            )
        if min(self.x_shape) < 1:
            raise ValueError(f"x_shape {self.x_shape} must be positive")
        allowed = NETWORKS[network_field(self.kind)]
        if self.model not in allowed:
            raise ValueError(
                f"the model of a {self.kind} must be one of {', '.join(allowed)}, found "
                f"{self.model}"
            )
        if self.kind == "likelihood" and (len(self.x_shape) > 1 or self.embedding is not None):
            raise ValueError(
                f"a likelihood is a density of x and needs vectors, found x_shape {self.x_shape}"
                f"{' with an embedding network' if self.embedding else ''}; compress x before"
            )
        width = self.x_shape[0] if self.kind == "likelihood" else self.dimension
        if allowed[self.model].blind_alone and self.num_transforms < 2 and width > 1:
            blind = (
                "component of x ignores theta" if self.kind == "likelihood" else "label ignores x"
            )
            raise ValueError(f"{self.model} needs num_transforms of at least 2, or one {blind}")
        return self
