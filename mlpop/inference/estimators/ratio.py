"""Neural ratios: classifiers that tell p(theta, x) from p(theta) p(x)."""

import torch
from sbi.neural_nets import classifier_nn
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from mlpop.config.methods import EstimatorKind
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.estimators.standardize import standardize
from mlpop.networks.device import OnDevice
from mlpop.networks.registry import output_width


class ProductClassifier(nn.Module):
    """A logit that is linear in theta_i, theta_i theta_j and theta_i x_j.

    sbi's `linear` classifier adds a function of theta to one of x: its posterior does not depend
    on x at all. With the products it is logistic regression for the exponential family, exact
    where x is normal around a linear function of theta with one covariance. Terms of x alone are
    left out: they change no posterior.

    Args:
        dimension: d of theta.
        width: e of the embedded x.
    """

    def __init__(self, dimension: int, width: int) -> None:
        super().__init__()
        self.dimension = dimension
        pairs = torch.triu_indices(dimension, dimension)
        self.register_buffer("first", pairs[0], persistent=False)
        self.register_buffer("second", pairs[1], persistent=False)
        self.output = nn.Linear(dimension + pairs.shape[1] + dimension * width, 1)

    def forward(self, both: Tensor) -> Tensor:
        """Return logits (..., 1) of theta and x in one vector, (..., d + e)."""
        theta, x = both[..., : self.dimension], both[..., self.dimension :]
        squares = theta[..., self.get_buffer("first")] * theta[..., self.get_buffer("second")]
        products = (theta[..., :, None] * x[..., None, :]).flatten(-2)
        return self.output(torch.cat([theta, squares, products], -1))


class RatioClassifier(RatioEstimator, OnDevice):
    """A trained ratio, as training, Markov chains and sbi's own tools use it.

    sbi embeds x once for every theta that meets it; `log_potential` once for every x.

    Args:
        net: logit of standardized theta and embedded x in one vector.
        theta_shape: (d,).
        x_shape: shape of one x.
        embedding_net_theta: standardizes theta.
        embedding_net_x: network from x to its embedding (e,).
    """

    kind: EstimatorKind = "ratio"

    def embed(self, x: Tensor) -> Tensor:
        """Return the embeddings (b, e) of `x` (b, *x_shape)."""
        self._check_x_shape_suffix(x)
        return self.embedding_net_x(x.to(self.device))

    def log_potential_embedded(self, theta: Tensor, embedding: Tensor) -> Tensor:
        """Return the log ratios (s, b) of `theta` (s, b, d) and the `embedding` (b, e) of x."""
        z = self.embedding_net_theta(theta.to(self.device))
        repeated = embedding.expand(len(theta), *embedding.shape)
        both = torch.cat([z, repeated], -1).flatten(0, 1)
        return self.net(both).reshape(theta.shape[:2]).to(theta.device)

    def log_potential(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | theta) / p(x) (s, b) of `theta` (s, b, d) and `x` (b, *x_shape).

        Up to a function of x, which the contrastive loss does not determine; differentiable in
        theta.
        """
        return self.log_potential_embedded(theta, self.embed(x))


def build_ratio(
    spec: EstimatorSpec, theta: Tensor, x: Tensor, embedding: nn.Module
) -> RatioClassifier:
    """Build an untrained ratio of theta (n, d), standardized by those, and embedded x.

    Draws from torch's global generator.
    """
    width = output_width(embedding, spec.x_shape)
    if spec.model == "linear":
        net: nn.Module = ProductClassifier(spec.dimension, width)
    else:
        net = classifier_nn(
            spec.model,
            z_score_theta="none",
            z_score_x="none",
            hidden_features=spec.hidden_features,
        )(theta[:2], torch.zeros(2, width)).net
    return RatioClassifier(
        net,
        theta.shape[1:],
        x.shape[1:],
        standardize(theta, spec.z_score_theta),
        embedding,
    )
