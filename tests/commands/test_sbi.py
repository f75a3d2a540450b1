"""The main job from its configuration to its posterior: files, run tree, numbers, repetition."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlpop.commands.sbi import run_experiment
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.dataset import dataset_digest
from mlpop.datasets.scaling import LabelScaling
from mlpop.errors import DataError
from mlpop.experiment.parameters import experiment_parameters, round_parameters
from mlpop.simulators.gaussian_linear import GaussianLinear
from mlpop.tracking import connect, find, verify
from mlpop.tracking.params import logged_value

Values = dict[str, Any]
LOGS = {"log.txt", "profile.json", "profile.log"}
POSTERIOR = {"corner_plot_observed_sample.pdf", "samples_posterior.pt"}
TESTING = {"coverage_plot.pdf", "coverage_probability.npy", "posterior_samples_test_data.npz"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def samples_of(done) -> np.ndarray:
    path = done.models / "round_0" / "samples_posterior.pt"
    return torch.load(path, weights_only=True).numpy()


def test_documented_files_of_an_ensemble_S27_S28(pulsars) -> None:
    assert pulsars.logs.name == pulsars.models.name
    assert names(pulsars.logs) >= LOGS | {"round_0"}
    assert names(pulsars.logs / "round_0") >= {
        "training_statistics_0.json",
        "training_statistics_1.json",
        "training_stats_0.pdf",
        "training_stats_1.pdf",
    }
    assert names(pulsars.models) == {".mlpop-run", "config_sbi.json", "report.html", "round_0"}
    of_round = names(pulsars.models / "round_0")
    assert of_round >= POSTERIOR | TESTING
    assert {name for name in of_round if name.endswith(".pickle")} == {
        "inference_ensemble_0.pickle",
        "inference_ensemble_1.pickle",
        "trained_model_ensemble_0.pickle",
        "trained_model_ensemble_1.pickle",
    }
    assert "training_arrays" not in of_round
    assert all(path.stat().st_size for path in pulsars.models.rglob("*") if path.is_file())


def test_documented_files_of_a_single_network_S27_S28(gaussian) -> None:
    assert names(gaussian.logs / "round_0") >= {"training_statistics.json", "training_stats.pdf"}
    of_round = names(gaussian.models / "round_0")
    assert of_round >= POSTERIOR | TESTING | {"inference.pickle", "trained_model.pickle"}
    assert not [name for name in of_round if "ensemble" in name]


def test_written_configuration_starts_the_same_experiment(pulsars) -> None:
    values = json.loads((pulsars.models / "config_sbi.json").read_text())
    assert SbiConfig.parse(values).resolved() == pulsars.config.resolved()


def test_pickles_work_in_a_notebook(gaussian) -> None:
    folder = gaussian.models / "round_0"
    inference = pickle.loads((folder / "inference.pickle").read_bytes())
    estimator = pickle.loads((folder / "trained_model.pickle").read_bytes())
    x = torch.tensor(gaussian.result.rounds[0].observed.x)
    posterior = inference.build_posterior(estimator)
    torch.manual_seed(0)
    draws = posterior.sample((2000,), x=x, show_progress_bars=False).numpy()
    # sbi's posterior is over the unit cube
    theta = inference.prior.to_files(inference.prior.to_physical(torch.from_numpy(draws)))
    np.testing.assert_allclose(theta.mean(0), samples_of(gaussian).mean(0), atol=0.05)


def test_profile_has_the_documented_names_B13(pulsars) -> None:
    profile = json.loads((pulsars.logs / "profile.json").read_text())
    assert set(profile) >= {
        "[TotalTraining]",
        "[Initialization]",
        "[TotalRound0]",
        "[TrainingRound0]",
        "[TrainingRound0Ensemble0]",
        "[TrainingRound0Ensemble1]",
        "[TestingRound0]",
    }
    assert all(entry["time"] >= 0 and entry["count"] == 1 for entry in profile.values())
    assert profile["[TotalTraining]"]["time"] >= profile["[TotalRound0]"]["time"]


def test_log_has_the_whole_story(pulsars) -> None:
    text = (pulsars.logs / "log.txt").read_text()
    for part in ("root seed 42", "training simulations", "member_01: best", pulsars.result.run_id):
        assert part in text


def test_run_tree_B15(pulsars) -> None:
    top = pulsars.tree
    found = [(depth, node.kind, node.name) for depth, node in top.walk()]
    assert found == [
        (0, "experiment", "smoke"),
        (1, "round", "round_00"),
        (2, "member", "member_00"),
        (2, "member", "member_01"),
    ]
    for _, node in top.walk():
        assert (node.status, node.state, node.error) == ("FINISHED", "complete", "")
    (first,) = top.children
    assert first.round == 0
    assert [member.member for member in first.children] == [0, 1]


def test_every_run_is_complete_and_whole(pulsars) -> None:
    for _, node in pulsars.tree.walk():
        assert verify(pulsars.store.client, node.run_id) == [], node.name


def test_runs_hold_the_files(pulsars) -> None:
    client = pulsars.store.client
    top = pulsars.tree
    (first,) = top.children

    def artifacts(run_id: str, folder: str | None = None) -> set[str]:
        return {item.path for item in client.list_artifacts(run_id, folder)}

    assert artifacts(top.run_id) >= LOGS | {"config_sbi.json", "report.html", "COMPLETE.json"}
    of_round = artifacts(first.run_id)
    assert of_round >= POSTERIOR | TESTING | {"summary.json", "calibration.json"}
    assert of_round >= {"corner_plot_observed_sample.png", "observed_sample.png"}
    for kind in ("training", "test"):
        assert artifacts(first.run_id, kind) >= {
            f"{kind}/{name}" for name in ("theta.npy", "dataset_full.csv", "manifest.csv")
        }
    for member in first.children:
        assert artifacts(member.run_id) >= {
            "estimator.safetensors",
            "estimator.json",
            "trained_model.pickle",
            "inference.pickle",
            "training_statistics.json",
            "training_stats.pdf",
        }


def test_curves_have_one_point_an_epoch(pulsars) -> None:
    client = pulsars.store.client
    (first,) = pulsars.tree.children
    for member in first.children:
        for key in ("train/loss", "val/loss", "train/epoch_seconds"):
            history = client.get_metric_history(member.run_id, key)
            assert [point.step for point in history] == [1, 2, 3], (member.name, key)
        file = pulsars.logs / "round_0" / f"training_statistics_{member.member}.json"
        written = json.loads(file.read_text())["validation_loss"]["value"]
        curve = [point.value for point in client.get_metric_history(member.run_id, "val/loss")]
        assert curve == pytest.approx(written, rel=1e-12)
        best = client.get_run(member.run_id).data.metrics["best_val_loss"]
        assert best == pytest.approx(min(written), rel=1e-5)


def as_logged(params: dict[str, Any]) -> dict[str, str]:
    return {f"cfg.{key}": logged_value(value) for key, value in params.items()}


def test_round_and_members_have_the_settings_that_act_in_them(pulsars) -> None:
    client = pulsars.store.client
    (first,) = pulsars.tree.children
    params = client.get_run(first.run_id).data.params
    assert params.items() >= as_logged(round_parameters(pulsars.config, 0, 42)).items()
    assert (params["cfg.proposal"], params["cfg.simulations"]) == ("prior", "8")
    assert params["cfg.trained_on"] == "8"
    members = [client.get_run(node.run_id).data.params for node in first.children]
    for node, found in zip(first.children, members, strict=True):
        assert found["cfg.trainer.lr"] == logged_value(pulsars.config.trainer.lr)
        assert found["cfg.arch.args.len_output_layer"] == "8"
        with (pulsars.models / "round_0" / f"trained_model_ensemble_{node.member}.pickle").open(
            "rb"
        ) as file:
            network = pickle.load(file)
        assert int(found["cfg.parameters"]) == sum(p.numel() for p in network.parameters())
    different = {key for key in members[0] if members[0][key] != members[1][key]}
    assert different == {"cfg.member", "cfg.seeds"}


def test_round_shows_mean_and_spread_of_its_networks(pulsars) -> None:
    client = pulsars.store.client
    (first,) = pulsars.tree.children

    def curve(run_id: str, key: str) -> dict[int, float]:
        return {point.step: point.value for point in client.get_metric_history(run_id, key)}

    for part in ("train", "val"):
        members = [curve(node.run_id, f"{part}/loss") for node in first.children]
        losses = {epoch: [member[epoch] for member in members] for epoch in (1, 2, 3)}
        assert curve(first.run_id, f"{part}/loss_mean") == pytest.approx(
            {epoch: np.mean(both) for epoch, both in losses.items()}
        )
        assert curve(first.run_id, f"{part}/loss_spread") == pytest.approx(
            {epoch: np.std(both, ddof=1) for epoch, both in losses.items()}
        )


def test_round_shows_how_fast_its_simulations_came(pulsars) -> None:
    client = pulsars.store.client
    (first,) = pulsars.tree.children
    for use in ("training", "test"):
        done = client.get_metric_history(first.run_id, f"sim/{use}_done")
        rate = client.get_metric_history(first.run_id, f"sim/{use}_rate")
        assert len(done) == len(rate) > 0
        assert all(point.value > 0 for point in rate)


def test_root_run_can_be_compared(pulsars) -> None:
    run = pulsars.store.client.get_run(pulsars.result.run_id)
    assert run.data.params == as_logged(experiment_parameters(pulsars.config) | {"root_seed": 42})
    metrics = run.data.metrics
    assert len(metrics) <= 15
    assert metrics["sim/failed_fraction"] == 0
    assert np.isfinite([metrics["val/best_loss"], metrics["coverage/ece"]]).all()
    for label, values in pulsars.summary()["posterior"].items():
        logged = metrics[f"posterior/{label}/median"]
        assert logged == pytest.approx(values["median"], rel=1e-5)
    tags = run.data.tags
    assert tags["mlpop.calibration"] == "too few tests"
    assert tags["mlpop.save_dir"] == str(pulsars.models)
    assert tags["mlpop.log_dir"] == str(pulsars.logs)


def test_round_has_all_numbers(pulsars) -> None:
    (first,) = pulsars.tree.children
    metrics = pulsars.store.client.get_run(first.run_id).data.metrics
    assert metrics["sim/count"] == 8
    assert metrics["coverage/tests"] == 4
    for label, values in pulsars.summary()["posterior"].items():
        for statistic in ("median", "low_95", "high_95"):
            logged = metrics[f"posterior/{label}/{statistic}"]
            assert logged == pytest.approx(values[statistic], rel=1e-5)


def test_descriptions_tell_the_result(pulsars) -> None:
    client = pulsars.store.client
    (first,) = pulsars.tree.children
    notes = {
        node.name: client.get_run(node.run_id).data.tags["mlflow.note.content"]
        for _, node in pulsars.tree.walk()
    }
    for name in ("smoke", "round_00"):
        for label in pulsars.config.prior_ranges.labels:
            assert label in notes[name]
    assert first.run_id in notes["smoke"]
    assert "Stopped by" in notes["member_00"]


def test_datasets_are_inputs_of_round_and_experiment(pulsars) -> None:
    (first,) = pulsars.tree.children
    with_stars = pulsars.config.dyn_data_loader.database
    for run_id in (first.run_id, pulsars.result.run_id):
        found, rows = {}, {}
        for item in pulsars.store.client.get_run(run_id).inputs.dataset_inputs:
            (context,) = (tag.value for tag in item.tags if tag.key == "mlflow.data.context")
            found[context] = json.loads(item.dataset.source)["digest"]
            rows[context] = json.loads(item.dataset.profile or "{}").get("num_rows")
            assert found[context].startswith(item.dataset.digest)
        stars = found.pop("stellar database")
        assert len(stars) == 64
        assert found == {
            "training": dataset_digest(pulsars.dataset("training")),
            "testing": dataset_digest(pulsars.dataset("test")),
            "observed": pulsars.result.rounds[0].observed.digest,
        }
        assert (rows["training"], rows["testing"]) == (8, 4)
        assert rows["stellar database"] == with_stars.NS_number


def test_posterior_table_compares_experiments(pulsars) -> None:
    client = pulsars.store.client
    artifacts = client.get_run(pulsars.result.run_id).info.artifact_uri
    table = json.loads((Path(artifacts) / "posterior_summary.json").read_text())
    assert table["columns"] == ["parameter", "median", "low_95", "high_95", "truth"]
    summary = pulsars.summary()["posterior"]
    assert table["data"] == [[label, *values.values()] for label, values in summary.items()]


@pytest.mark.parametrize("name", ["pulsars", "gaussian"])
def test_samples_are_scaled_and_agree_with_the_summary(
    name: str, request: pytest.FixtureRequest
) -> None:
    done = request.getfixturevalue(name)
    ranges, summary = done.config.prior_ranges, done.summary()
    scaled = samples_of(done)
    assert scaled.shape == (done.config.trainer.num_posterior_samples, len(ranges.labels))
    assert scaled.dtype == np.float32
    physical = LabelScaling.from_dict(summary["scaling"]).inverse(scaled)
    width = np.array(ranges.high) - np.array(ranges.low)
    assert (physical >= np.array(ranges.low) - 1e-6 * width).all()
    assert (physical <= np.array(ranges.high) + 1e-6 * width).all()
    assert abs(scaled.mean(0)).max() < 1.5
    assert list(summary["posterior"]) == list(ranges.labels)
    quantiles = np.quantile(physical, [0.025, 0.5, 0.975], axis=0)
    truth = done.config.observed_sample.synthetic.theta
    for k, (label, values) in enumerate(summary["posterior"].items()):
        expected = [values["low_95"], values["median"], values["high_95"]]
        np.testing.assert_allclose(quantiles[:, k], expected, atol=1e-5 * width[k])
        assert values["truth"] == truth[label]


def test_posterior_of_vectors_is_the_exact_one(gaussian) -> None:
    ranges = gaussian.config.prior_ranges
    simulator = GaussianLinear(**gaussian.config.simulator.args)
    x = gaussian.result.rounds[0].observed.x
    exact = simulator.posterior(x, ranges.low, ranges.high)
    mean, std = exact.mean(), exact.std()
    draws = LabelScaling.from_dict(gaussian.summary()["scaling"]).inverse(samples_of(gaussian))
    assert abs(draws.mean(0) - mean).max() < 0.4 * std.min()
    np.testing.assert_allclose(draws.std(0), std, rtol=0.35)


@pytest.fixture(scope="module")
def again(
    gaussian, run: Callable, vectors: Callable[..., Values], tmp_path_factory
) -> tuple[Any, Any]:
    """The same experiment elsewhere, and with another seed."""
    same = run(vectors(tmp_path_factory.mktemp("same")))
    other = run(vectors(tmp_path_factory.mktemp("other"), manual_seed=8))
    return same, other


def test_same_seed_gives_the_same_bits_and_another_seed_others(gaussian, again) -> None:
    same, other = again
    for kind in ("training", "test"):
        digest = dataset_digest(gaussian.dataset(kind))
        assert dataset_digest(same.dataset(kind)) == digest
        assert dataset_digest(other.dataset(kind)) != digest
    np.testing.assert_array_equal(samples_of(same), samples_of(gaussian))
    assert not np.array_equal(samples_of(other), samples_of(gaussian))
    assert same.result.rounds[0].observed.digest == gaussian.result.rounds[0].observed.digest
    assert other.result.rounds[0].observed.digest != gaussian.result.rounds[0].observed.digest


def test_second_launch_uses_the_simulations_of_the_first(
    pulsars, run: Callable, smoke: Callable[..., Values], tmp_path: Path
) -> None:
    def written(kind: str) -> dict[Path, int]:
        shards = sorted((pulsars.dataset(kind) / "shards").rglob("*.npy"))
        return {path: path.stat().st_mtime_ns for path in shards}

    before = written("training"), written("test")
    assert before[0]
    assert before[1]
    values = smoke(
        pulsars.save_dir,
        name="second",
        trainer__ensemble=False,
        trainer__max_num_epochs=1,
        test_data_loader__num_sim=4,
    )
    second = run(values)
    assert (written("training"), written("test")) == before
    profile = json.loads((second.logs / "profile.json").read_text())
    assert "[SimulatingRound0Training]" in profile
    assert second.result.rounds[0].numbers["sim/count"] == 8


def test_given_data_give_the_bits_of_simulated_data(
    gaussian, run: Callable, vectors: Callable[..., Values], tmp_path: Path
) -> None:
    observed = tmp_path / "x.npy"
    np.save(observed, gaussian.result.rounds[0].observed.x)
    values = vectors(
        tmp_path,
        training_data_loader={
            "dataset_path_round_0": str(gaussian.dataset("training")),
            "statistic_path": str(gaussian.dataset("training") / "statistics_full.json"),
        },
        test_data_loader={
            "testing": True,
            "dataset_path_round_0": str(gaussian.dataset("test")),
        },
        observed_sample={"path": str(observed)},
    )
    given = run(values)
    np.testing.assert_array_equal(samples_of(given), samples_of(gaussian))
    assert given.summary()["posterior"]["theta_1"]["truth"] is None
    assert not (tmp_path / "data").exists()


def test_unscaled_data_need_no_statistics(
    gaussian, run: Callable, vectors: Callable[..., Values], tmp_path: Path
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    source = gaussian.dataset("training")
    (folder / "shards").symlink_to(source / "shards")
    (folder / "dataset_full.csv").write_bytes((source / "dataset_full.csv").read_bytes())
    values = vectors(
        tmp_path,
        training_data_loader={"dataset_path_round_0": str(folder), "standardize": False},
        test_data_loader={"testing": False},
        trainer__max_num_epochs=1,
    )
    done = run(values)
    low, high = samples_of(done).min(0), samples_of(done).max(0)
    assert (low >= -1).all()
    assert (high <= 1).all()
    assert not names(done.models / "round_0") & TESTING
    assert done.result.rounds[0].verdict.name == ""


def test_broken_data_end_the_run_failed_with_the_reason(
    gaussian, vectors: Callable[..., Values], at_work: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "given"
    shard = folder / "shards" / "shard-00000"
    shard.mkdir(parents=True)
    source = gaussian.dataset("training")
    (folder / "shards" / "shard-00001").symlink_to(source / "shards" / "shard-00001")
    lines = (source / "dataset_full.csv").read_text().splitlines()
    (folder / "dataset_full.csv").write_text("\n".join(lines[:151]) + "\n")
    for path in (source / "shards" / "shard-00000").iterdir():
        (shard / path.name).write_bytes(path.read_bytes())
    x = np.load(shard / "x_2.npy")
    x[5] += 1
    np.save(shard / "x_2.npy", x)
    values = vectors(
        tmp_path,
        name="broken",
        training_data_loader={
            "dataset_path_round_0": str(folder),
            "statistic_path": str(source / "statistics_full.json"),
        },
    )
    with pytest.raises(DataError, match=r"x_2\.npy: content differs from the SHA-256"):
        run_experiment(SbiConfig.parse(values))
    runs = find(connect(), {"mlpop.name": "broken", "mlpop.kind": "experiment"})
    assert [run.info.status for run in runs] == ["FAILED"]
    tags = runs[0].data.tags
    assert "x_2.npy: content differs" in tags["mlpop.error"]
    assert tags["mlpop.state"] == "stopped"
    inner = find(connect(), {"mlpop.root": runs[0].info.run_id, "mlpop.kind": "round"})
    assert [run.info.status for run in inner] == ["FAILED"]
