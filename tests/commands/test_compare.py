"""`mlpop compare`: a sky beside a posterior's predictions, or those of one theta."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpop
from mlpop.commands.compare import CompareResult, compare
from mlpop.config.files.compare import CompareConfig
from mlpop.datasets.shards import finished_shards
from mlpop.errors import ConfigError, DataError, TrackingError
from mlpop.inference.diagnostics.skies import QUANTITIES
from mlpop.tracking import connect, verify

THETA = {"B_initial_log10_mean": 13.1, "P_initial_log10_mean": -0.7}
FIGURES = {
    f"compare_{name}.{kind}" for name in ("maps", "pulsars", "counts") for kind in ("pdf", "png")
}
NUMBER = 6
Values = dict[str, Any]


def config_of(**fields: Any) -> CompareConfig:
    values = {"num_predictive": NUMBER, "seed": 3, "compute": {"n_processes": 1}} | fields
    return CompareConfig.parse(json.loads(json.dumps(values, default=str)))


def simulated(result: CompareResult, save_dir: Path) -> tuple[np.ndarray, list[dict[str, int]]]:
    """Return theta and the detections of every simulation of a comparison, from its files."""
    (folder,) = (save_dir / "data/compare_dataset/generated_dataset").iterdir()
    rows = [row for record in finished_shards(folder).values() for row in record.rows]
    return np.load(folder / "theta.npy"), [dict(row.info["n_detected"]) for row in rows]


@pytest.fixture(scope="module")
def sky(workplace: Callable[..., Any], stars: Any, tmp_path_factory: Any) -> Path:
    """The folder of `mlpop observe`, of a simulated catalogue."""
    folder = tmp_path_factory.mktemp("sky")
    with workplace():
        made = mlpop.simulate_population(
            THETA, population={"birth_rate_max": 0.02}, stars=stars, seed=8
        )
        source = str(made.write_csv(folder / "catalogue.csv"))
        mlpop.observe({"source": source, "save_dir": str(folder), "fluxes": "S1400"})
    return folder


@pytest.fixture(scope="module")
def of_posterior(pulsars: Any, workplace: Callable[..., Any]) -> tuple[CompareResult, Path]:
    """The smoke experiment's synthetic sky beside its own posterior."""
    save_dir = pulsars.save_dir / "compared"
    with workplace():
        return compare(config_of(load_dir=pulsars.models, save_dir=save_dir)), save_dir


def test_theta_are_draws_of_the_posterior(of_posterior: Any, pulsars: Any) -> None:
    result, save_dir = of_posterior
    theta, _ = simulated(result, save_dir)
    assert theta.shape == (NUMBER, 4)
    assert len(np.unique(theta, axis=0)) == NUMBER
    prior = pulsars.result.rounds[0].posterior.prior
    low, high = np.array(prior.ranges).T
    assert ((theta >= low) & (theta <= high)).all()


def test_files_numbers_and_run(of_posterior: Any, pulsars: Any, at_work: Path) -> None:
    result, _ = of_posterior
    names = {path.name for path in result.folder.iterdir()}
    assert names >= FIGURES | {"compare.json", "config_compare.json", "log.txt"}
    found = json.loads((result.folder / "compare.json").read_text())
    assert (found["num_simulations"], found["num_predicted"]) == (NUMBER, NUMBER)
    assert found["smallest_p"] == pytest.approx(1 / (NUMBER + 1))
    assert list(found["surveys"]) == ["PMPS", "SMPS", "HTRU"]
    for survey, rows in found["surveys"].items():
        assert {"count", *QUANTITIES} == set(rows)
        for name, row in rows.items():
            assert row["p_value"] * (NUMBER + 1) == pytest.approx(
                round(row["p_value"] * (NUMBER + 1))
            )
            assert row["low"] <= row["median"] <= row["high"]
            (typed,) = (
                r for r in result.comparison.rows if (r.survey, r.quantity) == (survey, name)
            )
            assert row["observed"] == typed.observed
    # the sky is the truth's population: its table says how many pulsars were seen
    table = np.load(pulsars.models / "round_0" / "x_o_pulsars_PMPS.npy")
    there = table[:, 0] > 0
    assert found["surveys"]["PMPS"]["count"]["observed"] == there.sum()
    period = found["surveys"]["PMPS"]["P"]
    assert period["observed"] == pytest.approx(np.median(table[there, 0].astype(float)))
    store = connect()
    run = store.client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlpop.kind"] == "compare"
    assert run.data.tags["mlpop.trained_run"] == pulsars.result.run_id
    assert run.data.metrics["compare/p"] == pytest.approx(found["p_value"], rel=1e-5)
    assert run.data.metrics["compare/p/PMPS/DM"] == pytest.approx(
        found["surveys"]["PMPS"]["DM"]["p_value"], rel=1e-5
    )
    note = run.data.tags["mlflow.note.content"]
    log = (result.folder / "log.txt").read_text()
    assert note.startswith("all of these together: p = ")
    assert "| survey | quantity | pulsars |" in note
    assert "```" not in note  # a block that cannot wrap pushes the rest of the page away
    assert "abs_b [deg]" in log
    verify(store.client, result.run_id)
    artifacts = {item.path for item in store.client.list_artifacts(result.run_id)}
    assert artifacts >= FIGURES | {"compare.json", "theta.npy"}


