"""The densest point of a posterior."""

from collections.abc import Callable

import torch
from torch import Tensor

from mlpop.inference.prior import Prior

_STEPS = 200


def climb(log_prob: Callable[[Tensor], Tensor], start: Tensor, prior: Prior) -> Tensor:
    """Return the densest scaled theta (d,) found from the ten densest of `start` by Adam.

    Args:
        log_prob: log densities (n,) of scaled theta (n, d); differentiable.
        start: (n, d) scaled, inside the prior.
        prior: its box is not left.
    """
    with torch.no_grad():
        density = log_prob(start)
    low, high = prior.scaled_low, prior.scaled_high
    unit = (start[density.topk(min(10, len(start))).indices] - low) / (high - low)
    place = unit.clamp(1e-4, 1 - 1e-4).logit().requires_grad_()
    optimizer = torch.optim.Adam([place], lr=0.02)
    best, best_density = start[density.argmax()], density.max()
    for _ in range(_STEPS):
        theta = low + (high - low) * place.sigmoid()
        values = log_prob(theta)
        if bool(values.max() > best_density):
            best, best_density = theta[values.argmax()].detach(), values.max().detach()
        optimizer.zero_grad()
        (gradient,) = torch.autograd.grad(-values.sum(), place)
        place.grad = gradient
        optimizer.step()
    return best
