"""Rows of the contract (learning.md A12) that no single part shows: seen on whole experiments."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlpop.commands.sbi import run_experiment
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.loading import load_dataset
from mlpop.errors import ConfigError, DataError
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.store import load_estimator
from mlpop.networks.rng import generator_from_seed
from mlpop.tracking import connect, find

Values = dict[str, Any]
LABELS = ("theta_1", "theta_2")


@pytest.fixture(scope="module")
def rounds(run: Callable, vectors: Callable[..., Values], tmp_path_factory) -> Any:
    """Two truncated rounds on vectors, tested and plotted."""
    return run(
        vectors(
            tmp_path_factory.mktemp("rounds"),
            name="rounds",
            training_data_loader__num_sim=200,
            test_data_loader__num_sim=6,
            trainer__num_rounds=2,
            trainer__truncated_prior=True,
            trainer__plot_proposal=True,
            trainer__max_num_epochs=6,
            trainer__num_posterior_samples=500,
        )
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def csv_of(done: Any, kind: str, round_: int) -> Path:
    root = done.save_dir / "data" / f"{kind}_dataset" / "generated_dataset"
    return root / f"round_{round_}" / "dataset_full.csv"


def artifact(done: Any, run_id: str, name: str) -> Any:
    uri = done.store.client.get_run(run_id).info.artifact_uri
    return json.loads((Path(str(uri).removeprefix("file://")) / name).read_text())


# --- rounds ---------------------------------------------------------------------------------


def test_a_round_simulates_where_the_posterior_of_the_round_before_is_S02(rounds: Any) -> None:
    """theta ~ proposal, simulate, train, posterior at x_o, new proposal, repeat."""
    first, second = rounds.result.rounds
    node = rounds.tree.children[1]
    proposal = artifact(rounds, node.run_id, "proposal.json")
    theta = load_dataset(csv_of(rounds, "training", 1), filter_labels=LABELS).theta
    conditioned = first.posterior.at(first.observed.x, generator_from_seed(0))
    unit = first.problem.prior.to_unit(theta)
    assert len(theta) == 200
    assert proposal["kind"] == "truncated"
    assert bool((conditioned.log_prob(unit) > proposal["threshold"] - 1e-3).all())
    assert (
        theta.std(0).max()
        < load_dataset(csv_of(rounds, "training", 0), filter_labels=LABELS).theta.std(0).min()
    )
    # the second round has learnt from other simulations than the first
    weights = [done.posterior.members[0].state_dict() for done in (first, second)]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_training_tests_and_plot_share_the_edge_of_one_truncated_prior_S17(rounds: Any) -> None:
    """Tests from inside another edge would not be those that the networks are calibrated for."""
    first = rounds.result.rounds[0]
    threshold = artifact(rounds, rounds.tree.children[1].run_id, "proposal.json")["threshold"]
    conditioned = first.posterior.at(first.observed.x, generator_from_seed(0))
    test = load_dataset(csv_of(rounds, "test", 1), filter_labels=LABELS).theta
    file = torch.load(rounds.models / "round_0" / "samples_prior_1.pt", weights_only=True)
    prior = first.problem.prior
    plot = prior.to_unit(prior.scaling.inverse(file))
    for theta in (prior.to_unit(test), plot):
        assert float(conditioned.log_prob(theta).min()) > threshold - 1e-3
    # the least dense of 5000 draws come as close to the edge as they can
    assert float(conditioned.log_prob(plot).min()) < threshold + 0.1


def test_two_rounds_are_two_trainings_and_one_more_campaign_S07(rounds: Any) -> None:
    for tree in (rounds.logs, rounds.models):
        assert names(tree) >= {"round_0", "round_1"}
        assert "round_2" not in names(tree)
    profile = json.loads((rounds.logs / "profile.json").read_text())
    for part in ("TotalRound", "TrainingRound", "TestingRound"):
        assert [f"[{part}{r}]" in profile for r in range(3)] == [True, True, False]
    assert [node.round for node in rounds.tree.children] == [0, 1]
    assert [len(node.children) for node in rounds.tree.children] == [1, 1]


def test_proposal_of_the_next_round_is_saved_and_plotted_S21(rounds: Any) -> None:
    for r in (0, 1):
        folder = rounds.models / f"round_{r}"
        assert (folder / f"corner_plot_prior_round_{r + 1}.pdf").stat().st_size
        theta = torch.load(folder / f"samples_prior_{r + 1}.pt", weights_only=True)
        posterior = torch.load(folder / "samples_posterior.pt", weights_only=True)
        assert theta.shape == (5000, 2)
        # flat over the support: wider than the posterior, inside the prior
        assert (theta.std(0) > posterior.std(0)).all()
        prior = rounds.result.rounds[r].problem.prior
        # the file is of float32 in units of the labels' spread
        edges = prior.scaling.scale(np.array([prior.low, prior.high]))
        assert (theta.numpy() >= edges[0] - 1e-6).all()
        assert (theta.numpy() <= edges[1] + 1e-6).all()


def test_coverage_after_every_round_on_sets_of_its_own_S17(rounds: Any) -> None:
    truths = []
    for r in (0, 1):
        with np.load(rounds.models / f"round_{r}" / "posterior_samples_test_data.npz") as file:
            truths.append(file["true_values"])
        csv = csv_of(rounds, "test", r)
        theta = load_dataset(csv, filter_labels=LABELS).theta
        scaled = rounds.result.rounds[r].problem.prior.to_files(theta)
        # to float32 in the unit cube and back
        np.testing.assert_allclose(truths[r], scaled, atol=1e-6)
    assert [len(values) for values in truths] == [6, 6]
    assert not np.array_equal(*truths)


def test_testing_needs_a_set_S17(vectors: Callable[..., Values], tmp_path: Path) -> None:
    values = vectors(tmp_path, test_data_loader={"testing": True})
    with pytest.raises(ConfigError, match=r"dataset_path_round_0: is required when testing"):
        SbiConfig.parse(values)


def test_later_rounds_need_the_stellar_database_S19(
    smoke: Callable[..., Values], tmp_path: Path
) -> None:
    observed = {"dataset_path": str(tmp_path)}
    given = {"dataset_path_round_0": str(tmp_path), "filter_inputs": [0, 1, 2, 3, 4, 5]}
    given["standardize"] = False
    values = smoke(tmp_path, observed_sample=observed, training_data_loader=given)
    values |= {"dyn_data_loader": {}, "test_data_loader": {}}
    assert SbiConfig.parse(values).trainer.num_rounds == 1
    values["trainer"] |= {"num_rounds": 2, "truncated_prior": True}
    with pytest.raises(ConfigError, match="dyn_data_loader: must have dataset_path or database"):
        SbiConfig.parse(values)


# --- given data -----------------------------------------------------------------------------


def test_columns_are_looked_up_once_and_mean_the_same_in_later_rounds_S16(
    rounds: Any, run: Callable, vectors: Callable[..., Values], tmp_path: Path
) -> None:
    """C12: positions 3 and 4 of the given header are no label columns of a simulated one."""
    source = csv_of(rounds, "training", 0).parent
    given = tmp_path / "given"
    shutil.copytree(source, given)
    index = DatasetIndex.read(given / "dataset_full.csv")
    header = (*index.header[:2], "mass", *index.header[2:])
    assert header[3:] == LABELS
    rows = [(*row[:2], f"{k % 7}", *row[2:]) for k, row in enumerate(index.rows)]
    text = "\n".join(",".join(row) for row in (header, *rows)) + "\n"
    (given / "dataset_full.csv").write_text(text)
    for name in ("manifest.csv", "campaign.json", "theta.npy"):
        (given / name).unlink(missing_ok=True)
    done = run(
        vectors(
            tmp_path,
            name="given columns",
            training_data_loader={
                "dataset_path_round_0": str(given),
                "statistic_path": str(given / "statistics_full.json"),
                "filter_inputs": [0, 1],
                "filter_labels": [3, 4],
                "num_sim": 40,
            },
            test_data_loader={"testing": False},
            trainer__num_rounds=2,
            trainer__truncated_prior=True,
            trainer__append_simulations=True,
            trainer__max_num_epochs=6,
        )
    )
    later = csv_of(done, "training", 1)
    assert DatasetIndex.read(later).labels == LABELS
    first, second = done.result.rounds
    assert second.problem.prior.labels == LABELS
    assert second.problem.channels == ("x_1", "x_2")
    # the same simulations as of `rounds`, by other means: the same first posterior
    expected = rounds.result.rounds[0].posterior.members[0].state_dict()
    found = first.posterior.members[0].state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_map_files_may_live_elsewhere_S04(
    run: Callable, at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index in round_0, statistics in data, maps in a third folder; a class of one's own."""
    values = given_maps(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = run(values)
    (estimator,) = done.models.glob("round_0/member_00/estimator.json")
    assert json.loads(estimator.read_text())["spec"]["embedding"] is not None
    elsewhere = [path for path in tmp_path.glob("data/**/*") if path.suffix == ".npy"]
    assert [path for path in elsewhere if "generated_dataset" in path.parts] == []


def test_architecture_of_ones_own_S26(
    run: Callable, at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_nets.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    values = given_maps(tmp_path)
    values["arch"] = {"type": "own_nets:Sums", "args": {"input_shape": [1, 8, 8], "width": 3}}
    done = run(values)
    estimator, spec = load_estimator(done.models / "round_0" / "member_00")
    assert spec.embedding is not None
    assert spec.embedding.type == "own_nets:Sums"
    # a class of one's own gets the arguments that are given, and no others
    assert spec.embedding.args == {"input_shape": [1, 8, 8], "width": 3}
    assert "Sums" in {type(module).__name__ for module in estimator.modules()}


OWN = """
import torch
from torch import nn


class Sums(nn.Module):
    def __init__(self, input_shape, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x.flatten(1).mean(1, keepdim=True) * self.scale
"""


def given_maps(tmp_path: Path) -> Values:
    """Write a small set of maps, an observed sample and statistics where users may have them."""
    rng = np.random.default_rng(1)
    maps, data = tmp_path / "elsewhere", tmp_path / "data"
    folder = data / "training_dataset/generated_dataset/round_0"
    observed = tmp_path / "observed"
    for path in (maps, folder, observed):
        path.mkdir(parents=True)
    lines = ["input:m,a,b"]
    labels = rng.random((12, 2))
    for k, (a, b) in enumerate(labels):
        np.save(maps / f"{k}.npy", rng.random((8, 8)) + a)
        lines.append(f"{maps / f'{k}.npy'},{a},{b}")
    (folder / "dataset_full.csv").write_text("\n".join(lines) + "\n")
    (observed / "dataset_atnf.csv").write_text(f"input:m\n{maps / '3.npy'}\n")
    statistics = {
        name: {"mean": v.mean(), "std": v.std(), "min": v.min(), "max": v.max()}
        for name, v in zip("ab", labels.T, strict=True)
    }
    (data / "statistics_train.json").write_text(json.dumps(statistics))
    return {
        "name": f"maps {tmp_path.name}",
        "n_gpu": 0,
        "n_processes": 1,
        "set_manual_seed": True,
        "show_profiling": False,
        "arch": {"args": {"input_shape": [1, 8, 8], "len_output_layer": 4}},
        "density_estimator": {"args": {"hidden_features": 4, "num_components": 1}},
        "prior_ranges": {"labels": ["a", "b"], "low": [0, 0], "high": [1, 1]},
        "training_data_loader": {
            "dataset_path_round_0": str(folder),
            "statistic_path": str(data / "statistics_train.json"),
            "filter_inputs": ["m"],
        },
        "observed_sample": {"dataset_path": str(observed)},
        "trainer": {
            "save_dir": str(tmp_path / "output"),
            "max_num_epochs": 2,
            "num_posterior_samples": 50,
        },
    }


def test_observed_maps_are_those_of_the_training_by_name_S18(
    at_work: Path, tmp_path: Path
) -> None:
    """Their header may have other positions, but not other maps."""
    values = given_maps(tmp_path)
    index = tmp_path / "observed" / "dataset_atnf.csv"
    path = index.read_text().splitlines()[1]
    index.write_text(f"input:other,input:m\n,{path}\n")
    values["training_data_loader"]["filter_inputs"] = [0]
    values["training_data_loader"]["filter_labels"] = [1, 2]
    assert run_experiment(SbiConfig.parse(values)).rounds[0].problem.channels == ("m",)
    index.write_text(f"input:other\n{path}\n")
    with pytest.raises(DataError, match=r"dataset_atnf\.csv: filter_inputs: no column 'm'"):
        run_experiment(SbiConfig.parse(values))
    values["observed_sample"]["filter_inputs"] = [0]
    with pytest.raises(DataError, match=r"selects other, the training set has m"):
        run_experiment(SbiConfig.parse(values))


def test_a_file_shaped_like_the_references_runs(at_work: Path, tmp_path: Path) -> None:
    """With the fields that say nothing of their own, and old names; S16 S17 S18."""
    values = given_maps(tmp_path)
    training = values["training_data_loader"]
    folder = training.pop("dataset_path_round_0")
    training |= {"dataset_path_first_round": folder, "filter_inputs": [0]}
    training |= {"filter_labels": [1, 2], "normalize": False, "standardize": True}
    same = ("statistic_path", "filter_inputs", "filter_labels", "normalize", "standardize")
    values["test_data_loader"] = {
        "testing": False,
        "dataset_path_first_round": folder,
        **{name: training[name] for name in same},
    }
    values["observed_sample"] |= {"filter_inputs": [0], "filter_labels": [1, 2]}
    values["trainer"]["mcmc_sampler"] = {"type": "nuts", "num_chains": 20, "thin": 25}
    result = run_experiment(SbiConfig.parse(values))
    assert result.rounds[0].problem.prior.labels == ("a", "b")
    changed_scaling = {**values["test_data_loader"], "standardize": False}
    with pytest.raises(
        ConfigError, match=r"test_data_loader\.standardize: must be as in training"
    ):
        SbiConfig.parse(values | {"test_data_loader": changed_scaling})


# --- training -------------------------------------------------------------------------------


def test_train_entry_S05(
    mlpop: Callable[..., Any], vectors: Callable[..., Values], at_work: Path, tmp_path: Path
) -> None:
    values = vectors(
        tmp_path / "output",
        name="entry",
        training_data_loader__num_sim=40,
        test_data_loader__testing=False,
        trainer__max_num_epochs=1,
    )
    file = tmp_path / "sbi.json"
    file.write_text(json.dumps(values))
    ended = mlpop("sbi", "--configuration", file)
    assert ended.code == 0, ended.err
    (run,) = find(connect(), {"mlpop.kind": "experiment", "mlpop.name": "entry"})
    assert run.info.status == "FINISHED"
    assert run.info.run_id in ended.err


def test_root_seed_is_drawn_logged_and_used_S06(
    run: Callable, vectors: Callable[..., Values], tmp_path: Path
) -> None:
    def launch(name: str, **changes: Any) -> Any:
        return run(
            vectors(
                tmp_path / name,
                name=name,
                training_data_loader__num_sim=40,
                test_data_loader__testing=False,
                trainer__max_num_epochs=1,
                profile_log="times.log",
                profile_json="times.json",
                **changes,
            )
        )

    drawn = launch("drawn", set_manual_seed=False)
    tags = drawn.store.client.get_run(drawn.result.run_id).data.tags
    seed = int(tags["mlpop.root_seed"])
    assert seed != 7
    assert f"root seed {seed}" in (drawn.logs / "log.txt").read_text()
    assert names(drawn.logs) >= {"times.log", "times.json"}
    again = launch("again", manual_seed=seed)
    other = launch("other", manual_seed=8)
    samples = [
        torch.load(done.models / "round_0" / "samples_posterior.pt", weights_only=True)
        for done in (drawn, again, other)
    ]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])


