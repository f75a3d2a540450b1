"""Is an observation like the simulations? A posterior at one that is not means nothing.

Its mean distance to the nearest training simulations is compared with that of simulations that
were not trained on, in two views: x as stored, by principal components and what they leave over,
and what the networks make of x. The first sees what networks have learnt to ignore, the second
what matters to the posterior.

References:
    Schmitt et al. 2023, "Detecting model misspecification in amortized Bayesian inference with
    neural networks", https://arxiv.org/abs/2112.08866
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mlpop.datasets.precision import Observations, as_numbers
from mlpop.errors import DataError
from mlpop.inference.compression.pca import ARRAYS, PCA, fit_pca
from mlpop.inference.estimators.store import save_tensors
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.networks.rng import one_thread

ALPHA = 0.01
"""Chance that an observation of the simulator itself is called unlike it, over all views."""

NUM_NEIGHBOURS = 5
NUM_COMPONENTS = 20
MOST_REFERENCES = 1000
"""Simulations that distances are measured to; more would hardly be nearer."""

MOST_HELD_OUT = 1000
_ALL_VARIANCE = 0.999999
_ROWS = 200


@dataclass(frozen=True, eq=False)
class View:
    """Standardized features of simulations, and how far others are from them.

    Args:
        centre: (f,) mean of the features.
        scale: (f,) their standard deviation; where they do not vary, the largest of all.
        references: (n, f) standardized features that distances are measured to.
        held_out: (m,) distances of simulations that were not trained on.
    """

    centre: Tensor
    scale: Tensor
    references: Tensor
    held_out: Tensor

    @classmethod
    def fit(cls, references: Tensor, held_out: Tensor) -> Self:
        """Make a view of features (n, f) of training simulations and (m, f) of others."""
        centre, scale = references.mean(0), references.std(0, correction=0)
        # next to the largest spread: what is left over may be rounding errors alone
        varies = (scale > 1e-7 * centre.abs()) & (scale > 1e-7 * scale.max())
        scale = torch.where(varies, scale, scale.max().clamp_min(1e-300))
        view = cls(centre, scale, (references - centre) / scale, held_out[:0, 0])
        return replace(view, held_out=view.distance(held_out))

    def distance(self, features: Tensor) -> Tensor:
        """Return the mean distances (b,) of features (b, f) to their nearest references."""
        places = (features - self.centre) / self.scale
        nearest = min(NUM_NEIGHBOURS, len(self.references))
        parts = [
            torch.cdist(rows, self.references, compute_mode="donot_use_mm_for_euclid_dist")
            .topk(nearest, largest=False)
            .values.mean(1)
            for rows in places.split(_ROWS)
        ]
        return torch.cat(parts)

    def p_value(self, features: Tensor) -> float:
        """Return the chance that a simulation is as far from the references as features (f,)."""
        farther = int((self.held_out >= self.distance(features[None])).sum())
        return (1 + farther) / (1 + len(self.held_out))


@dataclass(frozen=True, eq=False)
class Typicality:
    """What x of the simulator look like.

    Args:
        components: principal components of x as stored.
        views: by name, `x` and, where networks embed x or it is compressed, `embedding`.
    """

    components: PCA
    views: Mapping[str, View]

    @classmethod
    def fit(cls, posterior: Posterior, training: Observations, held_out: Observations) -> Self:
        """Learn from simulations.

        Args:
            posterior: whose networks embed.
            training: (n, *x_shape) that they were trained on, n at least 2.
            held_out: (m, *x_shape) that they were not, of the same distribution, m at least 1.

        Raises:
            DataError: x never vary, or there are too few.
        """
        training, held_out = _few(training, MOST_REFERENCES), _few(held_out, MOST_HELD_OUT)
        components = _first(fit_pca(_flat(training), _ALL_VARIANCE), NUM_COMPONENTS)
        with one_thread():
            views = {
                name: View.fit(features(training), features(held_out))
                for name, features in _features(posterior, components).items()
            }
        return cls(components, views)

    def p_values(self, posterior: Posterior, x: ArrayLike) -> dict[str, float]:
        """Return how likely simulations are as far from the others as `x` (*x_shape), by view."""
        values = as_numbers(x)[None]
        features = _features(posterior, self.components)
        with one_thread():
            return {
                name: view.p_value(features[name](values)[0]) for name, view in self.views.items()
            }

    def save(self, path: Path) -> None:
        """Write everything as safetensors."""
        tensors = {f"pca/{name}": torch.tensor(getattr(self.components, name)) for name in ARRAYS}
        for name, view in self.views.items():
            tensors |= {f"{name}/{part}": value for part, value in vars(view).items()}
        save_tensors(path, tensors)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing or damaged.
        """
        groups: dict[str, dict[str, Tensor]] = {}
        try:
            for name, value in load_file(path).items():
                group, part = name.split("/")
                groups.setdefault(group, {})[part] = value
            arrays = groups.pop("pca")
            mean, axes, variance, ratio = (arrays[name].numpy() for name in ARRAYS)
            components = PCA(mean, axes, variance, ratio)
            return cls(components, {name: View(**parts) for name, parts in groups.items()})
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None


def is_unlike(p_values: Mapping[str, float]) -> bool:
    """Tell whether an observation with these p-values is unlike the simulations."""
    return bool(p_values) and min(p_values.values()) < ALPHA / len(p_values)


def needed_held_out(views: int) -> int:
    """Return the least number of held-out simulations with which `is_unlike` can be true."""
    return int(views / ALPHA)


def _features(
    posterior: Posterior, components: PCA
) -> dict[str, Callable[[Observations], Tensor]]:
    """Return view -> function from x (b, *x_shape) to features (b, f)."""

    def stored(x: Observations) -> Tensor:
        flat = _flat(x).astype(np.float64)
        scores = components.transform(flat)
        rest = flat - components.inverse_transform(scores)
        norm = np.linalg.norm(rest, axis=1, keepdims=True)
        return torch.from_numpy(np.hstack([scores, norm]))

    @torch.no_grad()
    def embedded(x: Observations) -> Tensor:
        seen = posterior.preprocessing(x)
        return torch.cat([member.embed(seen).cpu() for member in posterior.members], 1).double()

    views: dict[str, Callable[[Observations], Tensor]] = {"x": stored}
    if _embeds(posterior):
        views["embedding"] = embedded
    return views


def _embeds(posterior: Posterior) -> bool:
    """Tell whether the networks see more than x itself, standardized."""
    if posterior.preprocessing.compressor is not None:
        return True
    networks = (
        getattr(member, name, None)
        for member in posterior.members
        for name in ("embedding", "embedding_net_x")
    )
    return any(net is not None and next(net.parameters(), None) is not None for net in networks)


def _first(components: PCA, most: int) -> PCA:
    axes, variance, ratio = (getattr(components, name)[:most] for name in ARRAYS[1:])
    return PCA(components.mean, axes, variance, ratio)


def few_rows(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Take at most so many of the rows (n,), evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(np.int64)]


def _few(x: Observations, most: int) -> Observations:
    return as_numbers(x[few_rows(np.arange(len(x)), most)])


def _flat(x: Observations) -> Observations:
    return x.reshape(len(x), -1)
