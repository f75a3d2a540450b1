"""Fit boxes and ellipsoids around a support that is known by points of it, and by asking."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Literal

import torch
from torch import Generator, Tensor

from mlpop.inference.proposals.shapes import Box, Ellipsoids, Shape

ShapeName = Literal["box", "rotated box", "ellipsoid"]

MARGIN = 1.05
"""Every region is larger by this factor in every direction than the points it was fitted to."""

SHELL = 2.0
"""Volume, over the region's, in which points of the support that it misses are searched."""

SPLIT_BELOW = 0.3
"""Acceptance of one ellipsoid below which several are tried."""

_DRAWS = 10_000
"""Made at once in a check."""
_LEAST_FOUND = 500
"""Points of the support after which a check ends."""
_MAX_LOTS = 5
"""Of `_DRAWS` after which it ends anyhow."""
_MAX_CHECKS = 8
"""After so many the region is enlarged to all that was searched."""

_SPLIT_GAIN = 0.7
"""Ellipsoids replace one if their volumes together are below this part of its volume."""

_PATIENCE = 2
_MAX_DEPTH = 5
"""Of the tree of splits: at most 32 ellipsoids."""

_LLOYD_STEPS = 10
_LLOYD_POINTS = 1500
_OUTERMOST = 3000
"""Draws of the posterior that a shape is fitted to: the least dense, and as many of the others."""

_RIDGE = 1e-12
"""Variance, in units of the squared width of the prior, that no axis of a shape goes below."""


@dataclass(frozen=True)
class EnclosingRegion:
    """A region around a support, and what its last check counted.

    Args:
        region: the region, which encloses every known point of the support.
        acceptance: expected part of the region's draws that lie in the support.
        evaluations: expected part of them that lie in the prior, so that the density is asked.
        found: points of the support that the last check found.
        missed: how many of those the region does not enclose.
    """

    region: Shape
    acceptance: float
    evaluations: float
    found: int
    missed: int

    @property
    def uncovered(self) -> float:
        """Part of the support that the region misses at most, with 95 % confidence."""
        return min(1.0, (self.missed + 3) / max(1, self.found))


def enclose(
    shape: ShapeName,
    points: Tensor,
    log_density: Tensor,
    inside: Callable[[Tensor], tuple[int, Tensor]],
    generator: Generator,
) -> EnclosingRegion:
    """Fit a region around a support, and let it grow until nothing is found outside of it.

    The points come from the posterior, which seldom visits the edge of the support. So the
    support is asked for at uniform draws in `SHELL` times the volume; what these find joins the
    points, and also tells the shape of a uniform distribution there. This repeats until a check
    finds nothing that the region misses.

    Args:
        shape: of the region.
        points: (n, d) draws of the posterior in the support, in the unit cube.
        log_density: (n,) of the posterior there, up to a constant.
        inside: tells for points (m, d) how many lay in the prior, and which (m,) in the support.
        generator: source of the draws.
    """
    rows = _thin(log_density)
    # towards a uniform distribution on the support, by degrees, since full weights are noisy
    weight = (-0.5 * (log_density[rows] - log_density.min())).exp()
    fixed, discovered = points[rows], points[:0]
    region = _fit(shape, fixed, [torch.ones_like(weight), weight], split=False)
    split = False
    for check in range(1, _MAX_CHECKS + 1):
        wide = region.widened(SHELL)
        max_lots = _MAX_LOTS if check > 1 else 1
        attempts, evaluations, support = _search(wide, inside, generator, max_lots)
        missed = int((~region.contains(support)).sum())
        ratio = exp(wide.log_volume - region.log_volume)
        enclosure = EnclosingRegion(
            region,
            min(1.0, (len(support) - missed) / attempts * ratio),
            evaluations / attempts,
            len(support),
            missed,
        )
        astray = points[~region.contains(points)]
        settled = missed == 0 and len(astray) == 0
        poor = enclosure.acceptance < SPLIT_BELOW
        if settled and check > 1 and (split or not poor):
            return enclosure
        split = split or poor
        discovered = torch.cat([discovered, support])
        fixed = torch.cat([fixed, astray])
        weight = torch.cat([weight, torch.zeros(len(astray), dtype=weight.dtype)])
        none = torch.zeros(len(discovered), dtype=weight.dtype)
        flat = torch.cat([torch.ones_like(weight), none])
        refitted = _fit(
            shape,
            torch.cat([fixed, discovered]),
            [flat, torch.cat([weight, none]), 1 - flat],
            split=split,
        )
        if settled and check > 1 and refitted.log_volume >= region.log_volume:
            return enclosure
        region = refitted
    return EnclosingRegion(
        wide, len(support) / attempts, evaluations / attempts, len(support), missed
    )


