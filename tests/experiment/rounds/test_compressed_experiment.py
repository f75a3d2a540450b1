"""Whole experiments on maps that are compressed first (contract S14, B3)."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpop.commands.sbi import resume_experiment, run_experiment
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import TrainingError
from mlpop.experiment.rounds import compressor as compressor_module
from mlpop.experiment.rounds import run as round_module
from mlpop.inference.posteriors.store import load_posterior
from mlpop.networks.rng import generator_from_seed
from mlpop.tracking import Node, connect, find
from mlpop.tracking.artifacts import manifest_records, read_manifest

MODULE = "compressed_blobs"
SIMULATOR = '''
import numpy as np
from mlpop.simulators import Simulation

GRID = np.linspace(-1, 1, 8)


class Blobs:
    """Two maps of a blob at theta, and noise."""

    labels = ("a", "b")
    channels = ("one", "two")

    def __call__(self, theta, seed):
        u, v = (np.exp(-4 * (GRID - t) ** 2) for t in theta)
        maps = np.stack([np.outer(u, v), np.outer(v, u)])
        noise = np.random.default_rng(seed).standard_normal(maps.shape)
        return Simulation((maps + 0.05 * noise).astype(np.float32))
'''


@pytest.fixture(scope="module")
def blobs(
    vectors: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., dict[str, Any]]]:
    """Values of an experiment on small maps whose posterior is narrow."""
    folder = tmp_path_factory.mktemp("simulator")
    (folder / f"{MODULE}.py").write_text(SIMULATOR)

    def make(save_dir: Path, block: dict[str, Any], **changes: Any) -> dict[str, Any]:
        values = vectors(
            save_dir,
            arch={
                "type": "ModelConvSBIshallow",
                "args": {"input_shape": [2, 8, 8], "len_output_layer": 5},
            },
            simulator={"type": f"{MODULE}:Blobs", "args": {}},
            prior_ranges={"labels": ["a", "b"], "low": [-1, -1], "high": [1, 1]},
            training_data_loader={
                "simulate": True,
                "num_sim": 300,
                "filter_inputs": ["one", "two"],
                "standardize": True,
            },
            test_data_loader={"testing": False},
            observed_sample={"synthetic": {"theta": {"a": 0.4, "b": -0.5}}},
            trainer__num_rounds=2,
            trainer__truncated_prior=True,
            trainer__append_simulations=True,
            trainer__max_num_epochs=30,
            trainer__num_posterior_samples=500,
            compression_input={"use_compression": True, **block},
        )
        return values | {name: value for name, value in changes.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield make
    sys.modules.pop(MODULE, None)


def rounds(done: Any) -> list[Node]:
    return sorted((n for n in done.tree.children if n.kind == "round"), key=lambda n: n.round or 0)


@pytest.mark.parametrize("kind", [pytest.param("pca", marks=pytest.mark.slow), "cnn"])
def test_two_rounds_share_the_compressor_of_round_0_S14(
    run: Callable[[Any], Any],
    blobs: Callable[..., dict[str, Any]],
    tmp_path: Path,
    at_work: Path,
    kind: str,
) -> None:
    done = run(blobs(tmp_path, {"compression_type": kind, "fit": True}))
    weights = "pca.npz" if kind == "pca" else "network.safetensors"
    contents = []
    for number, node in enumerate(rounds(done)):
        manifest = read_manifest(done.store.client, node.run_id)
        assert manifest is not None
        names = {name for name in manifest_records(manifest) if name.startswith("compressor/")}
        assert {"compressor/compressor.json", f"compressor/{weights}"} <= names
        folder = done.models / f"round_{number}" / "compressor"
        contents.append([(folder / name).read_bytes() for name in ("compressor.json", weights)])
        # the members see vectors, and have no embedding network of their own
        member = done.models / f"round_{number}" / "member_00" / "estimator.json"
        spec = json.loads(member.read_text())["spec"]
        assert spec["embedding"] is None
        assert len(spec["x_shape"]) == 1
    assert contents[0] == contents[1]
    run_0 = done.store.client.get_run(rounds(done)[0].run_id).data
    assert run_0.tags["mlflow.mlpop.compressor"] == json.loads(contents[0][0])["digest"]
    assert run_0.metrics["compressor/components"] == spec["x_shape"][0]
    if kind == "cnn":
        history = done.store.client.get_metric_history(
            rounds(done)[0].run_id, "compressor/val_loss"
        )
        epochs = int(run_0.metrics["compressor/epochs"])
        assert [point.step for point in history] == list(range(1, epochs + 1))
    # what was saved takes maps as stored, and finds the truth again
    loaded = load_posterior(done.models / "round_1" / "posterior.json")
    assert loaded.x_shape == (2, 8, 8)
    x = np.load(done.models / "round_0" / "x_o.npy")
    draws = loaded.sample(400, x, generator_from_seed(5))
    assert (np.abs(np.median(draws, axis=0) - [0.4, -0.5]) < 0.15).all()
    assert (draws.std(0) < 0.2).all()
    assert np.array_equal(
        draws, done.result.rounds[-1].posterior.sample(400, x, generator_from_seed(5))
    )


@pytest.mark.slow
def test_a_member_of_one_experiment_compresses_for_the_next_S14(
    run: Callable[[Any], Any],
    blobs: Callable[..., dict[str, Any]],
    tmp_path: Path,
    at_work: Path,
) -> None:
    values = blobs(tmp_path / "npe", {"use_compression": False})
    values["trainer"] |= {"num_rounds": 1, "truncated_prior": False, "append_simulations": False}
    first = run(values)
    member = first.models / "round_0" / "member_00"
    values = blobs(tmp_path / "snre", {"cnn_model_path": str(member)})
    values["trainer"] |= {"num_rounds": 1, "type": "snre"}
    values["mcmc_sampler"] = {"num_chains": 50, "thin": 1}
    done = run(values)
    described = json.loads(
        (done.models / "round_0" / "compressor" / "compressor.json").read_text()
    )
    assert described["source"] == str(member)
    assert described["channels"] == ["one", "two"]
    values["training_data_loader"]["filter_inputs"] = ["two", "one"]
    with pytest.raises(
        Exception, match="was made for the maps one, two, but the training set has"
    ):
        run(values)


def test_a_resumed_launch_takes_the_compressor_over_from_the_lineage(
    blobs: Callable[..., dict[str, Any]],
    tmp_path: Path,
    at_work: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = blobs(tmp_path, {"fit": True})
    values["trainer"] |= {"num_rounds": 1, "max_num_epochs": 3}
    values["name"] = "interrupted_blobs"
    config = SbiConfig.parse(values)

    def fail(*_: Any, **__: Any) -> None:
        raise TrainingError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(round_module, "train_ensemble", fail)
        with pytest.raises(TrainingError, match="out of memory"):
            run_experiment(config)
    (folder,) = (tmp_path / "models" / "interrupted_blobs").glob("*/round_0/compressor")
    before = json.loads((folder / "compressor.json").read_text())
    report = (folder / "report.json").read_bytes()
    shutil.rmtree(folder)
    with monkeypatch.context() as patch:
        # nothing is trained for the compressor again
        patch.setattr(compressor_module, "train_member", None)
        store = connect()
        (root,) = find(store, {"mlpop.kind": "experiment", "mlflow.runName": "interrupted_blobs"})
        result = resume_experiment(root.info.run_id)
    assert result.rounds[0].problem.preprocessing.compressor is not None
    assert result.rounds[0].problem.preprocessing.compressor.digest == before["digest"]
    assert (folder / "report.json").read_bytes() == report
