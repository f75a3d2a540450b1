"""Principal components against scikit-learn, and their files (contract S14, section D3)."""

import numpy as np
import pytest
from sklearn.decomposition import PCA as Reference

from mlpop.errors import ConfigError, DataError
from mlpop.inference.compression.pca import ARRAYS, PCA, fit_pca, load_pca, save_pca


def vectors(count, length, seed=0):
    """Correlated vectors, whose last features are a thousandth of the first."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((length, length)) * np.geomspace(1, 1e-3, length)
    return (rng.standard_normal((count, length)) @ mixing.T + 3).astype(np.float32)


@pytest.mark.parametrize(("count", "length"), [(20, 60), (60, 61), (61, 60), (400, 30), (700, 30)])
@pytest.mark.parametrize("wanted", [1, 5, 0.6, 0.95, 0.999])
def test_the_numbers_of_scikit_learn_D3(count, length, wanted):
    v = vectors(count, length)
    pca = fit_pca(v, wanted)
    reference = Reference(wanted, svd_solver="full").fit(v.astype(np.float64))
    assert pca.num_components == reference.n_components_
    for name in ("mean", "explained_variance", "explained_variance_ratio"):
        np.testing.assert_allclose(getattr(pca, name), getattr(reference, f"{name}_"), rtol=1e-9)
    signs = np.sign(np.sum(pca.components * reference.components_, axis=1))
    np.testing.assert_allclose(pca.components, signs[:, None] * reference.components_, atol=1e-9)
    other = vectors(10, length, seed=1)
    z = pca.transform(other)
    np.testing.assert_allclose(z, signs * reference.transform(other), atol=1e-6)
    np.testing.assert_allclose(
        pca.inverse_transform(z),
        reference.inverse_transform(reference.transform(other)),
        atol=1e-6,
    )


@pytest.mark.parametrize(("count", "length"), [(20, 60), (60, 20)])
def test_signs_are_fixed_and_a_second_fit_is_bit_identical(count, length):
    v = vectors(count, length)
    pca, again = fit_pca(v, 4), fit_pca(v.copy(), 4)
    largest = np.abs(pca.components).argmax(1)
    assert (pca.components[np.arange(4), largest] > 0).all()
    assert all(np.array_equal(getattr(pca, name), getattr(again, name)) for name in ARRAYS)
    mirrored = fit_pca(-v, 4)
    np.testing.assert_allclose(mirrored.components, pca.components, atol=1e-9)


def test_n_vectors_have_at_most_n_minus_1_components_D3():
    v = np.random.default_rng(0).standard_normal((20, 100))
    assert fit_pca(v, 0.9999999).num_components == 19
    assert fit_pca(v, 19).unexplained(v) < 1e-20
    with pytest.raises(ConfigError, match="is 20, but 20 training maps have only 19"):
        fit_pca(v, 20)
    twice = np.repeat(v[:5], 4, axis=0)
    with pytest.raises(ConfigError, match="20 training maps have only 4 principal"):
        fit_pca(twice, 5)


def test_lost_variance_of_held_out_vectors_is_larger():
    rng = np.random.default_rng(3)
    v = rng.standard_normal((30, 200))
    pca = fit_pca(v, 0.95)
    assert pca.unexplained(v) == pytest.approx(1 - pca.explained_variance_ratio.sum())
    # white noise: of other vectors only the share of the dimensions is kept
    lost = pca.unexplained(rng.standard_normal((2000, 200)))
    assert lost == pytest.approx(1 - pca.num_components / 200, abs=0.02)
    assert pca.unexplained(np.tile(pca.mean, (3, 1))) == 0


def test_whitening_of_scikit_learn_is_honoured():
    v = vectors(50, 8).astype(np.float64)
    reference = Reference(3, whiten=True).fit(v)
    pca = PCA(*(getattr(reference, f"{name}_") for name in ARRAYS), whiten=True)
    np.testing.assert_allclose(pca.transform(v), reference.transform(v), atol=1e-9)
    np.testing.assert_allclose(
        pca.inverse_transform(pca.transform(v)),
        reference.inverse_transform(reference.transform(v)),
        atol=1e-9,
    )
    with pytest.raises(DataError, match="whitening needs"):
        PCA(v[0], v[:1], np.zeros(1), np.zeros(1), whiten=True)


@pytest.mark.parametrize("whiten", [False, True])
def test_file_round_trip_is_bit_identical(tmp_path, whiten):
    fitted = fit_pca(vectors(30, 12), 4)
    pca = PCA(*(getattr(fitted, name) for name in ARRAYS), whiten=whiten)
    save_pca(tmp_path / "one.npz", pca)
    loaded = load_pca(tmp_path / "one.npz")
    assert all(np.array_equal(getattr(pca, name), getattr(loaded, name)) for name in ARRAYS)
    assert loaded.whiten is whiten
    save_pca(tmp_path / "two.npz", loaded)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_a_file_of_four_arrays_will_do_and_a_broken_one_will_not(tmp_path):
    pca = fit_pca(vectors(30, 12), 4)
    arrays = {name: getattr(pca, name) for name in ARRAYS}
    path = tmp_path / "pca.npz"
    np.savez(path, **arrays)
    assert np.array_equal(load_pca(path).components, pca.components)
    np.savez(path, **{name: value for name, value in arrays.items() if name != "mean"})
    with pytest.raises(DataError, match=r"pca.npz: lacks mean; the .npz of a PCA holds mean, "):
        load_pca(path)
    np.savez(path, **(arrays | {"mean": np.zeros(5)}))
    with pytest.raises(DataError, match=r"pca.npz: PCA: with components of shape \(4, 12\) mean"):
        load_pca(path)
    np.savez(path, **(arrays | {"mean": np.full(12, np.nan)}))
    with pytest.raises(DataError, match="mean holds NaN or infinity"):
        load_pca(path)
    np.savez(path, **(arrays | {"components": np.array([None, 1], dtype=object)}))
    with pytest.raises(DataError, match="cannot be read as the .npz of a PCA"):
        load_pca(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read as the .npz of a PCA"):
        load_pca(path)
    with pytest.raises(DataError, match="no such file"):
        load_pca(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("v", "wanted", "error", "message"),
    [
        (np.ones((1, 3)), 1, DataError, "at least 2 vectors"),
        (np.ones(3), 1, DataError, "at least 2 vectors"),
        (np.ones((4, 3)), 1, DataError, "but all 4 are equal"),
        (np.array([[1.0, np.nan], [0, 1]]), 1, DataError, "NaN or infinity"),
        (np.eye(3), 0, ConfigError, "at least 1, or a fraction between 0 and 1, but got 0"),
        (np.eye(3), 1.0, ConfigError, "or a fraction between 0 and 1, but got 1.0"),
    ],
)
def test_what_cannot_be_fitted(v, wanted, error, message):
    with pytest.raises(error, match=message):
        fit_pca(v, wanted)


def test_vectors_of_another_length():
    pca = fit_pca(vectors(30, 12), 4)
    with pytest.raises(DataError, match=r"expected vectors of shape \(n, 12\), but got \(2, 5\)"):
        pca.transform(np.zeros((2, 5)))
    with pytest.raises(DataError, match=r"expected vectors of shape \(n, 4\), but got \(4,\)"):
        pca.inverse_transform(np.zeros(4))


@pytest.mark.parametrize("unit", [1e-200, 1e-300, 1e-310])
@pytest.mark.parametrize("count", [40, 5])
def test_vectors_of_which_the_squares_vanish_have_the_same_components(unit, count):
    v = np.random.default_rng(3).normal(size=(count, 8)) * np.arange(1, 9)
    fitted, plain = fit_pca(v * unit, 3), fit_pca(v, 3)
    # numbers below 1e-308 have fewer digits
    np.testing.assert_allclose(fitted.components, plain.components, atol=1e-9)
    np.testing.assert_allclose(fitted.explained_variance_ratio, plain.explained_variance_ratio)
