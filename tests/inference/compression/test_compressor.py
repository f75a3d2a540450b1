"""Compressors: what they compute, their files, and what is not read (contract S14, B3)."""

import hashlib
import json
import pickle

import joblib
import numpy as np
import pytest
import torch
from sbi.neural_nets import posterior_nn
from sklearn.decomposition import PCA as SklearnPCA
from torch import nn

from mlpop.errors import ConfigError, DataError
from mlpop.inference.compression.compressor import Compressor, PcaEncoder, load_compressor
from mlpop.inference.compression.pca import fit_pca, save_pca
from mlpop.inference.compression.rescaling import Rescaling, fit_rescaling
from mlpop.inference.compression.sources import Trust, read_compressor
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EmbeddingSpec, EstimatorSpec
from mlpop.inference.estimators.store import save_estimator
from mlpop.networks.rng import generator_from_seed

SHAPE = (2, 8, 8)
ARGS = {"input_shape": list(SHAPE), "len_output_layer": 5, "final_activation": "none"}
NETWORK = EmbeddingSpec(type="ModelConvSBIshallow", args=ARGS)


class Touch:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def maps(count=40, seed=0):
    return torch.rand(count, *SHAPE, generator=generator_from_seed(seed))


def estimator(z_score_x="none", **changes):
    spec = EstimatorSpec.parse(
        {
            "hidden_features": 8,
            "num_components": 2,
            "z_score_x": z_score_x,
            "embedding": NETWORK.model_dump(),
            "x_shape": SHAPE,
            "dimension": 1,
        }
        | changes
    )
    generator = generator_from_seed(1)
    theta = torch.rand(40, 1, generator=generator)
    x = 3 * maps() + 7 if spec.x_shape == SHAPE else torch.rand(40, *spec.x_shape)
    return build_estimator(spec, theta, x, generator).eval(), spec


@pytest.fixture
def member(tmp_path):
    trained, spec = estimator("independent")
    save_estimator(tmp_path / "member_00", trained, spec)
    return tmp_path / "member_00"


@pytest.fixture
def pca_compressor():
    x = maps()
    encoder = PcaEncoder(fit_pca(x.flatten(1).numpy(), 6), SHAPE)
    return Compressor(encoder, channels=("a", "b"), input_scaling="none").rescaled(
        x, "component", "none"
    )


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("z_score_x", ["none", "independent", "structured"])
def test_cnn_is_the_embedding_of_the_estimator_with_its_standardization_B3(tmp_path, z_score_x):
    trained, spec = estimator(z_score_x)
    save_estimator(tmp_path, trained, spec)
    x = maps(700, seed=5)
    for path in (tmp_path, tmp_path / "estimator.safetensors", tmp_path / "estimator.json"):
        compressor = read_compressor(path, "cnn", x_shape=SHAPE)
        assert (compressor.kind, compressor.width, compressor.x_shape) == ("cnn", 5, SHAPE)
        with torch.no_grad():
            assert torch.equal(compressor(x), torch.cat([trained.embed(p) for p in x.split(512)]))
    assert not compressor(x.requires_grad_()).requires_grad
    if z_score_x != "none":
        plain = compressor.encoder.network(x.detach())
        assert not torch.allclose(plain, compressor(x.detach()), atol=0.1)


def test_pca_is_that_of_scikit_learn_on_maps_flattened_by_channel_height_width_B3(tmp_path):
    x = maps()
    flat = x.flatten(1).numpy().astype(np.float64)
    assert np.array_equal(flat[3, 64:72], x[3, 1, 0].numpy().astype(np.float64))
    reference = SklearnPCA(0.9).fit(flat)
    names = ("mean", "components", "explained_variance", "explained_variance_ratio")
    path = tmp_path / "pca.npz"
    np.savez(path, **{name: getattr(reference, f"{name}_") for name in names})
    compressor = read_compressor(path, "pca", x_shape=SHAPE)
    assert compressor.width == reference.n_components_
    other = maps(700, seed=2)
    np.testing.assert_allclose(
        compressor(other).numpy(),
        reference.transform(other.flatten(1).double().numpy()),
        atol=1e-5,
    )
    assert compressor(other).dtype == torch.float32


