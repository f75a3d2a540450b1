"""Catalogues and datasets that the tests of maps share."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mlpop.datasets.dataset import assemble
from mlpop.datasets.shards import SimulationRow, finished_shards, write_shard

Catalogue = dict[str, NDArray]


@pytest.fixture
def make_catalogue() -> Callable[..., Catalogue]:
    """Detected pulsars; each column that is given as a keyword replaces the default."""

    def make(n: int, **columns: object) -> Catalogue:
        default = {
            "ra": 180.0,
            "dec": 0.0,
            "pm_ra": 0.0,
            "pm_dec": 0.0,
            "P": 1.0,
            "P_dot": 1e-15,
            "S_radio_obs_mean_1400": 1e-3,
        }
        merged = default | columns
        return {
            name: np.array(np.broadcast_to(np.asarray(v, dtype=float), (n,)))
            for name, v in merged.items()
        }

    return make


@pytest.fixture
def make_dataset() -> Callable[..., Path]:
    """A packed dataset of random maps: `folder`, number of simulations, simulations a shard."""

    def make(
        folder: Path,
        n: int = 10,
        per_shard: int = 4,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        failed: Mapping[int, str] | None = None,
        seed: int = 5,
    ) -> Path:
        shapes = shapes or {"a": (4, 3), "b": (4, 3)}
        failed = failed or {}
        for start in range(0, n, per_shard):
            rows = []
            for index in range(start, min(start + per_shard, n)):
                rng = np.random.default_rng([seed, index])
                maps = {name: rng.normal(size=shape) for name, shape in shapes.items()}
                bad = index in failed
                rows.append(
                    SimulationRow(
                        index,
                        f"{seed}:{index}",
                        status="failed" if bad else "ok",
                        message=failed.get(index, ""),
                        info={"detections": {"PMPS": 100 + index}},
                        maps={} if bad else maps,
                    )
                )
            write_shard(folder, start // per_shard, rows)
        theta = np.random.default_rng(seed).normal(size=(n, 2))
        assemble(folder, ["u", "v"], theta, list(shapes), finished_shards(folder).values())
        return folder

    return make


@pytest.fixture
def example_labels() -> NDArray[np.float64]:
    """(20, 2) labels of the documented example set (learning.md E): B, P in log10."""
    rows = [
        (13.588784742232676, -0.8682599920428211),
        (12.942382264486357, -0.9597174050735499),
        (13.556881077862638, -0.7423557048782589),
        (12.97324431432589, -1.3295442643349915),
        (13.196267645787076, -1.4589949833333373),
        (12.002233373316034, -1.2248785413104564),
        (13.007493710667562, -0.32636848831786125),
        (12.06318495742961, -1.3376720561853588),
        (12.940599104074813, -0.40997876085030094),
        (12.340833635328762, -0.6776764949801627),
        (13.474938551028917, -0.6522736460841125),
        (13.163847866769366, -1.1773449759760428),
        (12.61496572161291, -1.1210676109147872),
        (12.908285491784937, -0.8875304932869916),
        (12.634893277482504, -0.6614236540860164),
        (13.726632318785471, -0.851856959118284),
        (13.220384557240777, -0.6187520675492276),
        (13.054387760759084, -1.290181509720851),
        (12.305125308263984, -0.41777188758367334),
        (13.629887947037343, -0.9186852657595018),
    ]
    return np.array(rows)
