"""A posterior in one folder under one digest."""

import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.inference.estimators.store import save_estimator
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.model_files import DIGESTS, load_packed, pack_posterior
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed

PRIOR = Prior(("a", "b"), (-1.0, -2.0), (1.0, 2.0))


@pytest.fixture
def saved(tmp_path, small_estimator):
    members, folders = [], []
    for seed in range(2):
        estimator, spec, _, _ = small_estimator(seed=seed)
        folders.append(tmp_path / f"made_{seed}")
        save_estimator(folders[-1], estimator, spec)
        members.append(estimator)
    return members, folders


def test_packed_posterior_comes_back(saved, tmp_path):
    members, folders = saved
    posterior = EnsemblePosterior(members, PRIOR, (0.2, 0.8))
    digest = pack_posterior(tmp_path / "packed", posterior, folders)
    loaded = load_packed(tmp_path / "packed", digest)
    x = np.array([0.1, -0.3, 0.2])
    expected = posterior.sample(20, x, generator_from_seed(1))
    np.testing.assert_array_equal(loaded.sample(20, x, generator_from_seed(1)), expected)
    np.testing.assert_array_equal(loaded.log_prob(expected, x), posterior.log_prob(expected, x))


def test_digest_is_of_the_content(saved, tmp_path):
    members, folders = saved
    first = EnsemblePosterior(members, PRIOR)
    digest = pack_posterior(tmp_path / "a", first, folders)
    loaded = load_packed(tmp_path / "a", digest)
    copies = [tmp_path / "a" / f"member_0{k}" for k in range(2)]
    assert pack_posterior(tmp_path / "elsewhere" / "b", loaded, copies) == digest
    weighted = EnsemblePosterior(members, PRIOR, (0.4, 0.6))
    turned = EnsemblePosterior(members[::-1], PRIOR)
    wider = EnsemblePosterior(members, Prior(("a", "b"), (-1.0, -2.0), (1.0, 3.0)))
    others = {
        pack_posterior(tmp_path / "c", weighted, folders),
        pack_posterior(tmp_path / "d", turned, folders[::-1]),
        pack_posterior(tmp_path / "e", wider, folders),
    }
    assert len(others | {digest}) == 4


def test_every_change_is_found_C11(saved, tmp_path):
    members, folders = saved
    folder = tmp_path / "packed"
    digest = pack_posterior(folder, EnsemblePosterior(members, PRIOR), folders)
    names = [path for path in folder.rglob("*") if path.is_file()]
    assert len(names) == 6
    for path in names:
        whole = path.read_bytes()
        path.write_bytes(whole + b" ")
        with pytest.raises(DataError, match="SHA-256"):
            load_packed(folder, digest)
        path.unlink()
        with pytest.raises(DataError, match="cannot be read"):
            load_packed(folder, digest)
        path.write_bytes(whole)
    assert (folder / DIGESTS).is_file()
    load_packed(folder, digest)


def test_member_that_is_missing(saved, tmp_path):
    members, folders = saved
    posterior = EnsemblePosterior(members, PRIOR)
    with pytest.raises(DataError, match="cannot be packed: .*gone"):
        pack_posterior(tmp_path / "packed", posterior, [folders[0], tmp_path / "gone"])