def test_component_rescaling_is_fitted_on_the_training_set_B3():
    x = maps(60)
    encoder = PcaEncoder(fit_pca(x.flatten(1).numpy(), 6), SHAPE)
    compressor = Compressor(encoder).rescaled(x, "component", "standardize")
    vectors = compressor(x)
    torch.testing.assert_close(vectors.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors.std(0, correction=0), torch.ones(6))
    other = maps(5, seed=9)
    shift, scale = (
        torch.tensor(v) for v in (compressor.rescaling.shift, compressor.rescaling.scale)
    )
    torch.testing.assert_close(compressor(other), (compressor.encode(other) - shift) / scale)
    assert torch.equal(compressor(other)[2:3], compressor(other[2:3]))


class Columns:
    """An encoder whose vectors are the first pixels, some of them made constant."""

    kind, x_shape, width = "pca", SHAPE, 5

    def encode(self, x):
        vectors = x.flatten(1)[:, :5].clone()
        vectors[:, 1] = 3.0
        vectors[:, 3] *= 1e-9
        return vectors


def test_components_that_do_not_vary_are_left_out():
    x = maps()
    first = x.flatten(1)[:, [0, 2, 4]]
    for mode in ("component", "none"):
        compressor = Compressor(Columns()).rescaled(x, mode, "none")
        assert (compressor.kept, compressor.width) == ((0, 2, 4), 3)
        expected = (
            first if mode == "none" else (first - first.mean(0)) / first.std(0, correction=0)
        )
        torch.testing.assert_close(compressor(x), expected)
    assert Compressor(Columns()).rescaled(x, "sample", "standardize").width == 5
    with pytest.raises(DataError, match="the same vector of all 40 training maps"):
        Compressor(Columns()).rescaled(torch.ones_like(x), "component", "none")


def test_sample_rescaling_is_the_reference_one_B3():
    vectors = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
    standardized = Rescaling(mode="sample", method="standardize")(vectors)
    expected = (vectors[0] - 3) / vectors[0].std(correction=0)
    torch.testing.assert_close(standardized[0], expected)
    torch.testing.assert_close(
        Rescaling(mode="sample", method="normalize")(vectors)[0], torch.tensor([0.0, 0.2, 1.0])
    )
    # the denominator 0 became 1e-8, the numerator is 0
    assert torch.equal(standardized[1], torch.zeros(3))
    assert torch.equal(Rescaling(mode="sample", method="none")(vectors), vectors)
    assert torch.equal(Rescaling()(vectors), vectors)
    with pytest.raises(ConfigError, match="'sample' turns vectors of one component"):
        fit_rescaling(torch.zeros(3, 1), "sample", "standardize")


@pytest.mark.parametrize("mode", ["component", "sample", "none"])
@pytest.mark.parametrize("kind", ["cnn", "pca"])
def test_saved_and_loaded_is_bit_identical(tmp_path, member, pca_compressor, kind, mode):
    compressor = pca_compressor if kind == "pca" else read_compressor(member, "cnn")
    compressor = compressor.rescaled(maps(), mode, "standardize")
    files = compressor.save(tmp_path / "saved")
    assert sorted((tmp_path / "saved").iterdir()) == sorted(files)
    loaded = load_compressor(tmp_path / "saved")
    x = maps(9, seed=4)
    assert torch.equal(loaded(x), compressor(x))
    assert loaded.digest == compressor.digest
    assert loaded.rescaling == compressor.rescaling
    assert (loaded.channels, loaded.input_scaling) == (
        compressor.channels,
        compressor.input_scaling,
    )
    (tmp_path / "saved").rename(tmp_path / "moved")
    # a saved compressor is a source too; its rescaling is fitted anew
    assert torch.equal(read_compressor(tmp_path / "moved", kind).encode(x), compressor.encode(x))


def test_digest_tells_compressors_apart(pca_compressor):
    other = pca_compressor.rescaled(maps(seed=1), "component", "none")
    assert other.digest != pca_compressor.digest
    assert pca_compressor.rescaled(maps(), "component", "none").digest == pca_compressor.digest


@pytest.mark.parametrize("change", ["weights", "rescaling", "record", "cut", "missing", "shape"])
def test_tampered_files_are_refused(tmp_path, member, change):
    compressor = read_compressor(member, "cnn").rescaled(maps(), "component", "none")
    weights, description = compressor.save(tmp_path / "saved")
    values = json.loads(description.read_text())
    if change == "weights":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        message = r"network.safetensors: its SHA-256 is \w+, compressor.json has"
    elif change == "rescaling":
        values["rescaling"]["shift"][0] += 1e-3
        description.write_text(json.dumps(values))
        message = "compressor.json: its content has the digest"
    elif change == "record":
        del values["width"], values["sha256"]
        description.write_text(json.dumps(values))
        message = "the compressor cannot be read: KeyError"
    elif change == "cut":
        description.write_text(description.read_text()[:50])
        message = "cannot be read as JSON"
    elif change == "missing":
        weights.unlink()
        message = "the compressor cannot be read: FileNotFoundError"
    else:
        values["network"]["args"]["len_output_layer"] = 6
        description.write_text(json.dumps(values))
        message = "the weights do not fit compressor.json"
    with pytest.raises(DataError, match=message):
        load_compressor(tmp_path / "saved")


