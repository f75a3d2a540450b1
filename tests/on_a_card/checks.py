"""Networks on a second device: the same numbers, drawn again the same, and from disk anywhere."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from point_data import document
from torch import Tensor, nn

from mlpop.commands.infer_nn import infer_nn
from mlpop.commands.study import run_study
from mlpop.commands.train_nn import train_nn
from mlpop.config.blocks.training import TrainingOptions
from mlpop.config.files.regression import RegressionConfig
from mlpop.config.files.study import StudyConfig
from mlpop.inference.diagnostics.coverage import compute_coverage
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.estimators.store import load_ensemble
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed
from mlpop.training.fit import validation_split
from mlpop.training.member_task import MemberTask, train_member

ESTIMATOR = "mlpop.inference.estimators.estimator"
PRIOR = Prior(("a", "b"), (0.0, 0.0), (1.0, 1.0))
KINDS = {
    "posterior": ("mdn", "maf", "nsf", "zuko_nice", "zuko_maf", "zuko_nsf", "zuko_bpf"),
    "likelihood": ("maf",),
    "ratio": ("resnet", "linear"),
}
ESTIMATORS = [(kind, model) for kind, models in KINDS.items() for model in models]
OPTIONS = TrainingOptions(batch_size=16, max_num_epochs=4, ema_decay=0.9, checkpoint_seconds=0.0)


class Forgetful(nn.Sequential):
    """An embedding network with dropout."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., MemberTask]:
    """A member to train on 96 vectors of three noisy sums of two labels."""
    rng = np.random.default_rng(0)
    theta = rng.random((96, 2), np.float32)
    sums = theta @ np.array([[1, 0, 1], [0, 1, -1]], np.float32)
    np.save(tmp_path / "theta.npy", theta)
    np.save(tmp_path / "x.npy", (sums + 0.1 * rng.standard_normal((96, 3))).astype(np.float32))

    def make(name: str, kind: str = "posterior", model: str = "mdn", **more: Any) -> MemberTask:
        spec = {"kind": kind, "model": model, "x_shape": [3], "dimension": 2, **more}
        return MemberTask(
            folder=str(tmp_path / name),
            theta_path=str(tmp_path / "theta.npy"),
            x_path=str(tmp_path / "x.npy"),
            validation=tuple(validation_split(96, 0.25, generator_from_seed(0)).tolist()),
            spec=EstimatorSpec.parse(spec | {"hidden_features": 8, "num_components": 2}),
            options=OPTIONS,
            init_seed=1,
            training_seed=2,
        )

    return make


def weights(folder: str) -> dict[str, Tensor]:
    (estimator,) = load_ensemble([Path(folder)])
    return estimator.state_dict()


def assert_same(first: str, second: str) -> None:
    other = weights(second)
    for name, value in weights(first).items():
        torch.testing.assert_close(value, other[name], msg=name)