def test_validation_fraction_is_between_0_and_1_S08(vectors: Callable[..., Values]) -> None:
    values = vectors(Path("out"))
    for fraction in (0.0, 1.0):
        with pytest.raises(ConfigError, match=r"validation_fraction: must be"):
            SbiConfig.parse(values | {"trainer": {"validation_fraction": fraction}})


def test_validation_rows_are_a_fraction_of_the_training_set_S20(
    gaussian: Any, monkeypatch: pytest.MonkeyPatch, run: Callable, vectors: Callable, tmp_path
) -> None:
    """The same rows for all members, of the configured fraction, and never trained on."""
    seen: list[Sequence[int]] = []
    from mlpop.training import member_task as ensemble

    train = ensemble.train_member

    def spy(task: Any, *rest: Any) -> Any:
        seen.append(list(task.validation))
        return train(task, *rest)

    monkeypatch.setattr("mlpop.experiment.rounds.ensemble.train_member", spy)
    run(
        vectors(
            tmp_path,
            name="fraction",
            training_data_loader__num_sim=60,
            test_data_loader__testing=False,
            trainer__validation_fraction=0.25,
            trainer__max_num_epochs=1,
            trainer__ensemble=True,
            trainer__size_ensemble=2,
        )
    )
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 15
    assert set(seen[0]) <= set(range(60))