def test_a_damaged_member_is_refused(member):
    weights = member / "estimator.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DataError, match="it is damaged"):
        read_compressor(member, "cnn")


@pytest.mark.parametrize("kind", ["cnn", "pca"])
@pytest.mark.parametrize("suffix", [".pickle", ".pkl", ".joblib"])
def test_a_pickle_is_read_only_on_request_and_with_its_digest_S14(tmp_path, kind, suffix):
    path = tmp_path / f"model{suffix}"
    x = maps()
    if kind == "cnn":
        value, _ = estimator("independent")
        expected = value.embed(x).detach()
    else:
        value = SklearnPCA(4).fit(x.flatten(1).numpy())
        expected = torch.tensor(value.transform(x.flatten(1).numpy()))
    if suffix == ".joblib":
        joblib.dump(value, path)
    else:
        path.write_bytes(pickle.dumps(value))
    options = {"x_shape": SHAPE, "network": NETWORK}
    right, wrong = digest(path), "0" * 64
    for trust in (None, Trust(), Trust(sha256=right), Trust(allow_pickle=True)):
        with pytest.raises(DataError, match=f"is a pickle, and reading one .* {right}"):
            read_compressor(path, kind, trust=trust, **options)
    with pytest.raises(DataError, match=f"SHA-256 {right}, but sha256 is {wrong}"):
        read_compressor(path, kind, trust=Trust(True, wrong), **options)
    compressor = read_compressor(path, kind, trust=Trust(True, right), **options)
    torch.testing.assert_close(compressor(x), expected, rtol=1e-5, atol=1e-5)


def test_a_refused_pickle_runs_no_code(tmp_path):
    path, touched = tmp_path / "model.pkl", tmp_path / "touched"
    path.write_bytes(pickle.dumps(Touch(touched)))
    for trust in (Trust(), Trust(True, "0" * 64)):
        for kind in ("cnn", "pca"):
            with pytest.raises(DataError, match="pickle"):
                read_compressor(path, kind, trust=trust)
    assert not touched.exists()
    # it would have, had it been trusted
    with pytest.raises(DataError, match="must hold a fitted PCA"):
        read_compressor(path, "pca", trust=Trust(True, digest(path)))
    assert touched.exists()


@pytest.mark.parametrize("model", ["mdn", "maf"])
@pytest.mark.parametrize("z_score_x", ["none", "independent"])
def test_an_estimator_pickled_by_sbi_B3(tmp_path, model, z_score_x):
    network = estimator()[0].embedding_net[-1]
    theta = torch.rand(40, 2, generator=generator_from_seed(0))
    trained = posterior_nn(model, embedding_net=network, z_score_x=z_score_x)(theta, maps())
    path = tmp_path / "trained_model.pickle"
    path.write_bytes(pickle.dumps(trained))
    trust = Trust(True, digest(path))
    compressor = read_compressor(path, "cnn", x_shape=SHAPE, network=NETWORK, trust=trust)
    x = maps(6, seed=3)
    with torch.no_grad():
        expected = trained.embedding_net.eval()(x)
    torch.testing.assert_close(compressor(x), expected)
    other = EmbeddingSpec(type="ModelConvSBIshallow", args={**ARGS, "final_activation": "relu"})
    with pytest.raises(DataError, match="it computes something else from the same weights"):
        read_compressor(path, "cnn", x_shape=SHAPE, network=other, trust=trust)
    other = EmbeddingSpec(type="ModelConvSBIshallow", args={**ARGS, "len_output_layer": 6})
    with pytest.raises(DataError, match="is not the ModelConvSBIshallow of arch"):
        read_compressor(path, "cnn", x_shape=SHAPE, network=other, trust=trust)
    with pytest.raises(DataError, match="needs the arch block"):
        read_compressor(path, "cnn", x_shape=SHAPE, trust=trust)


