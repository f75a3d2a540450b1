"""Whole experiments whose networks see counts, log counts and sky maps beside the usual maps."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resume_checks import without_figures

import mlpop
from mlpop.commands.infer import infer
from mlpop.commands.sbi import resume_experiment, run_experiment
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ConfigError
from mlpop.experiment.inputs.checks import check_inputs
from mlpop.experiment.rounds import member_files
from mlpop.inference.compression.compressor import load_compressor
from mlpop.inference.posteriors.store import load_posterior
from mlpop.networks.rng import generator_from_seed
from mlpop.tracking import connect, find

Values = dict[str, Any]
MODULE = "counted_blobs"
SIMULATOR = '''
import numpy as np
from mlpop.simulators import Simulation

GRID = np.linspace(-1, 1, 8)


class Counted:
    """A map of a blob at b, and a number of pulsars that tells a."""

    labels = ("a", "b")
    channels = ("sky", "found")

    def __call__(self, theta, seed):
        rng = np.random.default_rng(seed)
        blob = np.exp(-4 * (GRID - theta[1]) ** 2)
        sky = np.outer(blob, blob) + 0.05 * rng.standard_normal((8, 8))
        found = float(rng.poisson(np.exp(4 + theta[0])))
        return Simulation({"sky": sky.astype(np.float32), "found": np.array(found)})
'''
TRUTH = {"a": 0.4, "b": -0.5}


@pytest.fixture(scope="module")
def counted(
    vectors: Callable[..., Values], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Values]]:
    """Values of an experiment that learns one label from a map and the other from a count."""
    folder = tmp_path_factory.mktemp("simulator")
    (folder / f"{MODULE}.py").write_text(SIMULATOR)

    def make(save_dir: Path, **changes: Any) -> Values:
        return vectors(
            save_dir,
            **{
                "arch": {
                    "type": "ModelConvSBIshallow",
                    "args": {"input_shape": [1, 8, 8], "len_output_layer": 5},
                    "count_layers": [6, 4],
                },
                "simulator": {"type": f"{MODULE}:Counted", "args": {}},
                "prior_ranges": {"labels": ["a", "b"], "low": [-1, -1], "high": [1, 1]},
                "training_data_loader__num_sim": 300,
                "training_data_loader__filter_inputs": ["sky"],
                "training_data_loader__filter_counts": ["found"],
                "test_data_loader__testing": False,
                "observed_sample": {"synthetic": {"theta": TRUTH}},
                "trainer__max_num_epochs": 30,
                "trainer__num_posterior_samples": 400,
            }
            | changes,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield make
    sys.modules.pop(MODULE, None)


@pytest.fixture(scope="module")
def done(
    run: Callable[[Values], Any],
    counted: Callable[..., Values],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """The experiment with counts, once for the tests of this module."""
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        return run(counted(tmp_path_factory.mktemp("counted"), name="counted"))


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    without_figures(monkeypatch)


def draws_at_x_o(done: Any) -> np.ndarray:
    posterior = done.result.rounds[-1].posterior
    return posterior.sample(400, done.result.rounds[0].observed.x, generator_from_seed(5))


def test_a_label_that_counts_alone_tell_is_learned(done: Any) -> None:
    draws = draws_at_x_o(done)
    # a count of about 80 tells a to 0.11, no count leaves the prior's 0.58
    assert (draws.std(0) < 0.35).all()
    assert (np.abs(np.median(draws, axis=0) - list(TRUTH.values())) < 0.35).all()
    member = json.loads((done.models / "round_0/member_00/estimator.json").read_text())
    embedding = member["spec"]["embedding"]
    assert embedding["type"] == "MapsAndNumbers"
    assert (embedding["args"]["numbers"], embedding["args"]["layers"]) == (1, [6, 4])
    assert member["spec"]["x_shape"] == [2, 8, 8]
    # half or twice the count is another a, the same map the same b
    x = np.array(done.result.rounds[0].observed.x)
    less, more = x.copy(), x.copy()
    less[1], more[1] = x[1] / 2, 2 * x[1]
    posterior = done.result.rounds[-1].posterior
    medians = [
        np.median(posterior.sample(400, one, generator_from_seed(5)), axis=0)
        for one in (less, more)
    ]
    assert medians[1][0] - medians[0][0] > 0.4
    assert abs(medians[1][1] - medians[0][1]) < 0.3


def test_the_posterior_is_loaded_again_with_its_counts(done: Any, at_work: Path) -> None:
    expected = draws_at_x_o(done)
    x_o = done.result.rounds[0].observed.x
    assert x_o.shape == (2, 8, 8)
    for address in (done.models, f"runs:/{done.result.run_id}", f"models:/{done.config.name}/1"):
        posterior = mlpop.load_posterior(address)
        np.testing.assert_array_equal(posterior.x_o, x_o)
        np.testing.assert_array_equal(posterior.sample(400, seed=5), expected)
    problem = json.loads((done.models / "round_0" / "problem.json").read_text())
    assert problem["channels"] == ["sky", "found"]
    assert len(problem["preprocessing"]["counts"]["shift"]) == 1


def test_infer_elsewhere_takes_the_counts(
    done: Any, counted: Callable[..., Values], at_work: Path, tmp_path: Path, no_figures: None
) -> None:
    elsewhere = {"save_dir": str(tmp_path), "compute_coverage": False}
    values = counted(done.save_dir, name="counted", infer=elsewhere)
    inferred = infer(SbiConfig.parse(values))
    assert (inferred.folder / "round_0" / "samples_posterior.pt").is_file()
    posterior = inferred.rounds[0].posterior
    x_o = done.result.rounds[0].observed.x
    draws = posterior.sample(400, x_o, generator_from_seed(5))
    np.testing.assert_array_equal(draws, draws_at_x_o(done))
    values["training_data_loader"]["filter_counts"] = None
    with pytest.raises(
        ConfigError, match=r'^training_data_loader\.filter_counts: is \[\], but .* \["found"\]$'
    ):
        infer(SbiConfig.parse(values))


def test_resumed_in_the_middle_of_training_has_the_same_bits(
    done: Any,
    counted: Callable[..., Values],
    at_work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_figures: None,
) -> None:
    calls, real = 0, member_files.CheckpointSender.__call__

    def send(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        value, calls = real(*arguments, **options), calls + 1
        if calls == 4:
            raise KeyboardInterrupt
        return value

    values = counted(tmp_path, name="counted_twice", trainer__checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        patch.setattr(member_files.CheckpointSender, "__call__", send)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(SbiConfig.parse(values))
    (root,) = find(connect(), {"mlpop.kind": "experiment", "mlpop.name": "counted_twice"})
    result = resume_experiment(root.info.run_id)
    x_o = result.rounds[0].observed.x
    np.testing.assert_array_equal(x_o, done.result.rounds[0].observed.x)
    again = result.rounds[-1].posterior.sample(400, x_o, generator_from_seed(5))
    np.testing.assert_array_equal(again, draws_at_x_o(done))


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("snpe", "pca"),
        pytest.param("snle", "pca", marks=pytest.mark.slow),
        pytest.param("snre", "cnn", marks=pytest.mark.slow),
    ],
)
def test_counts_stand_beside_compressed_maps(
    run: Callable[[Values], Any],
    counted: Callable[..., Values],
    tmp_path: Path,
    at_work: Path,
    no_figures: None,
    type_: str,
    kind: str,
) -> None:
    block = {"use_compression": True, "compression_type": kind, "fit": True, "num_components": 3}
    compressed = run(
        counted(
            tmp_path,
            name=f"counted_{type_}_{kind}",
            compression_input=block,
            trainer__type=type_,
            mcmc_sampler={"num_chains": 50, "thin": 1},
        )
    )
    compressor = load_compressor(compressed.models / "round_0" / "compressor")
    assert (compressor.numbers, compressor.x_shape) == (1, (2, 8, 8))
    assert compressor.encoder.x_shape == (1, 8, 8)
    assert compressor.channels == ("sky", "found")
    # the count is the last component of those that are passed on
    assert compressor.full_width - 1 in (compressor.kept or range(compressor.full_width))
    draws = draws_at_x_o(compressed)
    assert draws[:, 0].std() < 0.35
    assert abs(np.median(draws[:, 0]) - TRUTH["a"]) < 0.4
    loaded = load_posterior(compressed.models / "round_0" / "posterior.json")
    assert loaded.x_shape == (2, 8, 8)
    x_o = np.load(compressed.models / "round_0" / "x_o.npy")
    np.testing.assert_array_equal(loaded.sample(400, x_o, generator_from_seed(5)), draws)


def test_a_member_that_saw_counts_compresses_maps_for_the_next(
    done: Any,
    run: Callable[[Values], Any],
    counted: Callable[..., Values],
    tmp_path: Path,
    no_figures: None,
) -> None:
    """Its branch stays behind: it was made for the counts of another training set."""
    member = done.models / "round_0" / "member_00"
    block = {"use_compression": True, "cnn_model_path": str(member)}
    values = counted(
        tmp_path, name="counted_given", compression_input=block, trainer__max_num_epochs=2
    )
    compressed = run(values)
    compressor = load_compressor(compressed.models / "round_0" / "compressor")
    assert (compressor.numbers, compressor.encoder.x_shape) == (1, (1, 8, 8))
    assert compressor.full_width == 5 + 1
    maps = done.result.rounds[-1].posterior.members[0].embedding_net[-1].maps
    weights = compressor.encoder.network.state_dict()
    assert weights.keys() == maps.state_dict().keys()
    for name, value in maps.state_dict().items():
        assert bool((weights[name] == value).all())


def test_pulsars_with_all_that_networks_may_see(
    run: Callable[[Values], Any], smoke: Callable[..., Values], tmp_path: Path, at_work: Path
) -> None:
    surveys = ("PMPS", "SMPS", "HTRU")
    done = run(
        smoke(
            tmp_path,
            name="all_channels",
            generator={
                "counts": True,
                "sky_maps": {"b_dm": {"first": {"column": "b_abs"}, "second": {"column": "DM"}}},
            },
            training_data_loader__filter_inputs=[
                *(f"survey_{survey}_ppdot_map" for survey in surveys),
                *(f"survey_{survey}_b_dm" for survey in surveys),
            ],
            training_data_loader__filter_counts=[f"survey_{survey}_count" for survey in surveys],
            training_data_loader__log_counts=True,
        )
    )
    observed = done.result.rounds[0].observed
    assert observed.x.shape == (9, 32, 32)
    assert (observed.x[6:] == observed.x[6:, :1, :1]).all()
    preprocessing = done.result.rounds[0].problem.preprocessing
    assert preprocessing.logged == (0, 1, 2, 3, 4, 5)
    assert preprocessing.num_counts == 3
    posterior = mlpop.load_posterior(done.models)
    assert posterior.sample(7, seed=2).shape == (7, 4)
    assert posterior.posterior.x_shape == (9, 32, 32)
    # the report shows the maps of x_o, and the prediction of every channel
    assert (done.models / "round_0" / "observed_sample.pdf").stat().st_size > 1000
    predictive = json.loads((done.models / "round_0" / "predictive.json").read_text())
    assert {"survey_HTRU_count", "survey_HTRU_b_dm"} <= predictive["p_values"].keys()
    assert list((done.save_dir / "logs").rglob("report.html")) or list(
        done.models.rglob("report.html")
    )


def test_what_contradicts_counts_is_refused(
    smoke: Callable[..., Values], tmp_path: Path, vectors: Callable[..., Values]
) -> None:
    def refused(match: str, **changes: Any) -> None:
        with pytest.raises(ConfigError, match=match):
            check_inputs(SbiConfig.parse(smoke(tmp_path, **changes)))

    count = "survey_PMPS_count"
    refused(
        r"filter_counts\[0\]: is no count that is simulated, .*set generator\.counts to true",
        training_data_loader__filter_counts=[count],
    )
    refused(
        r"filter_counts\[0\]: is no count that is simulated, .*; allowed: survey_PMPS_count",
        training_data_loader__filter_counts=["survey_PMPS_ppdot_map_fluxes"],
        training_data_loader__filter_inputs=[f"survey_{s}_ppdot_map" for s in ("PMPS", "SMPS")],
        arch__args__input_shape=[2, 32, 32],
        generator={"counts": True},
    )
    refused(
        r"filter_inputs\[0\]: is a number and no map: move 'survey_PMPS_count' to filter_counts",
        training_data_loader__filter_inputs=[count, "survey_PMPS_ppdot_map"],
        arch__args__input_shape=[2, 32, 32],
        generator={"counts": True},
    )
    refused(
        "rescale: must be 'component' or 'none' with training_data_loader.filter_counts",
        training_data_loader__filter_counts=[count],
        generator={"counts": True},
        compression_input={"use_compression": True, "fit": True, "rescale": "sample"},
    )
    refused(
        r"log_counts: must be false for pictures",
        training_data_loader__log_counts=True,
        generator={"data_type": "image"},
    )
    with pytest.raises(ConfigError, match="filter_counts: must be null when arch is null"):
        SbiConfig.parse(
            vectors(
                tmp_path,
                training_data_loader__filter_inputs=["x_0"],
                training_data_loader__filter_counts=["x_1"],
            )
        )
    with pytest.raises(ConfigError, match="filter_inputs: is required with filter_counts"):
        SbiConfig.parse(vectors(tmp_path, training_data_loader__filter_counts=["x_1"]))