def test_embedding_is_the_configured_one_and_is_trained_jointly_S12(pulsars: Any) -> None:
    config = pulsars.config
    for member in ("member_00", "member_01"):
        estimator, spec = load_estimator(pulsars.models / "round_0" / member)
        assert spec.embedding is not None
        assert spec.embedding.type == "ModelConvSBI"
        assert spec.embedding.args["input_shape"] == list(config.arch.args.input_shape)
        assert spec.embedding.args["len_output_layer"] == 8
        x = torch.rand(3, *spec.x_shape)
        assert estimator.embed(x).shape == (3, 8)
        fresh = first_weights(spec)
        trained = estimator.state_dict()
        changed = [key for key in fresh if not torch.equal(fresh[key], trained[key])]
        assert any("conv" in key or "embedding" in key for key in changed), changed


def first_weights(spec: Any) -> dict[str, Tensor]:
    theta = torch.rand(8, spec.dimension)
    x = torch.rand(8, *spec.x_shape)
    return build_estimator(spec, theta, x, generator_from_seed(0)).state_dict()


@pytest.mark.parametrize(
    ("initializer", "bias"), [("InitializerKaiming", 0.01), ("InitializerNormal", 0.0)]
)
def test_initializer_acts_on_the_embedding_alone_S13(
    pulsars: Any, initializer: str, bias: float
) -> None:
    _, spec = load_estimator(pulsars.models / "round_0" / "member_00")
    assert spec.embedding is not None
    assert spec.embedding.initializer == "InitializerKaiming"
    embedding = spec.embedding.model_copy(update={"initializer": initializer})
    spec = spec.model_copy(update={"embedding": embedding})
    theta, x = torch.rand(8, spec.dimension), torch.rand(8, *spec.x_shape)
    estimator = build_estimator(spec, theta, x, generator_from_seed(0))
    linear = {
        name: module for name, module in estimator.named_modules() if isinstance(module, nn.Linear)
    }
    inside = {name: m for name, m in linear.items() if m.out_features == 8 and "embed" in name}
    assert inside, sorted(linear)
    for module in inside.values():
        assert torch.allclose(module.bias, torch.full_like(module.bias, bias))
    biases = {name: value for name, value in estimator.net.named_parameters() if "bias" in name}
    # the density initializes its own networks: no bias there is the constant of an initializer
    assert biases
    same = [n for n, b in biases.items() if torch.allclose(b, torch.full_like(b, 0.01))]
    assert same == []