def test_weights_as_pt_beside_a_json(tmp_path):
    trained, _ = estimator()
    network = trained.embedding_net[-1]
    path = tmp_path / "cnn.pt"
    torch.save(network.state_dict(), path)
    with pytest.raises(DataError, match=r"cnn.pt: needs cnn.json beside it"):
        read_compressor(path, "cnn", x_shape=SHAPE)
    path.with_suffix(".json").write_text(json.dumps({"type": NETWORK.type, "args": ARGS}))
    compressor = read_compressor(path, "cnn", x_shape=SHAPE, trust=Trust(sha256=digest(path)))
    x = maps(6, seed=3)
    with torch.no_grad():
        assert torch.equal(compressor(x), network(x))
    with pytest.raises(DataError, match="its SHA-256 is"):
        read_compressor(path, "cnn", trust=Trust(sha256="0" * 64))
    changed = {"type": NETWORK.type, "args": {**ARGS, "len_output_layer": 4}}
    path.with_suffix(".json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match=r"cnn.pt: holds no weights of the network of .*cnn.json"):
        read_compressor(path, "cnn", x_shape=SHAPE)
    touched = tmp_path / "touched"
    torch.save({"weights": Touch(touched)}, path)
    with pytest.raises(DataError, match="must hold a state_dict of tensors alone"):
        read_compressor(path, "cnn", x_shape=SHAPE)
    assert not touched.exists()


def test_what_is_no_compressor(tmp_path, member, pca_compressor):
    save_pca(tmp_path / "pca.npz", pca_compressor.encoder.pca)
    pca_compressor.save(tmp_path / "saved")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("text")
    vectors, spec = estimator(embedding=None, x_shape=(3,))
    save_estimator(tmp_path / "vectors", vectors, spec)
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1]))
    (tmp_path / "gone.pkl").write_bytes(b"cno_such_module\nThing\n.")
    cases = [
        (tmp_path / "none", "cnn", "none: no such file or folder"),
        (tmp_path / "none.npz", "pca", "none.npz: no such file"),
        (tmp_path / "none.pt", "cnn", "none.pt: no such file"),
        (tmp_path / "none.pkl", "cnn", "none.pkl: cannot be read: No such file"),
        (tmp_path / "empty", "cnn", "holds neither estimator.json nor compressor.json"),
        (tmp_path / "empty", "pca", "is a folder without compressor.json"),
        (tmp_path / "text.txt", "cnn", "of a format that is not known; known are .pt, "),
        (tmp_path / "text.txt", "pca", "of a format that is not known; known are .npz, "),
        (tmp_path / "saved", "cnn", "a compressor of type 'pca', but compression_type is 'cnn'"),
        (tmp_path / "vectors", "cnn", "its estimator has no embedding network"),
        (tmp_path / "pca.npz", "pca", r"vectors of 128 numbers, but one x of shape \[3, 8, 8\]"),
        (member, "cnn", r"compresses x of shape \[2, 8, 8\], but here x has the shape \[3, 8"),
        (tmp_path / "saved", "pca", r"x of shape \[2, 8, 8\], but here x has the shape \[3, 8"),
    ]
    for path, kind, message in cases:
        with pytest.raises(DataError, match=message):
            read_compressor(path, kind, x_shape=(3, 8, 8))
    for name, kind, message in [
        ("list.pkl", "pca", "must hold a fitted PCA of scikit-learn, found a list"),
        ("list.pkl", "cnn", "a trained estimator with an embedding_net, found a list"),
        ("gone.pkl", "cnn", "cannot be unpickled: ModuleNotFoundError"),
    ]:
        path = tmp_path / name
        with pytest.raises(DataError, match=message):
            read_compressor(path, kind, trust=Trust(True, digest(path)))


def test_bad_x(pca_compressor):
    with pytest.raises(
        DataError, match=r"takes x of shape \(b, 2, 8, 8\), but got \(3, 2, 8, 9\)"
    ):
        pca_compressor(torch.zeros(3, 2, 8, 9))
    x = maps(600)
    x[550, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="makes NaN or infinity of x, first in row 550"):
        pca_compressor(x)
    assert pca_compressor(maps(0)).shape == (0, 6)


def test_compressing_leaves_the_number_of_threads_and_the_global_generator_alone(member):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    compressor = read_compressor(member, "cnn", x_shape=SHAPE)
    compressor(maps())
    compressor.digest  # noqa: B018
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not any(
        isinstance(m, nn.Dropout) or m.training for m in compressor.encoder.network.modules()
    )
