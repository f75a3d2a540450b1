"""Do the theta of a set follow the distribution that they are said to come from?

References:
    Fisher 1921, Metron 1, 3 (the error of a correlation)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from mlpop.inference.prior import Prior

ALPHA = 1e-3
"""Chance that theta which do follow it are said not to, over all labels together."""


@dataclass(frozen=True)
class ThetaCheck:
    """How the theta of a set compare with what they should follow.

    Attributes:
        count: simulations.
        p_values: by label, of a Kolmogorov-Smirnov test; by two labels (`a ~ b`), of their
            correlation.
        outside: fraction of theta outside of the prior.
        low: (label) least and
        high: (label) largest value in the unit cube of the prior.
    """

    count: int
    p_values: dict[str, float]
    outside: float
    low: dict[str, float]
    high: dict[str, float]

    @property
    def follows(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.wrong and self.outside == 0

    @property
    def wrong(self) -> list[str]:
        """Labels, and pairs of labels, that do not."""
        limit = ALPHA / max(1, len(self.p_values))
        return [name for name, p in self.p_values.items() if p < limit]


def check_set_theta(
    prior: Prior, theta: NDArray[np.float64], reference: NDArray[np.floating] | None = None
) -> ThetaCheck:
    """Compare theta (n, d) of a set, physical units, likewise; see `check_theta`."""
    outside = float((~prior.contains(theta)).mean())
    return check_theta(prior.labels, prior.to_unit(theta).double().numpy(), reference, outside)


def check_theta(
    labels: Sequence[str],
    unit: NDArray[np.floating],
    reference: NDArray[np.floating] | None = None,
    outside: float = 0.0,
) -> ThetaCheck:
    """Compare the theta of a set with the prior, or with draws of what they should follow.

    Args:
        labels: d names.
        unit: (n, d) in the unit cube of the prior.
        reference: (m, d) draws likewise; None is the prior, uniform there.
        outside: fraction of theta outside of the prior, which lie at the faces of the cube.
    """
    values = np.asarray(unit, dtype=np.float64)
    p_values = {}
    for j, label in enumerate(labels):
        if reference is None:
            p_values[label] = float(stats.kstest(values[:, j], "uniform").pvalue)
        else:
            p_values[label] = float(stats.ks_2samp(values[:, j], reference[:, j]).pvalue)
    if len(values) > 3:
        own = _correlations(values)
        expected = np.zeros_like(own) if reference is None else _correlations(reference)
        error = (1 / (len(values) - 3)) ** 0.5
        if reference is not None:
            error = (1 / (len(values) - 3) + 1 / (len(reference) - 3)) ** 0.5
        for a, first in enumerate(labels):
            for b in range(a + 1, len(labels)):
                deviation = (np.arctanh(own[a, b]) - np.arctanh(expected[a, b])) / error
                p_values[f"{first} ~ {labels[b]}"] = float(2 * stats.norm.sf(abs(deviation)))
    return ThetaCheck(
        len(values),
        p_values,
        outside,
        dict(zip(labels, values.min(0).tolist(), strict=True)),
        dict(zip(labels, values.max(0).tolist(), strict=True)),
    )


def _correlations(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the correlations (d, d) of normal scores, off the ends +-1."""
    scores = special.ndtri((stats.rankdata(values, axis=0) - 0.5) / len(values))
    correlations = np.atleast_2d(np.corrcoef(scores, rowvar=False))
    return np.clip(np.nan_to_num(correlations), -1 + 1e-9, 1 - 1e-9)
