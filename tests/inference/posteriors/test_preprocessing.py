"""From stored x to what the networks see, alone and inside a posterior (contract S14, B3)."""

import json

import numpy as np
import pytest
import torch

from mlpop.datasets.scaling import scale_inputs
from mlpop.errors import ConfigError, DataError
from mlpop.inference.compression.compressor import Compressor, PcaEncoder
from mlpop.inference.compression.pca import fit_pca
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.estimators.store import save_estimator
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.posteriors.store import load_posterior, save_posterior
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed

SHAPE = (2, 6, 5)
PRIOR = Prior(("a", "b"), (-1.0, -2.0), (1.0, 2.0))


def maps(count=50, seed=0):
    return np.random.default_rng(seed).gamma(1.0, 4.0, (count, *SHAPE)).astype(np.float32)


def compressor(width=3, scaling="standardize"):
    x = torch.tensor(scale_inputs(maps(), scaling))
    encoder = PcaEncoder(fit_pca(x.flatten(1).numpy(), width), SHAPE)
    return Compressor(encoder, input_scaling=scaling).rescaled(x, "component", scaling)


def posterior(preprocessing, width=3):
    generator = generator_from_seed(0)
    spec = EstimatorSpec.parse(
        {
            "hidden_features": 8,
            "num_components": 2,
            "z_score_x": "independent",
            "x_shape": [width],
            "dimension": 2,
        }
    )
    vectors = torch.randn(60, width, generator=generator)
    member = build_estimator(spec, torch.rand(60, 2, generator=generator), vectors, generator)
    return EnsemblePosterior([member], PRIOR, preprocessing=preprocessing), spec


def test_scaling_alone():
    x = maps()
    assert np.array_equal(Preprocessing("normalize")(x), scale_inputs(x, "normalize"))
    assert np.array_equal(Preprocessing()(x), x)
    vectors = x[:, :, 0, 0]
    assert np.array_equal(Preprocessing("standardize")(vectors), vectors)
    assert Preprocessing().stored_shape((2, 6, 5)) == (2, 6, 5)


def test_scaled_then_compressed_B3():
    made = compressor()
    preprocessing = Preprocessing("standardize", made)
    x = maps(1300, seed=1)
    seen = preprocessing(x)
    assert seen.shape == (1300, 3)
    torch.testing.assert_close(seen, made(torch.tensor(scale_inputs(x, "standardize"))))
    # what standardizing maps by their own pixels removes does not come back
    torch.testing.assert_close(preprocessing(5 * x[:4] + 2), seen[:4], rtol=1e-4, atol=1e-4)
    assert preprocessing(x[:0]).shape == (0, 3)


def test_a_posterior_takes_stored_maps():
    preprocessing = Preprocessing("standardize", compressor())
    made, _ = posterior(preprocessing)
    x = maps(4, seed=2)
    assert made.x_shape == SHAPE
    assert torch.equal(made.embed(x)[0], made.members[0].embed(preprocessing(x)))
    draws = made.sample(20, x[0], generator_from_seed(1))
    assert draws.shape == (20, 2)
    assert np.isfinite(made.log_prob(draws, x[0])).all()
    with pytest.raises(DataError, match=r"one x must have the shape \(2, 6, 5\), but got \(3,\)"):
        made.sample(3, np.zeros(3), generator_from_seed(1))


@pytest.mark.parametrize("with_compressor", [False, True])
def test_a_saved_posterior_keeps_its_preprocessing(tmp_path, with_compressor):
    preprocessing = Preprocessing("standardize", compressor() if with_compressor else None)
    made, spec = posterior(preprocessing, 3 if with_compressor else 7)
    save_estimator(tmp_path / "round" / "member_00", made.members[0], spec)
    path = tmp_path / "round" / "posterior.json"
    save_posterior(path, made, [tmp_path / "round" / "member_00"])
    (tmp_path / "round").rename(tmp_path / "moved")
    loaded = load_posterior(tmp_path / "moved" / "posterior.json")
    x = maps(1, seed=2)[0] if with_compressor else np.ones(7)
    draws = [each.sample(30, x, generator_from_seed(1)) for each in (made, loaded)]
    assert np.array_equal(*draws)
    assert (tmp_path / "moved" / "compressor").exists() is with_compressor


def test_another_compressor_beside_a_saved_posterior_is_refused(tmp_path):
    made, spec = posterior(Preprocessing("standardize", compressor()))
    save_estimator(tmp_path / "member_00", made.members[0], spec)
    path = tmp_path / "posterior.json"
    save_posterior(path, made, [tmp_path / "member_00"])
    values = json.loads(path.read_text())
    other = compressor(scaling="normalize")
    other.save(tmp_path / "compressor")
    with pytest.raises(DataError, match=f"is the compressor {other.digest}, the posterior was"):
        load_posterior(path)
    values["preprocessing"]["compressor"]["folder"] = "../../etc"
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"must be 'compressor', found '../../etc'"):
        load_posterior(path)
    del values["preprocessing"]["input_scaling"]
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match="broken preprocessing"):
        load_posterior(path)


def test_contradictions():
    with pytest.raises(ConfigError, match="scaling 'log' is none of"):
        Preprocessing("log")
    with pytest.raises(
        ConfigError, match="made for maps with the scaling 'standardize', but here"
    ):
        Preprocessing("normalize", compressor())
    with pytest.raises(
        DataError, match=r"vectors of 3 components, but a member was trained for x"
    ):
        posterior(Preprocessing("standardize", compressor()), width=4)
