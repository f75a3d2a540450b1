"""The posterior in MLflow: served, registered, loaded again (mission point 5)."""

import ast
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException

import mlpop
from mlpop.errors import ConfigError, DataError, TrackingError
from mlpop.experiment.diagnostics.table import read_findings
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.experiment.inputs.problem import LearningProblem
from mlpop.experiment.models.posterior_model import REQUIREMENTS, log_posterior_model
from mlpop.experiment.rounds.result import RoundResult
from mlpop.inference.compression.compressor import Compressor, PcaEncoder
from mlpop.inference.compression.pca import fit_pca
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.estimators.store import save_estimator
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.posteriors.model_files import pack_posterior
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.prior import Prior
from mlpop.io.files import sha256_of, write_json
from mlpop.networks.rng import generator_from_seed
from mlpop.tracking import Store, TrackedRun, connect, open_run

REPOSITORY = Path(__file__).parents[3]
PRIOR = Prior(("a", "b"), (-1.0, -2.0), (1.0, 2.0))
SHAPE = (2, 4, 3)
QUICK = McmcOptions(num_chains=4, thin=1, warmup=2, num_candidates=100)
SMALL = {"dimension": 2, "hidden_features": 8}


@pytest.fixture(autouse=True)
def store(at_work: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The session's store; unpickling is forbidden."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return connect()


@dataclass(frozen=True)
class Double:
    """The end of an experiment of untrained networks."""

    folder: Path
    posterior: Posterior
    members: tuple[Path, ...]
    x: np.ndarray

    def result(self, verdict: str = "") -> RoundResult:
        if verdict:
            write_json(self.folder / "calibration.json", calibration(verdict))
            write_json(self.folder / "coverage.json", {})
        problem = LearningProblem(PRIOR, (), self.posterior.preprocessing)
        observed = ObservedSample(self.x, (), None, Path("x.npy"))
        return RoundResult(
            number=1,
            run_id="round",
            problem=problem,
            observed=observed,
            posterior=self.posterior,
            members=self.members,
            sets={},
            estimates=[],
            findings=read_findings(self.folder),
            numbers={},
        )

    def log(self, run: TrackedRun, name: str, verdict: str = "") -> str:
        uri = log_posterior_model(run, name, self.result(verdict))
        assert uri is not None
        return uri


def calibration(verdict: str) -> dict[str, Any]:
    bad = 0.4 if verdict == "calibrated" else 1e-4
    p_values = {"hpd": bad, "tarp": 0.5, "sbc/a": 0.6, "sbc/b": 0.7}
    none = dict.fromkeys(("ks", "shift", "spread", "width"), {})
    unknown = dict.fromkeys(("expected_calibration_error", "nltp", "gain", "poor_chains"))
    counts = {"num_tests": 100, "num_failed": 0, "alpha": 0.05}
    return {"verdict": verdict, **counts, "p_values": p_values, **none, **unknown}


@pytest.fixture
def double(tmp_path: Path) -> Callable[..., Double]:
    """Make the posterior of two untrained networks of a kind, with or without compression."""

    def make(kind: str = "posterior", *, compressed: bool = False, seed: int = 0) -> Double:
        generator = generator_from_seed(seed)
        preprocessing, shape = Preprocessing(), (3,)
        if compressed:
            maps = torch.rand(30, *SHAPE, generator=generator_from_seed(9))
            encoder = PcaEncoder(fit_pca(maps.flatten(1).numpy(), 3), SHAPE)
            preprocessing, shape = Preprocessing("none", Compressor(encoder)), SHAPE
        model = "mlp" if kind == "ratio" else "mdn"
        spec = EstimatorSpec.parse({**SMALL, "kind": kind, "model": model, "x_shape": [3]})
        theta = torch.rand(40, 2, generator=generator)
        x = torch.randn(40, 3, generator=generator)
        folder = tmp_path / f"{kind}_{compressed}_{seed}"
        members = [build_estimator(spec, theta, x, generator) for _ in range(2)]
        folders = tuple(folder / f"member_{i:02d}" for i in range(2))
        for path, member in zip(folders, members, strict=True):
            save_estimator(path, member, spec)
        weights = (0.25, 0.75)
        posterior: Posterior
        if kind == "posterior":
            posterior = EnsemblePosterior(members, PRIOR, weights, preprocessing)
        else:
            posterior = McmcPosterior(members, PRIOR, weights, preprocessing, QUICK)
        observed = np.random.default_rng(seed).random(shape).astype(np.float32)
        return Double(folder, posterior, folders, observed)

    return make


@pytest.fixture
def opened(store: Store) -> Iterator[TrackedRun]:
    with open_run("experiment", "doubles", store=store) as run:
        yield run


def versions(store: Store, name: str) -> dict[str, Any]:
    found = store.client.search_model_versions(f"name = '{name}'")
    return {str(version.version): version for version in found}


def aliases(store: Store, name: str) -> dict[str, str]:
    held = store.client.get_registered_model(name).aliases
    return {alias: str(version) for alias, version in held.items()}


def model_folder(store: Store, uri: str) -> Path:
    model = store.client.get_logged_model(uri.removeprefix("models:/"))
    return Path(str(model.artifact_location).removeprefix("file://"))


def tags_of(done: Any) -> dict[str, str]:
    return dict(done.store.client.get_run(done.result.run_id).data.tags)


# --- whole experiments --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gaussian", "pulsars"])
def test_served_draws_are_those_of_the_loaded_posterior(
    name: str, request: pytest.FixtureRequest
) -> None:
    done = request.getfixturevalue(name)
    last = done.result.rounds[-1]
    name, version = tags_of(done)["mlpop.model_version"].split("/")
    uri = f"models:/{name}/{version}"
    served = mlflow.pyfunc.load_model(uri)
    x = last.observed.x[None]
    table = served.predict(x, params={"num_samples": 50, "seed": 3})
    assert list(table) == ["observation", *done.config.prior_ranges.labels]
    assert (table["observation"] == 0).all()
    draws = table.to_numpy()[:, 1:]
    loaded = mlpop.load_posterior(uri)
    assert type(loaded.posterior) is type(last.posterior)
    np.testing.assert_array_equal(draws, loaded.sample(50, x[0], generator_from_seed(3)))
    np.testing.assert_array_equal(draws, last.posterior.sample(50, x[0], generator_from_seed(3)))
    other = served.predict(x, params={"num_samples": 50, "seed": 4}).to_numpy()[:, 1:]
    assert not np.isin(other, draws).any()
    low, high = np.array(done.config.prior_ranges.low), np.array(done.config.prior_ranges.high)
    assert ((low <= draws) & (draws <= high)).all()


def test_every_address_gives_the_same_posterior(gaussian) -> None:
    run_id, models = gaussian.result.run_id, gaussian.models
    tags = tags_of(gaussian)
    (first,) = gaussian.tree.children
    addresses = [
        run_id,
        f"runs:/{run_id}",
        f"runs:/{run_id}/posterior",
        first.run_id,
        f"runs:/{first.run_id}",
        tags["mlpop.model_uri"],
        f"models:/{tags['mlpop.model_version']}",
        str(models),
        models / "round_0",
        models.parent,
    ]
    x = gaussian.result.rounds[0].observed.x
    theta = np.array([[0.3, -0.4], [0.2, 0.1], [5.0, 0.0]])
    expected = gaussian.result.rounds[0].posterior.log_prob(theta, x)
    assert np.isfinite(expected[:2]).all()
    for address in addresses:
        posterior = mlpop.load_posterior(address)
        np.testing.assert_array_equal(posterior.log_prob(theta, x), expected)
        assert posterior.labels == gaussian.config.prior_ranges.labels
    assert posterior.prior.low == tuple(gaussian.config.prior_ranges.low)
    best = posterior.map(x, generator_from_seed(0))
    assert posterior.log_prob(best[None], x) >= expected.max()


def test_signature_and_example_say_how_to_ask(gaussian) -> None:
    model = mlflow.pyfunc.load_model(tags_of(gaussian)["mlpop.model_uri"])
    signature = model.metadata.signature
    assert [(s.type, s.shape) for s in signature.inputs.inputs] == [(np.dtype("f4"), (-1, 2))]
    assert signature.outputs.input_names() == ["observation", "theta_1", "theta_2"]
    assert {p.name: p.default for p in signature.params.params} == {"num_samples": 1000, "seed": 0}
    x = gaussian.result.rounds[0].observed.x[None]
    np.testing.assert_array_equal(model.input_example, x)
    assert len(model.predict(x)) == 1000
    table = model.predict(x)
    np.testing.assert_array_equal(table.to_numpy(), model.predict(x).to_numpy())
    with pytest.raises(MlflowException, match="shape"):
        model.predict(np.zeros((1, 3), np.float32))


def test_http_request_is_answered(gaussian) -> None:
    """The body that `mlflow models serve` gets, through MLflow's own handler."""
    from mlflow.pyfunc.scoring_server import invocations

    model = mlflow.pyfunc.load_model(tags_of(gaussian)["mlpop.model_uri"])
    x = gaussian.result.rounds[0].observed.x
    body = {"inputs": [x.tolist(), (x + 0.1).tolist()], "params": {"num_samples": 3, "seed": 7}}
    schema = model.metadata.get_input_schema()
    answer = invocations(json.dumps(body), "application/json", model, schema)
    assert answer.status == 200, answer.response
    rows = json.loads(answer.response)["predictions"]
    assert [row["observation"] for row in rows] == [0, 0, 0, 1, 1, 1]
    posterior = gaussian.result.rounds[0].posterior
    generator = generator_from_seed(7)
    draws = np.concatenate([posterior.sample(3, one, generator) for one in (x, x + 0.1)])
    for k, label in enumerate(posterior.labels):
        np.testing.assert_allclose([row[label] for row in rows], draws[:, k], rtol=1e-6)


def test_experiment_tells_its_model_and_its_verdict(gaussian, pulsars) -> None:
    for done in (gaussian, pulsars):
        client, tags = done.store.client, tags_of(done)
        name, version = tags["mlpop.model_version"].split("/")
        assert name == done.config.name
        found = client.get_model_version(name, version).tags
        assert found["mlpop.verdict"] == done.result.rounds[-1].verdict.name == "too few tests"
        assert found["mlpop.verdict_reason"].endswith("tests succeeded, 50 are needed")
        assert "champion" not in aliases(done.store, name)
        run = client.get_run(done.result.run_id)
        (output,) = run.outputs.model_outputs
        assert tags["mlpop.model_uri"] == f"models:/{output.model_id}"
        logged = client.get_logged_model(output.model_id)
        assert (str(logged.status), logged.name) == ("READY", "posterior")
        assert logged.experiment_id == run.info.experiment_id
        assert logged.tags["mlpop.digest"] == found["mlpop.digest"]


def test_posterior_that_was_loaded_has_the_same_digest(gaussian, pulsars, tmp_path) -> None:
    """A resume registers nothing new: it logs what it has restored."""
    for done in (gaussian, pulsars):
        folder = done.models / "round_0"
        restored = mlpop.load_posterior(folder)
        members = sorted(folder.glob("member_*"))
        digest = pack_posterior(tmp_path / done.config.name, restored, members)
        name, version = tags_of(done)["mlpop.model_version"].split("/")
        assert done.store.client.get_model_version(name, version).tags["mlpop.digest"] == digest


FRESH = """
import json, sys
# an editable installation would fill in what the model lacks
sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in repr(f)]
sys.path[:] = [entry for entry in sys.path if "__editable__" not in entry]
from pathlib import Path
import mlflow
import numpy as np

model = mlflow.pyfunc.load_model(sys.argv[1])
x = np.array([json.loads(sys.argv[2])], np.float32)
table = model.predict(x, params={"num_samples": 5, "seed": 3})
import mlpop
try:
    mlpop.load_posterior
except ImportError as error:
    told = str(error)
files = [Path(m.__file__) for n, m in list(sys.modules.items()) if n.split(".")[0] == "mlpop"]
print(json.dumps({
    "draws": table.to_numpy()[:, 1:].tolist(),
    "files": [str(path) for path in files],
    "told": told,
}))
"""


def test_fresh_process_needs_the_store_only(gaussian, tmp_path: Path) -> None:
    """Its code comes with the model, and imports no package that the model does not name."""
    x = gaussian.result.rounds[0].observed.x
    uri = tags_of(gaussian)["mlpop.model_uri"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLPOP"))}
    done = subprocess.run(
        [sys.executable, "-c", FRESH, uri, json.dumps(x.tolist())],
        cwd=tmp_path,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    expected = gaussian.result.rounds[0].posterior.sample(5, x, generator_from_seed(3))
    np.testing.assert_array_equal(np.array(answer["draws"]), expected)
    assert "import mlpop before the model is loaded" in answer["told"]
    files = [Path(name) for name in answer["files"]]
    assert len(files) > 20
    assert all("code" in path.parts and REPOSITORY not in path.parents for path in files)
    served = REPOSITORY / "mlpop" / "experiment" / "models" / "served_posterior.py"
    packages = {name for path in (*files, served) for name in imported(path)}
    assert {"torch", "sbi", "safetensors"} <= packages
    # pydantic comes with its own core, of the one version that it works with
    own = {"mlpop", "pydantic_core"}
    assert packages - sys.stdlib_module_names - own <= set(REQUIREMENTS)


def imported(path: Path) -> Iterator[str]:
    """Yield the packages that a module imports when it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).split(".")[0]


def test_docs_block_runs(gaussian, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    text = (REPOSITORY / "docs" / "inference.md").read_text().split("\n## Use the posterior\n")[1]
    block = text.split("```python\n")[1].split("```")[0]
    name, version = tags_of(gaussian)["mlpop.model_version"].split("/")
    assert block.count('"models:/tsnpe@champion"') == 2
    block = block.replace("models:/tsnpe@champion", f"models:/{name}/{version}")
    exec(compile(block, "docs/inference.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "theta_1" in printed
    assert "theta_2" in printed


# --- any posterior ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "compressed"),
    [("posterior", False), ("posterior", True), ("likelihood", True), ("ratio", False)],
)
def test_every_kind_is_served_and_loaded(
    kind: str, compressed: bool, double: Callable[..., Double], opened: TrackedRun
) -> None:
    made = double(kind, compressed=compressed)
    uri = made.log(opened, f"kinds_{kind}_{compressed}")
    expected = made.posterior.sample(30, made.x, generator_from_seed(5))
    table = mlflow.pyfunc.load_model(uri).predict(
        made.x[None], params={"num_samples": 30, "seed": 5}
    )
    np.testing.assert_array_equal(table[["a", "b"]].to_numpy(), expected)
    loaded = mlpop.load_posterior(uri)
    assert type(loaded.posterior) is type(made.posterior)
    assert loaded.x_shape == made.x.shape
    np.testing.assert_array_equal(loaded.sample(30, made.x, generator_from_seed(5)), expected)


def test_calibrated_is_champion_and_others_are_candidates(
    double: Callable[..., Double], opened: TrackedRun, store: Store
) -> None:
    first, second = double(seed=1), double(seed=2)
    first.log(opened, "aliases", "calibrated")
    assert aliases(store, "aliases") == {"champion": "1"}
    second.log(opened, "aliases", "overconfident")
    assert aliases(store, "aliases") == {"champion": "1", "candidate": "2"}
    found = versions(store, "aliases")
    assert {k: v.tags["mlpop.verdict"] for k, v in found.items()} == {
        "1": "calibrated",
        "2": "overconfident",
    }
    assert "least p = 0.0001 (hpd)" in found["2"].tags["mlpop.verdict_reason"]
    assert "least p = 0.4" in found["1"].tags["mlpop.verdict_reason"]
    theirs = mlpop.load_posterior("models:/aliases@champion").members[0].state_dict()
    ours = first.posterior.members[0].state_dict()
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())


def test_same_posterior_gets_no_second_version(
    double: Callable[..., Double], opened: TrackedRun, store: Store
) -> None:
    """Neither when it is logged again by a resume, nor when another run comes to the same."""
    made = double()
    uri = made.log(opened, "repeated")
    assert made.log(opened, "repeated") == uri
    (output,) = store.client.get_run(opened.run_id).outputs.model_outputs
    assert uri == f"models:/{output.model_id}"
    with open_run("experiment", "doubles", store=store) as other:
        again = made.log(other, "repeated", "calibrated")
    assert again != uri
    found = versions(store, "repeated")
    assert list(found) == ["1"]
    assert found["1"].tags["mlpop.verdict"] == "calibrated"
    assert aliases(store, "repeated") == {"champion": "1"}
    made.log(opened, "repeated", "biased")
    assert aliases(store, "repeated") == {"candidate": "1"}


def test_model_that_was_interrupted_is_finished(
    double: Callable[..., Double],
    opened: TrackedRun,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = double()

    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(store.client), "finalize_logged_model", stop)
        with pytest.raises(KeyboardInterrupt):
            made.log(opened, "interrupted")
    query = f"source_run_id = '{opened.run_id}'"
    (begun,) = store.client.search_logged_models([opened.experiment_id], query)
    assert str(begun.status) == "PENDING"
    assert made.log(opened, "interrupted") == f"models:/{begun.model_id}"
    (done,) = store.client.search_logged_models([opened.experiment_id], query)
    assert str(done.status) == "READY"
    assert list(versions(store, "interrupted")) == ["1"]


def test_registry_that_is_away_is_a_warning(
    double: Callable[..., Double],
    opened: TrackedRun,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = double()

    def refuse(*arguments: Any) -> None:
        raise MlflowException("the registry is closed")

    monkeypatch.setattr(type(store.client), "create_registered_model", refuse)
    with caplog.at_level(logging.WARNING, "mlpop"):
        uri = made.log(opened, "closed")
    (record,) = [r for r in caplog.records if r.name.startswith("mlpop.experiment")]
    assert record.levelno == logging.WARNING
    assert "the registry is closed" in record.getMessage()
    assert mlpop.load_posterior(uri).labels == PRIOR.labels


def test_store_that_takes_no_models_is_a_warning(
    double: Callable[..., Double],
    opened: TrackedRun,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = double()

    def refuse(*arguments: Any, **options: Any) -> None:
        raise MlflowException("no models here", error_code=1000)

    monkeypatch.setattr(type(store.client), "create_logged_model", refuse)
    with caplog.at_level(logging.WARNING, "mlpop"):
        assert log_posterior_model(opened, "refused", made.result()) is None
    assert "no models here" in caplog.text
    assert opened.run_id in caplog.text


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["member_01/estimator.safetensors", "posterior.json"])
def test_changed_file_of_a_model_is_refused_C11(
    name: str, double: Callable[..., Double], opened: TrackedRun, store: Store
) -> None:
    made = double()
    uri = made.log(opened, "changed")
    folder = model_folder(store, uri) / "artifacts" / "posterior"
    assert mlpop.load_posterior(uri).labels == PRIOR.labels
    flip(folder / name)
    with pytest.raises(DataError, match=rf"{name}: its SHA-256"):
        mlpop.load_posterior(uri)
    with pytest.raises(DataError, match=rf"{name}: its SHA-256"):
        mlflow.pyfunc.load_model(uri)
    # also with a list of digests that fits the changed file
    digests = json.loads((folder / "digests.json").read_text())
    write_json(folder / "digests.json", digests | {name: sha256_of(folder / name)})
    for load in (mlpop.load_posterior, mlflow.pyfunc.load_model):
        with pytest.raises(DataError, match="that of the posterior is"):
            load(uri)


def test_changed_file_of_a_folder_is_refused_C11(gaussian, tmp_path: Path) -> None:
    folder = copytree(gaussian.models / "round_0", tmp_path / "round_0")
    assert mlpop.load_posterior(tmp_path).labels == ("theta_1", "theta_2")
    path = folder / "posterior.json"
    path.write_text(path.read_text().replace('"low"', '"low" '))
    with pytest.raises(DataError, match=r"round 0: .*posterior\.json: its SHA-256"):
        mlpop.load_posterior(tmp_path)


@pytest.mark.parametrize(
    ("params", "found"), [({"num_samples": 0}, "num_samples 0"), ({"seed": -1}, "seed -1")]
)
def test_requests_out_of_range(
    params: dict[str, int], found: str, double: Callable[..., Double], opened: TrackedRun
) -> None:
    made = double()
    model = mlflow.pyfunc.load_model(made.log(opened, "ranges"))
    with pytest.raises(DataError, match=found):
        model.predict(made.x[None], params=params)


# --- addresses ----------------------------------------------------------------------------------


def test_addresses_of_nothing(gaussian, opened: TrackedRun, tmp_path: Path) -> None:
    (first,) = gaussian.tree.children
    (member,) = first.children
    cases: list[tuple[str, type[Exception], str]] = [
        ("no/such/folder", ConfigError, r"^mlpop\.load_posterior: no such folder"),
        (str(tmp_path), ConfigError, "holds no round_0"),
        (member.run_id, TrackingError, "is of kind 'member'; give an experiment or a round"),
        ("f" * 32, TrackingError, "f" * 32),
        (f"runs:/{gaussian.result.run_id}/log.txt", TrackingError, "without 'log.txt'"),
        (opened.run_id, TrackingError, "no round of it is complete"),
        ("models:/nobody@champion", TrackingError, "nobody"),
        ("models:/nobody/1", TrackingError, "nobody"),
        ("models:/m-0123", TrackingError, "m-0123"),
    ]
    for address, error, message in cases:
        with pytest.raises(error, match=message):
            mlpop.load_posterior(address)


def test_model_of_another_program_is_refused(opened: TrackedRun, store: Store) -> None:
    model = store.client.create_logged_model(
        opened.experiment_id, "other", source_run_id=opened.run_id
    )
    with pytest.raises(TrackingError, match=r"is no posterior: it has no tag mlpop\.digest"):
        mlpop.load_posterior(f"models:/{model.model_id}")


def test_round_that_is_not_complete_is_left_out(
    gaussian, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copytree(gaussian.models / "round_0", tmp_path / "round_0")
    (tmp_path / "round_1").mkdir()
    posterior = mlpop.load_posterior(tmp_path)
    assert posterior.labels == ("theta_1", "theta_2")
    assert "taking round 0, its last complete one" in caplog.text
    with pytest.raises(DataError, match="has not finished this round: resume it"):
        mlpop.load_posterior(tmp_path / "round_1")


def test_public_names() -> None:
    from mlpop.commands.python import resume_experiment, run_experiment
    from mlpop.simulators import Simulation, Simulator

    assert mlpop.run_experiment is run_experiment
    assert mlpop.resume_experiment is resume_experiment
    assert (mlpop.Simulator, mlpop.Simulation) == (Simulator, Simulation)
    assert set(dir(mlpop)) == set(mlpop.__all__)
    with pytest.raises(AttributeError, match="no attribute 'train_all'"):
        mlpop.train_all  # noqa: B018
