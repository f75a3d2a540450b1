"""The densest point of a posterior."""

from collections.abc import Callable

import torch
from torch import Tensor

_STEPS = 200


def climb(log_prob: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Return the densest theta (d,) of the unit cube found from the ten densest of `start`.

    Args:
        log_prob: log densities (n,) of theta (n, d); differentiable.
        start: (n, d) points in the cube, from which Adam climbs without leaving it.
    """
    with torch.no_grad():
        density = log_prob(start)
    unit = start[density.topk(min(10, len(start))).indices]
    place = unit.clamp(1e-4, 1 - 1e-4).logit().requires_grad_()
    optimizer = torch.optim.Adam([place], lr=0.02)
    best, best_density = start[density.argmax()], density.max()
    for _ in range(_STEPS):
        theta = place.sigmoid()
        values = log_prob(theta)
        if bool(values.max() > best_density):
            best, best_density = theta[values.argmax()].detach(), values.max().detach()
        optimizer.zero_grad()
        (gradient,) = torch.autograd.grad(-values.sum(), place)
        place.grad = gradient
        optimizer.step()
    return best
