"""The compressor of an experiment: read or made, measured, kept (contract S14, B3, D3)."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from mlpop.compute import make_backend
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.loading import Dataset
from mlpop.datasets.scaling import scale_inputs
from mlpop.errors import ConfigError, DataError, MlpopError, TrainingError
from mlpop.experiment.inputs.given_compressor import check_compressor
from mlpop.experiment.inputs.problem import LearningProblem, save_problem, write_training_arrays
from mlpop.experiment.rounds import compressor as compressor_module
from mlpop.experiment.rounds.compressor import make_compressor
from mlpop.experiment.rounds.context import Launch
from mlpop.experiment.rounds.ensemble import estimator_spec, validation_rows
from mlpop.inference.compression.compressor import Compressor, PcaEncoder, load_compressor
from mlpop.inference.compression.pca import fit_pca, save_pca
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.store import save_estimator
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed
from mlpop.training.events import CheckpointWritten, EpochEnded

SEED = 11
CHANNELS = ("map_a", "map_b")
SHAPE = (2, 8, 8)
ARCH = {"type": "ModelConvSBIshallow", "args": {"input_shape": SHAPE, "len_output_layer": 6}}

Make = Callable[..., SbiConfig]


@dataclass
class FittedCompressor:
    """A compressor, its folder and its numbers."""

    folder: Path
    compressor: Compressor
    numbers: Mapping[str, float]

    @property
    def warnings(self) -> list[str]:
        return json.loads((self.folder / "report.json").read_text())["warnings"]


@pytest.fixture
def configured(vectors: Callable[..., dict[str, Any]], tmp_path: Path) -> Make:
    """Return the configuration of an experiment on maps, with a block `compression_input`."""

    def make(block: dict[str, Any], **changes: Any) -> SbiConfig:
        values = vectors(
            tmp_path,
            **{
                "trainer__type": "snle",
                "trainer__max_num_epochs": 3,
                "arch": ARCH,
                "training_data_loader__standardize": True,
                "training_data_loader__filter_inputs": CHANNELS,
                **changes,
            },
        )
        values["compression_input"] = {"use_compression": True} | block
        return SbiConfig.parse(values)

    return make


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Maps of two blobs whose places are theta, with noise."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(-1, 1, (60, 2))
    grid = np.linspace(-1, 1, 8)
    blobs = np.exp(-((grid[None, :] - theta[:, :, None]) ** 2))
    x = blobs[:, :, :, None] * blobs[:, ::-1, None, :]
    x = (x + 0.02 * rng.standard_normal(x.shape)).astype(np.float32)
    return Dataset(theta, x, ("theta_1", "theta_2"), CHANNELS, tmp_path / "dataset_full.csv")


@pytest.fixture
def problem() -> LearningProblem:
    prior = Prior(("theta_1", "theta_2"), (-1, -1), (1, 1))
    return LearningProblem(prior, CHANNELS, Preprocessing("standardize"))


@pytest.fixture
def make(
    tmp_path: Path, data: Dataset, problem: LearningProblem
) -> Callable[[SbiConfig], FittedCompressor]:
    def start(config: SbiConfig, data: Dataset = data, **options: Any) -> FittedCompressor:
        folder = tmp_path / "round_0" / "compressor"
        with make_backend() as backend:
            backend = options.pop("backend", backend)
            launch = Mock(
                Launch, config=config, root_seed=SEED, backend=backend, device=torch.device("cpu")
            )
            return FittedCompressor(
                folder, *make_compressor(launch, problem, data, folder, **options)
            )

    return start


def scaled(data: Dataset) -> torch.Tensor:
    return torch.tensor(scale_inputs(data.x, "standardize"))


def used_rows(config: SbiConfig, data: Dataset) -> np.ndarray:
    held_out = validation_rows(config, {0: np.ones(len(data), bool)}, SEED).numpy()
    return np.setdiff1d(np.arange(len(data)), held_out)


def test_pca_is_fitted_on_the_training_split_of_round_0_D3(
    configured: Make, make: Callable[..., FittedCompressor], data: Dataset
) -> None:
    config = configured({"compression_type": "pca", "fit": True, "num_components": 0.9})
    fitted = make(config)
    x, used = scaled(data), used_rows(config, data)
    assert len(used) == 54
    expected = fit_pca(x[used].flatten(1).numpy(), 0.9)
    encoder = fitted.compressor.encoder
    assert isinstance(encoder, PcaEncoder)
    assert np.array_equal(encoder.pca.components, expected.components)
    torch.testing.assert_close(
        fitted.compressor(x[used]).std(0, correction=0), torch.ones(encoder.width)
    )
    held_out = np.setdiff1d(np.arange(60), used)
    flat = x.flatten(1).numpy()
    assert fitted.numbers == {
        "compressor/components": expected.num_components,
        "compressor/constant_components": 0,
        "compressor/explained_variance": pytest.approx(expected.explained_variance_ratio.sum()),
        "compressor/lost_variance_training": pytest.approx(expected.unexplained(flat[used])),
        "compressor/lost_variance_validation": pytest.approx(expected.unexplained(flat[held_out])),
    }
    assert fitted.numbers["compressor/lost_variance_validation"] < 0.3
    assert not fitted.warnings
    assert {path.name for path in fitted.folder.iterdir()} == {
        "compressor.json",
        "pca.npz",
        "report.json",
    }
    assert load_compressor(fitted.folder).digest == fitted.compressor.digest


def test_few_maps_limit_the_rank_and_the_report_says_so_D3(
    configured: Make,
    make: Callable[..., FittedCompressor],
    data: Dataset,
    caplog: pytest.LogCaptureFixture,
) -> None:
    noise = np.random.default_rng(1).standard_normal((20, *SHAPE)).astype(np.float32)
    few = Dataset(data.theta[:20], noise, data.labels, data.channels, data.source)
    fitted = make(configured({"compression_type": "pca", "fit": True}), few)
    (warning,) = fitted.warnings
    assert "components of 18 training maps, which cannot have more than 17" in warning
    assert warning in caplog.text
    assert fitted.numbers["compressor/lost_variance_training"] < 0.06
    assert fitted.numbers["compressor/lost_variance_validation"] > 0.7
    with pytest.raises(ConfigError, match="num_components: num_components is 18, but 18 training"):
        make(configured({"compression_type": "pca", "fit": True, "num_components": 18}), few)


def test_cnn_is_the_embedding_of_one_snpe_network_trained_on_round_0(
    configured: Make, make: Callable[..., FittedCompressor], data: Dataset, tmp_path: Path
) -> None:
    events: list[Any] = []
    config = configured({"fit": True}, trainer__checkpoint_seconds=0)
    fitted = make(config, on_event=lambda _, event: events.append(event))
    assert fitted.compressor.width == 6
    description = json.loads((fitted.folder / "compressor.json").read_text())
    assert description["network"]["args"]["final_activation"] == "none"
    assert fitted.numbers["compressor/equal_values"] < 0.02
    epochs = [event.record for event in events if isinstance(event, EpochEnded)]
    assert [record.epoch for record in epochs] == [1, 2, 3]
    saved = [event.epoch for event in events if isinstance(event, CheckpointWritten)]
    assert saved == [1, 2, 3, 3]
    assert fitted.numbers["compressor/epochs"] == 3
    best = min(record.val_loss for record in epochs)
    assert fitted.numbers["compressor/best_val_loss"] == pytest.approx(best)
    assert fitted.compressor.channels == CHANNELS
    vectors = fitted.compressor(scaled(data)[used_rows(config, data)])
    torch.testing.assert_close(vectors.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    assert [path.name for path in (tmp_path / "round_0").iterdir()] == ["compressor"]
    # the method that comes after has no part in it
    for kind in ("snre", "snpe"):
        other = make_again(make, configured({"fit": True}, trainer__type=kind), tmp_path)
        assert other.compressor.digest == fitted.compressor.digest


def make_again(
    make: Callable[..., FittedCompressor], config: SbiConfig, tmp_path: Path
) -> FittedCompressor:
    """Make it anew, in an empty folder."""
    (tmp_path / "round_0").rename(tmp_path / f"old_{len(list(tmp_path.iterdir()))}")
    return make(config)


@pytest.mark.parametrize("kind", ["cnn", "pca"])
def test_a_second_launch_keeps_what_is_there_and_otherwise_makes_the_same_bits(
    configured: Make,
    make: Callable[..., FittedCompressor],
    data: Dataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    config = configured({"compression_type": kind, "fit": True})
    first = make(config)
    files = {path: path.read_bytes() for path in first.folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(compressor_module, "fit_pca", None)
        kept = make(config, backend=None)
    assert kept.compressor.digest == first.compressor.digest
    assert (kept.numbers, kept.warnings) == (first.numbers, first.warnings)
    weights = first.folder / ("network.safetensors" if kind == "cnn" else "pca.npz")
    weights.write_bytes(b"torn")
    with caplog.at_level(logging.WARNING):
        again = make(config)
    assert "compressor: made again" in caplog.text
    assert {path: path.read_bytes() for path in again.folder.iterdir()} == files
    other = Dataset(data.theta, data.x[::-1].copy(), data.labels, data.channels, data.source)
    assert make(config, other).compressor.digest != first.compressor.digest


def test_a_failed_training_is_an_error(
    configured: Make, make: Callable[..., FittedCompressor], data: Dataset
) -> None:
    theta = data.theta.copy()
    theta[3] = np.nan
    broken = Dataset(theta, data.x, data.labels, data.channels, data.source)
    with pytest.raises(TrainingError, match="the network of the compressor: .*NaN"):
        make(configured({"fit": True}), broken)


def saved_member(folder: Path, config: SbiConfig, problem: LearningProblem, data: Dataset) -> Path:
    """Write an experiment with one untrained network, as a launch would."""
    maps = config.model_copy(
        update={"trainer": config.trainer.model_copy(update={"type": "snpe"})}
    )
    maps = maps.model_copy(
        update={
            "compression_input": config.compression_input.model_copy(
                update={"use_compression": False}
            )
        }
    )
    spec = estimator_spec(maps, problem, SHAPE)
    theta = problem.prior.to_unit(data.theta)
    estimator = build_estimator(spec, theta, scaled(data), generator_from_seed(0))
    member = folder / "round_1" / "member_00"
    save_estimator(member, estimator, spec)
    (folder / "round_0").mkdir()
    save_problem(folder / "round_0" / "problem.json", problem)
    return member


@pytest.mark.parametrize("mode", ["component", "sample", "none"])
def test_a_given_member_serves_with_every_rescaling_B3(
    configured: Make,
    make: Callable[..., FittedCompressor],
    data: Dataset,
    problem: LearningProblem,
    tmp_path: Path,
    mode: str,
) -> None:
    config = configured({"fit": True})
    member = saved_member(tmp_path / "launch", config, problem, data)
    config = configured({"cnn_model_path": str(member), "rescale": mode})
    check_compressor(config, CHANNELS, SHAPE)
    fitted = make(config)
    x = scaled(data)
    vectors = fitted.compressor.encode(x)
    used = vectors[used_rows(config, data)]
    # the untrained network has dead features
    alive = used.amax(0) > used.amin(0)
    assert 1 < int(alive.sum()) < 6
    expected = vectors[:, alive]
    if mode == "component":
        expected = (expected - used.mean(0)[alive]) / used.std(0, correction=0)[alive]
    elif mode == "sample":
        expected = vectors - vectors.mean(1, keepdim=True)
        expected = expected / vectors.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(fitted.compressor(x), expected, rtol=1e-4, atol=1e-5)
    preprocessing = Preprocessing(problem.preprocessing.input_scaling, fitted.compressor)
    compressed = replace(problem, preprocessing=preprocessing)
    arrays = write_training_arrays(tmp_path / "arrays", compressed, data)
    assert arrays.x_shape == (expected.shape[1],)
    np.testing.assert_allclose(np.load(arrays.x_path), expected, rtol=1e-4, atol=1e-5)
    assert estimator_spec(config, problem, arrays.x_shape).embedding is None
    # zeros of a ReLU are no data for a density of x
    if mode != "sample":
        (warning,) = fitted.warnings
        assert (
            "one and the same value in a component: a likelihood has no density there" in warning
        )
    config = configured({"cnn_model_path": str(member), "rescale": mode}, trainer__type="snre")
    assert not make_again(make, config, tmp_path).warnings


def test_a_compressor_for_other_maps_is_refused_before_anything_is_simulated_S14(
    configured: Make, data: Dataset, problem: LearningProblem, tmp_path: Path
) -> None:
    member = saved_member(tmp_path / "launch", configured({"fit": True}), problem, data)
    flat = scaled(data).flatten(1).numpy()
    save_pca(tmp_path / "pca.npz", fit_pca(flat[:, :64], 4))
    cnn = {"cnn_model_path": str(member)}
    pca = {"compression_type": "pca", "pca_model_path": str(tmp_path / "pca.npz")}
    larger = {"type": "ModelConvSBIshallow", "args": {"input_shape": (2, 16, 16)}}
    cases: list[tuple[SbiConfig, tuple[str, ...], type[MlpopError], str]] = [
        (
            configured(cnn, arch=larger),
            CHANNELS,
            DataError,
            r"cnn_model_path: .*compresses x of shape \[2, 8, 8\], but here x has .*\[2, 16, 16\]",
        ),
        (
            configured(cnn),
            ("map_a", "map_c"),
            ConfigError,
            "cnn_model_path: was made for the maps map_a, map_b, but the training set has map_a, "
            "map_c",
        ),
        (
            configured(cnn, training_data_loader__standardize=False),
            CHANNELS,
            ConfigError,
            "made for maps with the scaling 'standardize', but training_data_loader has 'none'",
        ),
        (
            configured(pca),
            CHANNELS,
            DataError,
            "pca_model_path: .*vectors of 64 numbers, but one x of shape .* has 128",
        ),
        (
            configured({"cnn_model_path": str(tmp_path / "none.pt")}),
            CHANNELS,
            DataError,
            "compression_input.cnn_model_path: .*none.pt: no such file",
        ),
        (
            configured({"compression_type": "pca", "fit": True, "num_components": 360}),
            CHANNELS,
            ConfigError,
            "num_components: must be at most 128, since one x has 128 numbers; found 360",
        ),
    ]
    for config, channels, error, message in cases:
        with pytest.raises(error, match=message):
            check_compressor(config, channels, SHAPE if config.compression_input.fit else None)
    config = configured({"compression_type": "pca", "fit": True, "num_components": 54})
    check_compressor(config, CHANNELS, SHAPE, 400)
    with pytest.raises(ConfigError, match="54 training maps have at most 53 components; found 54"):
        check_compressor(config, CHANNELS, SHAPE, 60)


def test_a_pickle_of_the_configuration_needs_its_digest_S14(
    configured: Make, tmp_path: Path
) -> None:
    (tmp_path / "pca.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    block = {"compression_type": "pca", "pca_model_path": str(tmp_path / "pca.pkl")}
    with pytest.raises(
        DataError, match="set allow_pickle to true and sha256 to its digest, [0-9a-f]"
    ):
        check_compressor(configured(block), CHANNELS, SHAPE)
    wrong = block | {"allow_pickle": True, "sha256": "A" * 64}
    with pytest.raises(DataError, match=f"but sha256 is {'a' * 64}; it is not the file"):
        check_compressor(configured(wrong), CHANNELS, SHAPE)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"compression_type": "pca"}, "pca_model_path: is required .* or set fit to true"),
        ({"fit": True, "cnn_model_path": "cnn.pt"}, "cnn_model_path: must be null with fit"),
        ({"fit": True, "sha256": "0" * 64}, "sha256: must be null with fit"),
        ({"fit": True, "num_components": 1.5}, "num_components: .* a fraction between 0 and 1"),
        ({"fit": True, "num_components": 0}, "num_components: must be an integer of at least 1"),
        ({"cnn_model_path": "x.pt", "sha256": "abc"}, "sha256: must be 64 hexadecimal digits"),
    ],
)
def test_a_block_that_contradicts_itself(
    configured: Make, block: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"compression_input.{message}"):
        configured(block)


def test_the_report_is_plain_json(configured: Make, make: Callable[..., FittedCompressor]) -> None:
    fitted = make(configured({"compression_type": "pca", "fit": True, "num_components": 3}))
    report = json.loads((fitted.folder / "report.json").read_text())
    assert report["numbers"]["compressor/components"] == 3
    described = json.loads((fitted.folder / "compressor.json").read_text())
    assert described["channels"] == list(CHANNELS)
    assert described["input_scaling"] == "standardize"
    assert len(described["rescaling"]["shift"]) == 3
