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
from mlpop.inference.posteriors.preprocessing import Preprocessing, count_units
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


def test_the_log_of_counts_comes_before_the_scaling():
    x = maps(5)
    seen = Preprocessing("standardize", logged=(1,))(x).numpy()
    usual = Preprocessing("standardize")(x).numpy()
    np.testing.assert_array_equal(seen[:, 0], usual[:, 0])
    logs = np.log1p(x[:, 1].astype(np.float64))
    expected = (logs - logs.mean((1, 2), keepdims=True)) / logs.std((1, 2), keepdims=True)
    np.testing.assert_allclose(seen[:, 1], expected, atol=1e-5)
    assert np.abs(expected - usual[:, 1]).max() > 0.1
    # what was given stays as it was
    assert np.array_equal(x, maps(5))
    vectors = Preprocessing(logged=(0, 1))(x[:, :, 0, 0])
    np.testing.assert_allclose(vectors, np.log1p(x[:, :, 0, 0]), rtol=1e-6)


def test_counts_below_zero_are_refused():
    x = maps(5)
    x[3, 1, 2, 2] = -0.5
    Preprocessing(logged=(0,))(x)
    with pytest.raises(DataError, match=r"channel 1 of x, .* has the value -0\.5: counts are 0"):
        Preprocessing(logged=(0, 1))(x)
    with pytest.raises(DataError, match="at least 3 channels"):
        Preprocessing(logged=(2,))(x)


def test_the_log_of_counts_is_stored(tmp_path):
    x = maps()
    first = Preprocessing("standardize", logged=(1,))
    values = json.loads(json.dumps(first.save(tmp_path)))
    loaded = Preprocessing.load(tmp_path, values)
    assert loaded.logged == (1,)
    assert np.array_equal(loaded(x), first(x))
    # as it was before there were logs
    assert "logged" not in Preprocessing("standardize").save(tmp_path)
    scaled = torch.tensor(first.scaled(x))
    encoder = PcaEncoder(fit_pca(scaled.flatten(1).numpy(), 3), SHAPE)
    made = Compressor(encoder, input_scaling="standardize", log_counts=True).rescaled(
        scaled, "component", "standardize"
    )
    compressed = Preprocessing("standardize", made, logged=(1,))
    again = Preprocessing.load(tmp_path, compressed.save(tmp_path))
    assert again.compressor is not None
    assert again.compressor.log_counts
    assert np.array_equal(again(x), compressed(x))


def with_counts(count=50, seed=0):
    """Maps, and two numbers, each of which fills a channel."""
    numbers = np.random.default_rng(seed + 1).poisson((900, 30), (count, 2)).astype(np.float32)
    planes = np.broadcast_to(numbers[:, :, None, None], (count, 2, *SHAPE[1:]))
    return np.concatenate([maps(count, seed), planes], axis=1), numbers


def test_counts_are_logs_in_units_of_the_training_set():
    x, numbers = with_counts()
    units = count_units(x, 2)
    assert count_units(x, 0) is None
    seen = Preprocessing("standardize", counts=units, logged=(0,))(x).numpy()
    assert np.array_equal(seen[:, :2], Preprocessing("standardize", logged=(0,))(x[:, :2]).numpy())
    logs = np.log1p(numbers.astype(np.float64))
    expected = (logs - logs.mean(0)) / logs.std(0)
    np.testing.assert_allclose(seen[:, 2:, 0, 0], expected, atol=1e-5)
    assert (seen[:, 2:] == seen[:, 2:, :1, :1]).all()
    # another x is scaled by the training set's numbers, not by its own
    lone = Preprocessing("standardize", counts=units)(x[:1]).numpy()
    np.testing.assert_allclose(lone[0, 2:, 0, 0], expected[0], atol=1e-5)


def test_counts_that_make_no_sense_are_refused():
    x, _ = with_counts()
    preprocessing = Preprocessing(counts=count_units(x, 2))
    x[4, 3] = -1
    with pytest.raises(DataError, match="a number beside the maps, .* has the value -1"):
        preprocessing(x)
    with pytest.raises(DataError, match=r"expected x of maps and 2 counts.* found shape \(50, 2,"):
        preprocessing(maps())
    with pytest.raises(DataError, match="expected x of maps and 2 counts"):
        count_units(x[:, :, 0, 0], 2)


def test_counts_stand_beside_what_a_compressor_makes_of_maps(tmp_path):
    x, _ = with_counts()
    first = Preprocessing("standardize", counts=count_units(x, 2))
    scaled = torch.tensor(first.scaled(x))
    encoder = PcaEncoder(fit_pca(scaled[:, :2].flatten(1).numpy(), 3), SHAPE)
    made = Compressor(encoder, input_scaling="standardize", numbers=2)
    assert (made.x_shape, made.width) == ((4, 6, 5), 5)
    np.testing.assert_array_equal(made.encode(scaled)[:, 3:], scaled[:, 2:, 0, 0])
    np.testing.assert_array_equal(made.encode(scaled)[:, :3], encoder.encode(scaled[:, :2]))
    made = made.rescaled(scaled, "component", "standardize")
    preprocessing = Preprocessing("standardize", made, counts=first.counts)
    values = json.loads(json.dumps(preprocessing.save(tmp_path)))
    again = Preprocessing.load(tmp_path, values)
    assert again.num_counts == 2
    assert again.stored_shape((5,)) == (4, 6, 5)
    assert np.array_equal(again(x), preprocessing(x))