@pytest.mark.parametrize(("kind", "model"), ESTIMATORS)
def test_training_there_learns_the_same(
    task: Callable[..., MemberTask], card: torch.device, kind: str, model: str
) -> None:
    here, there = task("here", kind, model), task("there", kind, model)
    expected = train_member(here)
    found = train_member(replace(there, device=card))
    losses = [[record.val_loss for record in result.history] for result in (expected, found)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert_same(here.folder, there.folder)


def test_atomic_loss_there(task: Callable[..., MemberTask], card: torch.device) -> None:
    here, there = (replace(task(name), loss="atomic", num_atoms=5) for name in ("here", "there"))
    train_member(here)
    train_member(replace(there, device=card))
    assert_same(here.folder, there.folder)


@pytest.mark.parametrize("back", [False, True], ids=["to the card", "back to the CPU"])
def test_checkpoints_go_on_elsewhere(
    task: Callable[..., MemberTask], card: torch.device, back: bool
) -> None:
    whole, cut = task("whole"), task("cut")
    train_member(whole)
    first, then = (card, torch.device("cpu"))[:: 1 if back else -1]
    half = OPTIONS.model_copy(update={"max_num_epochs": 2})
    train_member(replace(cut, options=half, device=first))
    assert train_member(replace(cut, device=then)).resumed_from == 2
    assert_same(whole.folder, cut.folder)


def test_dropout_there_comes_from_the_seed_alone(
    task: Callable[..., MemberTask], card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{ESTIMATOR}.build", lambda *_: Forgetful())
    monkeypatch.setattr(f"{ESTIMATOR}.output_width", lambda *_: 4)
    embedding = {"type": "Forgetful"}
    first, again = (
        replace(task(name, embedding=embedding), device=card) for name in ("first", "again")
    )
    state = torch.get_device_module(card).get_rng_state()
    train_member(first)
    assert torch.equal(torch.get_device_module(card).get_rng_state(), state)
    torch.rand(5, device=card)
    train_member(again)
    assert_same(first.folder, again.folder)


@pytest.fixture
def posterior(task: Callable[..., MemberTask]) -> Callable[[str, str], Any]:
    """A posterior of two trained members."""

    def make(kind: str, model: str) -> EnsemblePosterior | McmcPosterior:
        members = [task(f"member_{seed}", kind, model) for seed in range(2)]
        members = [replace(member, init_seed=seed) for seed, member in enumerate(members)]
        for member in members:
            train_member(member)
        trained: Any = load_ensemble([Path(member.folder) for member in members])
        if kind == "posterior":
            return EnsemblePosterior(trained, PRIOR)
        options = McmcOptions(num_chains=10, thin=1, warmup=5)
        return McmcPosterior(trained, PRIOR, options=options)

    return make


@pytest.mark.parametrize(("kind", "model"), ESTIMATORS)
def test_a_posterior_there_says_the_same(
    posterior: Callable[[str, str], Any], card: torch.device, kind: str, model: str
) -> None:
    here = posterior(kind, model)
    there = copy.deepcopy(here).to(card)
    assert {member.device for member in there.members} == {card}
    rng = np.random.default_rng(1)
    x = (rng.random((3, 3)) - [0, 0, 0.5]).astype(np.float32)
    theta = rng.random((3, 2))
    both = [
        (
            p.log_prob_batched(theta[:, None].repeat(3, 1), x),
            p.map(x[0], generator_from_seed(1)) if kind == "ratio" else 0,
        )
        for p in (here, there)
    ]
    np.testing.assert_allclose(both[1][0], both[0][0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(both[1][1], both[0][1], atol=1e-3)
    # the same generator, the same draws, whatever was drawn there before
    draws = []
    for _ in range(2):
        torch.rand(3, device=card)
        draws.append(there.sample_batched(200, x, generator_from_seed(3)))
    np.testing.assert_array_equal(draws[0], draws[1])
    of_cpu = here.sample_batched(200, x, generator_from_seed(3))
    spread = of_cpu.std(0)
    assert (abs(draws[0].mean(0) - of_cpu.mean(0)) < 8 * spread / 200**0.5 + 1e-6).all()
    coverage = compute_coverage(there, theta, x, generator_from_seed(4), num_samples=100)
    assert coverage.success.all()
    assert np.isfinite(coverage.log_prob).all()


@pytest.fixture
def used(card: torch.device, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Let experiments take the card for the GPU that they ask for."""
    monkeypatch.setattr("mlpop.experiment.rounds.context.network_device", lambda _: card)
    return card


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "method"), [("vectors", "snpe"), ("vectors", "snre"), ("smoke", "snpe")]
)
def test_a_whole_experiment_there(
    used: torch.device,
    request: pytest.FixtureRequest,
    run: Callable[..., Any],
    tmp_path: Path,
    kind: str,
    method: str,
) -> None:
    """Two rounds: networks, draws, proposal, tests, whether x_o is like the simulations."""
    make = request.getfixturevalue(kind)
    done = run(
        make(
            tmp_path,
            n_gpu=1,
            trainer__num_rounds=2,
            trainer__max_num_epochs=3,
            training_data_loader__num_sim=100,
            test_data_loader__num_sim=4,
            trainer__num_posterior_samples=200,
            mcmc_sampler__num_chains=10,
            trainer__type=method,
        )
    )
    last = done.result.rounds[-1]
    assert {member.device for member in last.posterior.members} == {used}
    loaded = load_ensemble(last.members)
    assert {estimator.device.type for estimator in loaded} == {"cpu"}


def test_point_estimates_there(
    card: torch.device,
    data: Path,
    tmp_path: Path,
    workplace: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predicted = []
    for device in (torch.device("cpu"), card):
        for module in ("experiment.point.setup", "commands.infer_nn"):
            monkeypatch.setattr(f"mlpop.{module}.network_device", lambda _, d=device: d)
        with workplace():
            config = RegressionConfig.parse(document(data, tmp_path / device.type, trials=1))
            trained = train_nn(config)
            model = trained.models / "best_model.pth"
            predicted.append(infer_nn(config, model).predictions.predicted)
    np.testing.assert_allclose(predicted[1], predicted[0], rtol=1e-4)


@pytest.mark.slow
def test_a_study_there(
    card: torch.device,
    study_values: Callable[..., dict[str, Any]],
    tmp_path: Path,
    workplace: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = []
    for device in (torch.device("cpu"), card):
        monkeypatch.setattr("mlpop.commands.study.network_device", lambda _, d=device: d)
        values = study_values(tmp_path / device.type, name=device.type, n_trials=3)
        with workplace():
            losses.append([trial.value for trial in run_study(StudyConfig.parse(values)).trials])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
