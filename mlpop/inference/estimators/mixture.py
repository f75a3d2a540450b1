"""Log densities of a Gaussian mixture at many points: sbi's numbers, in a few matrix products."""

import math

import torch
from sbi.neural_nets.estimators import MixtureDensityEstimator
from torch import Tensor


def mixture_log_prob(head: MixtureDensityEstimator, theta: Tensor, embedding: Tensor) -> Tensor:
    """Return the log densities of `head`, about ten times faster for many theta an embedding.

    sbi multiplies a row, a matrix and a column for every theta and component; here one product
    for each embedding serves all its theta and components.

    Args:
        head: sbi's mixture density network; its theta may be z-scored, not otherwise transformed.
        theta: (s, b, d) points.
        embedding: (b, e).

    Returns:
        (s, b) log densities.
    """
    mixture = head.get_uncorrected_mog(embedding)
    factors = mixture.precision_factors
    count, components, dimension = mixture.means.shape
    z = theta.transpose(0, 1)
    log_jacobian = torch.zeros(())
    if head.has_input_transform:
        shift, scale = head.get_buffer("_transform_shift"), head.get_buffer("_transform_scale")
        z = (z - shift) / scale
        log_jacobian = -scale.log().sum()
    # near the origin the subtraction in the products below loses the fewest digits
    centre = (mixture.weights[:, :, None] * mixture.means).sum(1, keepdim=True)
    z, means = z - centre, mixture.means - centre
    # components last: sums over the few labels are then fast
    stacked = factors.permute(0, 3, 2, 1).reshape(count, dimension, dimension * components)
    offset = (factors @ means[..., None])[..., 0].transpose(1, 2).reshape(count, 1, -1)
    whitened = torch.baddbmm(offset, z, stacked, beta=-1)
    quadratic = whitened.square().view(count, -1, dimension, components).sum(2)
    # sbi adds a small multiple of the identity to the precisions
    distance = (
        z.square().sum(-1)[..., None]
        - 2 * torch.bmm(z, means.transpose(1, 2))
        + means.square().sum(-1)[:, None]
    )
    quadratic = quadratic + head.net._epsilon * distance
    log_scale = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = mixture.log_weights + log_scale - 0.5 * dimension * math.log(2 * math.pi)
    return (torch.logsumexp(constant[:, None] - 0.5 * quadratic, -1) + log_jacobian).T
