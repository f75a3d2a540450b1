"""Observations that the simulator could not have made must be told from those that it could."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from mlpop.errors import DataError
from mlpop.inference.diagnostics.typicality import ALPHA, Typicality, is_unlike
from mlpop.inference.posteriors.preprocessing import Preprocessing


class Mean(nn.Module):
    """A network that sees nothing of a map but its mean, like one that has learnt to."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Linear(1, 3)

    def embed(self, x):
        return self.embedding(x.flatten(1).mean(1, keepdim=True))


class Plain(nn.Module):
    """A network without an embedding."""

    def embed(self, x):
        return x


def posterior_of(*members):
    return SimpleNamespace(members=members, preprocessing=Preprocessing())


def vectors(count, rng, shift=0.0):
    """A curved cloud: 6 numbers that follow from one, and noise."""
    theta = rng.uniform(-1, 1, (count, 1))
    powers = np.hstack([theta**k for k in range(1, 7)])
    return (powers + 0.1 * rng.normal(size=powers.shape) + shift).astype(np.float32)


def maps(count, rng):
    """Poisson maps of one brightness each; the right half is always dark."""
    rate = rng.uniform(2, 10, (count, 1, 1, 1))
    x = rng.poisson(np.broadcast_to(rate, (count, 2, 8, 8))).astype(np.float32)
    x[..., 4:] = 0
    return x


def test_p_values_of_the_simulators_own_observations_are_uniform():
    rng = np.random.default_rng(1)
    posterior = posterior_of(Plain())
    p_values = []
    for _ in range(40):
        typicality = Typicality.fit(posterior, vectors(200, rng), vectors(99, rng))
        assert list(typicality.views) == ["x"]
        p_values += [typicality.p_values(posterior, x)["x"] for x in vectors(20, rng)]
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert min(p_values) == pytest.approx(0.01)


@pytest.mark.parametrize(
    "x",
    [
        [0.5, 0.25, 0.125, 0.06, 0.03, 2.0],
        # every number is usual, their combination is not: -1 squared is not -1
        [-1, -1, 1, 1, -1, -1],
    ],
)
def test_what_lies_off_the_cloud_is_unlike_it(x):
    rng = np.random.default_rng(2)
    posterior = posterior_of(Plain())
    typicality = Typicality.fit(posterior, vectors(500, rng), vectors(300, rng))
    found = typicality.p_values(posterior, np.array(x, dtype=np.float32))
    assert found == {"x": pytest.approx(1 / 301)}
    assert is_unlike(found)
    assert not is_unlike(typicality.p_values(posterior, vectors(1, rng)[0]))


def test_a_hot_pixel_where_none_ever_was_is_seen_though_networks_ignore_it():
    rng = np.random.default_rng(3)
    torch.manual_seed(0)
    posterior = posterior_of(Mean(), Mean())
    typicality = Typicality.fit(posterior, maps(400, rng), maps(400, rng))
    assert list(typicality.views) == ["x", "embedding"]
    x = maps(1, rng)[0]
    assert not is_unlike(typicality.p_values(posterior, x))
    x[0, 0, 7] = 100
    found = typicality.p_values(posterior, x)
    assert found["x"] < ALPHA / 2 < found["embedding"]
    assert is_unlike(found)


def test_brighter_maps_than_any_are_unlike_in_both_views():
    rng = np.random.default_rng(4)
    torch.manual_seed(0)
    posterior = posterior_of(Mean())
    typicality = Typicality.fit(posterior, maps(400, rng), maps(400, rng))
    found = typicality.p_values(posterior, 3 * maps(1, rng)[0] + 10 * (maps(1, rng)[0] > 0))
    assert max(found.values()) < ALPHA / 2


def test_too_few_held_out_simulations_accuse_nobody():
    rng = np.random.default_rng(5)
    posterior = posterior_of(Plain())
    typicality = Typicality.fit(posterior, vectors(50, rng), vectors(20, rng))
    assert not is_unlike(typicality.p_values(posterior, np.full(6, 1e6, dtype=np.float32)))


def test_saved_and_loaded_it_says_the_same(tmp_path):
    rng = np.random.default_rng(6)
    torch.manual_seed(0)
    posterior = posterior_of(Mean())
    typicality = Typicality.fit(posterior, maps(60, rng), maps(60, rng))
    typicality.save(tmp_path / "t.safetensors")
    again = Typicality.load(tmp_path / "t.safetensors")
    for x in maps(20, rng):
        assert again.p_values(posterior, x) == typicality.p_values(posterior, x)
    (tmp_path / "t.safetensors").write_bytes(b"none")
    with pytest.raises(DataError, match=r"t\.safetensors: cannot be read"):
        Typicality.load(tmp_path / "t.safetensors")
    with pytest.raises(DataError, match=r"gone: cannot be read"):
        Typicality.load(tmp_path / "gone")


def test_many_simulations_are_thinned():
    rng = np.random.default_rng(7)
    posterior = posterior_of(Plain())
    typicality = Typicality.fit(posterior, vectors(3000, rng), vectors(2500, rng))
    assert len(typicality.views["x"].references) == len(typicality.views["x"].held_out) == 1000