def test_one_theta_beside_an_observed_catalogue(
    sky: Path, smoke: Callable[..., Values], at_work: Path, tmp_path: Path
) -> None:
    """Counts are those of observed.json, and of simulations before pulsars are thinned out."""
    numbers = json.loads((sky / "observed.json").read_text())
    thin = {name: 5 for name in numbers["thin_to"]}
    values = smoke(tmp_path, simulator__args__population__thin_to=thin)
    base = tmp_path / "base.json"
    base.write_text(json.dumps(values))
    asked = {"base": base, "theta": THETA, "observed": sky, "save_dir": tmp_path}
    result = mlpop.compare(
        {"seed": 3, **{k: str(v) for k, v in asked.items() if k != "theta"}, "theta": THETA},
        {"num_predictive": NUMBER, "compute.n_processes": 1},
    )
    theta, detected = simulated(result, tmp_path)
    np.testing.assert_array_equal(theta, [list(THETA.values())] * NUMBER)
    found = json.loads((result.folder / "compare.json").read_text())
    assert found["theta"] == THETA
    assert found["maps_and_pulsars"]["p_value"] > 0
    for survey, catalogue in (("PMPS", "PMPS"), ("HTRU", "HTRU_low_mid")):
        assert found["surveys"][survey]["count"]["observed"] == numbers["detected_real"][survey]
        counts = [row[catalogue] for row in detected]
        assert found["detected_95"][survey] == np.quantile(counts, [0.025, 0.5, 0.975]).tolist()
        assert max(counts) > 5
    again = compare(config_of(**asked))
    assert again.comparison == result.comparison


def test_another_sky_is_told_from_the_predictions(
    sky: Path, pulsars: Any, at_work: Path, tmp_path: Path
) -> None:
    """The same pulsars, but all periods a hundred times longer."""
    odd = tmp_path / "odd"
    shutil.copytree(sky, odd)
    for path in (odd / "details").glob("*.npy"):
        table = np.load(path)
        table[:, 0] *= 100
        np.save(path, table)
    result = compare(
        config_of(load_dir=f"runs:/{pulsars.result.run_id}", observed=odd, save_dir=tmp_path)
    )
    p_values = {(row.survey, row.quantity): row.p_value for row in result.comparison.rows}
    assert p_values["PMPS", "P"] == p_values["HTRU", "P"] == pytest.approx(1 / (NUMBER + 1))
    assert result.comparison.p_value == pytest.approx(1 / (NUMBER + 1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "load_dir: give one of load_dir and base, found none"),
        ({"load_dir": "a", "base": "b"}, "load_dir: give one of load_dir and base, found both"),
        ({"base": "b"}, "theta: must be given with base"),
        ({"load_dir": "a", "num_predictive": 1}, "num_predictive: must be at least 2"),
        ({"load_dir": "a", "theta": {}}, "theta: must have at least 1"),
    ],
)
def test_contradictions_are_refused(fields: Values, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(**fields)


def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    pulsars: Any,
    gaussian: Any,
    sky: Path,
    smoke: Callable[..., Values],
    at_work: Path,
    tmp_path: Path,
) -> None:
    base = tmp_path / "base.json"
    base.write_text(json.dumps(smoke(tmp_path)))
    empty = tmp_path / "empty"
    shutil.copytree(sky, empty)
    shutil.rmtree(empty / "details")
    output = tmp_path / "output"
    cases: list[tuple[Values, type[Exception], str]] = [
        ({"load_dir": "gone"}, ConfigError, "load_dir: no such folder 'gone'"),
        ({"load_dir": f"runs:/{'0' * 32}"}, TrackingError, "load_dir: "),
        (
            {"load_dir": gaussian.models},
            ConfigError,
            "'gaussian_linear' of the exp",
        ),
        ({"base": base, "theta": THETA}, ConfigError, "observed: must be the folder"),
        (
            {"base": base, "theta": {"a": 1}, "observed": sky},
            ConfigError,
            "labels: must be one of",
        ),
        (
            {"base": base, "theta": THETA, "observed": tmp_path},
            ConfigError,
            "holds no dataset",
        ),
        (
            {"load_dir": pulsars.models, "observed": empty},
            DataError,
            "no tables of single pulsars",
        ),
    ]
    for fields, kind, message in cases:
        with pytest.raises(kind, match=message):
            compare(config_of(**fields, save_dir=output))
    assert not output.exists()


def test_rounds_that_are_missing_are_told(pulsars: Any, at_work: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pulsars.models, copy)
    values = json.loads((copy / "config_sbi.json").read_text())
    values["trainer"] |= {"num_rounds": 2, "truncated_prior": True}
    (copy / "config_sbi.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"round 1: .* has not finished this round: resume it$"):
        compare(config_of(load_dir=copy, save_dir=tmp_path))
    (copy / "config_sbi.json").unlink()
    with pytest.raises(DataError, match="config_sbi.json: does not tell the number of rounds"):
        compare(config_of(load_dir=copy, save_dir=tmp_path))