def _thin(log_density: Tensor) -> Tensor:
    """Choose the rows of the least dense points and of some others, enough to fit a shape."""
    order = log_density.argsort()
    few, rest = order[:_OUTERMOST], order[_OUTERMOST:].sort().values
    return torch.cat([few, rest[:: max(1, len(rest) // _OUTERMOST)]]).sort().values


def _search(
    region: Shape,
    inside: Callable[[Tensor], tuple[int, Tensor]],
    generator: Generator,
    max_lots: int,
) -> tuple[int, int, Tensor]:
    """Return draws made, densities asked, and the points (n, d) of the support among them."""
    attempts, evaluations, support = 0, 0, []
    for _ in range(max_lots):
        candidates = region.sample(_DRAWS, generator)
        asked, hits = inside(candidates)
        attempts += _DRAWS
        evaluations += asked
        support.append(candidates[hits])
        if sum(map(len, support)) >= _LEAST_FOUND:
            break
    return attempts, evaluations, torch.cat(support)


def _fit(shape: ShapeName, points: Tensor, weights: list[Tensor], *, split: bool) -> Shape:
    if shape == "ellipsoid":
        return (_ellipsoids if split else _ellipsoid)(points, weights)
    size = points.shape[1]
    if shape == "box":
        return _box(torch.eye(size, dtype=torch.float64), points, aligned=True)
    boxes = [_box(_axes(points, each), points, aligned=False) for each in _usable(weights, size)]
    return min(boxes, key=lambda box: box.log_volume)


def _box(axes: Tensor, points: Tensor, *, aligned: bool) -> Box:
    places = points @ axes
    low, high = places.amin(0), places.amax(0)
    margin = (MARGIN - 1) / 2 * (high - low) + _RIDGE**0.5
    low, high = low - margin, high + margin
    if aligned:
        low, high = low.clamp_min(0), high.clamp_max(1)
    return Box(axes, low, high, aligned)


def _axes(points: Tensor, weights: Tensor) -> Tensor:
    _, covariance = _moments(points, weights)
    return torch.linalg.eigh(covariance).eigenvectors


def _moments(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    mean = weights @ points / weights.sum()
    centred = points - mean
    covariance = (centred * weights[:, None]).T @ centred / weights.sum()
    return mean, covariance + _RIDGE * torch.eye(points.shape[1], dtype=torch.float64)


def _usable(weights: Sequence[Tensor], size: int) -> list[Tensor]:
    """Leave out weights that say too little of a shape."""
    enough = [each for each in weights if each.sum() ** 2 > 10 * (size + 1) * each.square().sum()]
    return enough or [torch.ones_like(weights[0])]


def _ellipsoid(points: Tensor, weights: Sequence[Tensor]) -> Ellipsoids:
    """The smallest of the ellipsoids shaped by the weighted points that encloses them all."""
    fits = []
    for each in _usable(weights, points.shape[1]):
        mean, covariance = _moments(points, each)
        factor = torch.linalg.cholesky(covariance)
        places = torch.linalg.solve_triangular(factor, (points - mean).T, upper=False)
        radius = MARGIN * places.square().sum(0).max().sqrt().clamp_min(1e-6)
        fits.append(Ellipsoids(mean[None], radius * factor[None]))
    return min(fits, key=lambda fit: fit.log_volume)


def _ellipsoids(points: Tensor, weights: list[Tensor]) -> Ellipsoids:
    """Enclose the points in the union of ellipsoids that a tree of splits finds smallest."""
    parts = _partition((points, weights, _ellipsoid(points, weights)), _PATIENCE, _MAX_DEPTH)
    return Ellipsoids(
        torch.cat([fit.centres for _, _, fit in parts]),
        torch.cat([fit.factors for _, _, fit in parts]),
    )


_Part = tuple[Tensor, list[Tensor], Ellipsoids]


def _partition(whole: _Part, patience: int, depth: int) -> list[_Part]:
    """Split in two again and again; keep what makes the volume much smaller.

    A ring gains nothing from its first split, only from the next: a split without gain is
    followed for `patience` more.
    """
    halves = _split(whole[0], whole[1]) if patience and depth else None
    if halves is None:
        return [whole]
    enough = whole[2].log_volume + log(_SPLIT_GAIN)
    left = _PATIENCE if _log_sum(halves) < enough else patience - 1
    parts = [part for half in halves for part in _partition(half, left, depth - 1)]
    return parts if _log_sum(parts) < enough else [whole]


def _split(points: Tensor, weights: Sequence[Tensor]) -> list[_Part] | None:
    """Part the points in two, along every principal axis in turn; return the smallest pair.

    Either half starts from the sides of the mean, or of the widest gap, and settles by Lloyd's
    algorithm, all on a few of the points. None if no pair has enough points on both sides.
    """
    least = 10 * (points.shape[1] + 1)
    if len(points) < 2 * least:
        return None
    mean, covariance = _moments(points, _usable(weights, points.shape[1])[-1])
    variances, axes = torch.linalg.eigh(covariance)
    places = (points - mean) @ axes / variances.sqrt()
    few = places[:: max(1, len(places) // _LLOYD_POINTS)]
    tried: list[tuple[float, Tensor, Tensor]] = []
    for axis in range(places.shape[1]):
        ordered = few[:, axis].sort().values
        skipped = min(least, len(ordered) // 4)
        gap = int(ordered.diff()[skipped:-skipped].argmax()) + skipped
        for threshold in (0.0, float(ordered[gap : gap + 2].mean())):
            guess = few[:, axis] > threshold
            if not 0 < int(guess.sum()) < len(few):
                continue
            first, second = _lloyd(few, guess)
            side = _nearer(few, first, second)
            if min(int(side.sum()), int((~side).sum())) > places.shape[1] + 1:
                size = torch.stack([_log_size(few[side]), _log_size(few[~side])]).logsumexp(0)
                tried.append((float(size), first, second))
    if not tried:
        return None
    _, first, second = min(tried, key=lambda pair: pair[0])
    side = _nearer(places, first, second)
    if min(int(side.sum()), int((~side).sum())) < least:
        return None
    return [
        (part, each, _ellipsoid(part, each))
        for part, each in (
            (points[rows], [weight[rows] for weight in weights]) for rows in (side, ~side)
        )
    ]


def _log_size(points: Tensor) -> Tensor:
    """Log volume, up to a constant, of the ellipsoid of the points' own moments around them."""
    mean, covariance = _moments(points, torch.ones(len(points), dtype=torch.float64))
    factor = torch.linalg.cholesky(covariance)
    places = torch.linalg.solve_triangular(factor, (points - mean).T, upper=False)
    radius = places.square().sum(0).max().clamp_min(_RIDGE).sqrt()
    return factor.diagonal().log().sum() + len(factor) * radius.log()


def _lloyd(places: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two means (d,) that two-means ends at, from a guess (n,) of who is where."""
    first, second = places[side].mean(0), places[~side].mean(0)
    for _ in range(_LLOYD_STEPS):
        moved = _nearer(places, first, second)
        if torch.equal(moved, side) or not 0 < int(moved.sum()) < len(moved):
            break
        side = moved
        first, second = places[side].mean(0), places[~side].mean(0)
    return first, second


def _nearer(places: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return (places - first).square().sum(1) < (places - second).square().sum(1)


def _log_sum(parts: Sequence[_Part]) -> float:
    return float(torch.logsumexp(torch.tensor([fit.log_volume for _, _, fit in parts]), 0))
