import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal
from torch.optim.optimizer import register_optimizer_step_post_hook

from mlpop.config.blocks.training import TrainingOptions
from mlpop.config.methods import DENSITIES
from mlpop.errors import ConfigError, DataError, TrainingError
from mlpop.inference.estimators.cube import probit
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.networks.rng import generator_from_seed
from mlpop.training.checkpoint import load_state, save_state
from mlpop.training.events import EpochEnded, Started
from mlpop.training.fit import EstimatorLearner, fit, validation_split
from mlpop.training.losses import contrastive_loss, fixed_atoms

OPTIONS = TrainingOptions(batch_size=8, lr=3e-3, max_num_epochs=6)
AVERAGED = OPTIONS.model_copy(update={"ema_decay": 0.8})


class Interrupted(Exception):
    """Stands for a killed process."""


def _validation(rows=40):
    return validation_split(rows, 0.2, generator_from_seed(1))


def _train(built, options=OPTIONS, seed=5, **arguments):
    """Return the last state and the report."""
    estimator, _, theta, x = built
    states = []
    report = fit(
        estimator,
        theta,
        x,
        validation=_validation(len(theta)),
        generator=generator_from_seed(seed),
        options=options,
        **({"save": states.append} | arguments),
    )
    return states[-1] if states else None, report


def _losses(report):
    return [(record.train_loss, record.val_loss) for record in report.history]


def _same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


TRAINED = [
    ({"model": "mdn"}, {}),
    ({"model": "maf"}, {}),
    ({"model": "nsf"}, {"loss": "atomic", "num_atoms": 4}),
    ({"model": "mdn"}, {"loss": "atomic"}),
    ({"model": "zuko_nsf"}, {"loss": "atomic", "num_atoms": 100}),
    ({"model": "maf", "kind": "likelihood"}, {}),
    ({"model": "zuko_nsf", "kind": "likelihood"}, {}),
    ({"model": "linear"}, {}),
    ({"model": "resnet"}, {"num_atoms": 5}),
]
"""What to build and how to train it: every kind, every loss."""


@pytest.mark.parametrize(("what", "how"), TRAINED)
def test_same_seed_same_bits(small_estimator, what, how):
    runs = []
    for seed in (5, 5, 6):
        built = small_estimator(**what)
        _, report = _train(built, seed=seed, **how)
        runs.append((_losses(report), copy.deepcopy(built[0].state_dict())))
    assert runs[0][0] == runs[1][0]
    assert _same(runs[0][1], runs[1][1])
    assert runs[0][0] != runs[2][0]


@pytest.mark.parametrize(("what", "how"), TRAINED)
@pytest.mark.parametrize("interrupted_after", [1, 5])
def test_interrupted_training_goes_on_bit_identically(
    small_estimator, tmp_path, what, how, interrupted_after
):
    whole = small_estimator(**what)
    state, report = _train(whole, **how)

    def stop(event):
        if isinstance(event, EpochEnded) and event.record.epoch == interrupted_after + 1:
            raise Interrupted

    part = small_estimator(**what)
    with pytest.raises(Interrupted):
        _train(
            part,
            OPTIONS.model_copy(update={"checkpoint_seconds": 0.0}),
            **how,
            emit=stop,
            save=lambda state: save_state(tmp_path, state, "id"),
        )
    loaded = load_state(tmp_path, "id")
    assert loaded.epoch == interrupted_after
    assert len(list(tmp_path.glob("*.safetensors"))) == 1

    fresh = (small_estimator(**what, seed=99)[0], *whole[1:])
    seen = []
    resumed_state, resumed = _train(fresh, seed=1234, state=loaded, emit=seen.append, **how)
    assert [len(event.history) for event in seen if isinstance(event, Started)] == [
        interrupted_after
    ]
    epochs = [event.record.epoch for event in seen if isinstance(event, EpochEnded)]
    assert epochs == list(range(interrupted_after + 1, 7))
    assert _losses(resumed) == _losses(report)
    assert (resumed.best_epoch, resumed.best_loss) == (report.best_epoch, report.best_loss)
    assert _same(fresh[0].state_dict(), whole[0].state_dict())
    assert _same(resumed_state.weights, state.weights)
    moments, expected = (s.optimizer["state"] for s in (resumed_state, state))
    assert moments.keys() == expected.keys()
    assert all(_same(moments[index], expected[index]) for index in moments)
    assert torch.equal(resumed_state.generator, state.generator)


def test_dropout_is_resumed_bit_identically(small_estimator):
    def with_dropout():
        built = small_estimator("mdn")
        built[0].embedding = nn.Sequential(built[0].embedding, nn.Dropout(0.5))
        return built

    whole = with_dropout()
    _, report = _train(whole)
    half = TrainingOptions(batch_size=8, lr=3e-3, max_num_epochs=3)
    state, _ = _train(with_dropout(), half)
    _, resumed = _train(with_dropout(), seed=77, state=state)
    assert _losses(resumed) == _losses(report)


@pytest.mark.parametrize("epochs", [1, 3])
def test_average_is_resumed_bit_identically(small_estimator, tmp_path, epochs):
    whole = small_estimator("mdn")
    fresh = (small_estimator("mdn", seed=99)[0], *whole[1:])
    state, report = _train(whole, AVERAGED)
    part, _ = _train(
        small_estimator("mdn"), AVERAGED.model_copy(update={"max_num_epochs": epochs})
    )
    save_state(tmp_path, part)
    resumed_state, resumed = _train(fresh, AVERAGED, seed=77, state=load_state(tmp_path))
    assert _losses(resumed) == _losses(report)
    assert _same(fresh[0].state_dict(), whole[0].state_dict())
    assert _same(resumed_state.average, state.average)


def test_average_is_of_the_weights_of_all_steps(small_estimator):
    """The weights that are kept, and their loss, against the sum over steps by hand."""
    built = small_estimator("mdn")
    estimator, _, theta, x = built
    steps = []

    def remember(*_):
        steps.append([value.detach().clone() for value in estimator.parameters()])

    hook = register_optimizer_step_post_hook(remember)
    try:
        _, report = _train(built, AVERAGED)
    finally:
        hook.remove()
    batches = len(steps) // 6
    decay = AVERAGED.ema_decay
    expected = steps[0]
    for step in steps[1 : report.best_epoch * batches]:
        expected = [
            decay * old + (1 - decay) * new for old, new in zip(expected, step, strict=True)
        ]
    for value, mean in zip(estimator.parameters(), expected, strict=True):
        torch.testing.assert_close(value, mean, atol=1e-5, rtol=1e-4)
    rows = _validation(len(theta))
    with torch.no_grad():
        loss = float(estimator.loss(theta[rows], x[rows]).double().mean())
    assert loss == pytest.approx(report.best_loss, abs=1e-6)


def test_embedding_decays_and_the_density_does_not(small_estimator):
    """Where a step takes the whole weight, what is left is one step of Adam, a few lr."""
    ends = {}
    for decay in (0.0, 100.0):
        network = {"type": "torch.nn:Linear", "args": {"in_features": 3, "out_features": 4}}
        built = small_estimator("mdn", embedding=network)
        options = OPTIONS.model_copy(update={"lr": 0.01, "embedding_weight_decay": decay})
        _train(built, options)
        parts = (built[0].embedding_net, built[0].net)
        ends[decay] = [max(float(v.detach().abs().max()) for v in p.parameters()) for p in parts]
    assert ends[100.0][0] < 0.1 < ends[0.0][0]
    assert ends[100.0][1] > 0.1


def _rates(built, monkeypatch, losses, options):
    """Return the learning rate after every epoch, whose validation losses are given."""
    rates, given = [], iter(losses)
    evaluate = EstimatorLearner.evaluate

    def told(learner, network, epoch, started):
        record = evaluate(learner, network, epoch, started)
        return dataclasses.replace(record, val_loss=next(given))

    monkeypatch.setattr(EstimatorLearner, "evaluate", told)

    def remember(optimizer, *_):
        rates.append(optimizer.param_groups[0]["lr"])

    hook = register_optimizer_step_post_hook(remember)
    try:
        _train(built, options)
    finally:
        hook.remove()
    return rates[:: len(rates) // len(losses)]


def test_learning_rate_falls_where_the_loss_stands_still(small_estimator, monkeypatch):
    options = TrainingOptions(batch_size=8, lr=1e-3, lr_decay=0.1, stop_after_epochs=4)
    losses = [3.0, 2.0, 2.0, 2.0, 1.0, 1.5, 1.5, 1.5, 1.5]
    rates = _rates(small_estimator("mdn"), monkeypatch, losses, options)
    # two epochs without a lower one; then a lower one; two without; stopped after four
    expected = [1e-3] * 4 + [1e-4] * 3 + [1e-5] * 2
    assert rates == pytest.approx(expected)


def test_learning_rate_falls_three_times(small_estimator, monkeypatch):
    options = TrainingOptions(
        batch_size=8, lr=1e-3, lr_decay=0.5, stop_after_epochs=4, max_num_epochs=40
    )
    losses = [2.0 - epoch // 3 for epoch in range(40)]  # a lower one every third epoch
    rates = _rates(small_estimator("mdn"), monkeypatch, losses, options)
    assert min(rates) == pytest.approx(1e-3 / 8)
    assert rates[-1] == min(rates)


@pytest.mark.parametrize("epochs", [1, 5])
def test_falling_rate_is_resumed_bit_identically(small_estimator, tmp_path, epochs):
    options = TrainingOptions(
        batch_size=8, lr=0.1, lr_decay=0.3, stop_after_epochs=2, max_num_epochs=9, ema_decay=0.8
    )
    whole, fresh = small_estimator("mdn"), small_estimator("mdn")
    _, report = _train(whole, options)
    part, _ = _train(small_estimator("mdn"), options.model_copy(update={"max_num_epochs": epochs}))
    save_state(tmp_path, part)
    state = load_state(tmp_path)
    assert state.scheduler
    _, resumed = _train(fresh, options, seed=77, state=state)
    assert _losses(resumed) == _losses(report)
    assert _same(fresh[0].state_dict(), whole[0].state_dict())


def test_average_does_not_jump_as_single_steps_do(gaussian_problem):
    """At a large constant learning rate, on fresh data, epoch after epoch."""
    prior, theta, x = gaussian_problem
    unit, data = prior.to_unit(theta)[:1000], torch.from_numpy(x)[:1000]
    spec = EstimatorSpec(model="mdn", x_shape=(2,), dimension=2)
    jumps, ends = [], []
    for decay in (None, 0.98):
        estimator = build_estimator(spec, unit, data, generator_from_seed(1))
        options = TrainingOptions(batch_size=20, lr=5e-3, ema_decay=decay, max_num_epochs=40)
        report = fit(
            estimator,
            unit,
            data,
            validation=validation_split(1000, 0.2, generator_from_seed(2)),
            generator=generator_from_seed(2),
            options=options,
        )
        late = torch.tensor([record.val_loss for record in report.history[20:]])
        jumps.append(float(late.diff().abs().mean()))
        ends.append(float(late.mean()))
    assert jumps[1] < 0.5 * jumps[0]
    assert ends[1] < ends[0]


def test_finished_training_is_not_continued(small_estimator):
    built = small_estimator()
    state, report = _train(built)
    again = (small_estimator(seed=3)[0], *built[1:])
    _, repeated = _train(again, state=state)
    assert repeated.history == report.history
    assert _same(again[0].state_dict(), built[0].state_dict())


@pytest.mark.parametrize("patience", [1, 4])
def test_stops_exactly_k_epochs_after_the_best_F7(small_estimator, patience):
    options = TrainingOptions(batch_size=8, lr=0.02, stop_after_epochs=patience)
    built = small_estimator()
    _, report = _train(built, options)
    losses = [record.val_loss for record in report.history]
    assert report.stopped == "patience"
    assert len(losses) == report.best_epoch + patience
    assert losses[report.best_epoch - 1] == min(losses) == report.best_loss
    estimator, _, theta, x = built
    rows = _validation()
    with torch.no_grad():
        assert float(estimator.loss(theta[rows], x[rows]).double().mean()) == pytest.approx(
            report.best_loss, abs=1e-6
        )
    assert not estimator.training


def test_max_num_epochs_is_exact(small_estimator):
    """sbi trains one epoch more than it is told to."""
    _, report = _train(small_estimator(), TrainingOptions(max_num_epochs=3))
    assert [record.epoch for record in report.history] == [1, 2, 3]
    assert report.stopped == "max_num_epochs"


@pytest.mark.parametrize(("what", "how"), TRAINED)
def test_validation_loss_depends_on_the_weights_alone(small_estimator, what, how):
    """Noise from other atoms in every epoch would make early stopping random."""
    frozen = TrainingOptions(batch_size=8, lr=1e-30, max_num_epochs=4)
    values = [
        record.val_loss
        for seed in (5, 6)
        for record in _train(small_estimator(**what), frozen, seed=seed, **how)[1].history
    ]
    assert len(values) == 8
    assert len(set(values)) == 1


def test_validation_uses_all_rows_and_atoms_of_them(small_estimator):
    estimator, _, theta, x = small_estimator()
    rows = _validation()
    options = TrainingOptions(batch_size=8, lr=3e-3, max_num_epochs=1)
    _, report = _train((estimator, None, theta, x), options, loss="atomic", num_atoms=3)
    with torch.no_grad():
        losses = contrastive_loss(estimator, theta[rows[fixed_atoms(8, 3)]], x[rows])
    assert report.best_loss == pytest.approx(float(losses.mean()), abs=1e-6)


def test_one_validation_row_cannot_be_compared(small_estimator):
    estimator, _, theta, x = small_estimator()
    arguments = {"validation": torch.tensor([3]), "generator": generator_from_seed(0)}
    with pytest.raises(DataError, match="at least 2 validation rows, but got 1"):
        fit(estimator, theta, x, loss="atomic", **arguments)
    with pytest.raises(DataError, match="at least 2 rows in a batch, but got 1"):
        _train(small_estimator("mlp"), TrainingOptions(batch_size=1))


@pytest.mark.parametrize("kind", ["likelihood", "ratio"])
def test_atomic_loss_is_for_posteriors(small_estimator, kind):
    built = small_estimator("mlp" if kind == "ratio" else "mdn", kind=kind)
    with pytest.raises(DataError, match=f"a {kind} needs no correction"):
        _train(built, loss="atomic")


def test_training_lowers_the_loss(small_estimator):
    options = TrainingOptions(batch_size=8, lr=3e-3, max_num_epochs=60)
    _, report = _train(small_estimator(), options)
    assert report.best_loss < report.history[0].val_loss - 0.5


def test_validation_rows_never_train(small_estimator, monkeypatch):
    estimator, _, theta, x = small_estimator()
    rows = _validation()
    used = []

    def spy(theta, x):
        if estimator.training:
            used.append(theta)
        return loss(theta, x)

    loss = estimator.loss
    monkeypatch.setattr(estimator, "loss", spy)
    fit(
        estimator,
        theta,
        x,
        validation=rows,
        generator=generator_from_seed(0),
        options=TrainingOptions(batch_size=5, max_num_epochs=1),
    )
    trained = torch.cat(used)
    assert len(used) == 6
    assert len(trained) == 30
    held_out = {tuple(row) for row in theta[rows].tolist()}
    assert not held_out & {tuple(row) for row in trained.tolist()}


def test_batch_larger_than_the_training_set(small_estimator):
    _, report = _train(small_estimator(), TrainingOptions(batch_size=500, max_num_epochs=2))
    assert len(report.history) == 2


def test_nan_loss_names_epoch_and_causes(small_estimator, monkeypatch):
    estimator, _, theta, x = small_estimator()
    calls = []

    def broken(theta, x):
        calls.append(1)
        return loss(theta, x) * (float("nan") if len(calls) > 10 else 1.0)

    loss = estimator.loss
    monkeypatch.setattr(estimator, "loss", broken)

    with pytest.raises(TrainingError, match="NaN in epoch 3.*learning rate.*not scaled"):
        fit(
            estimator,
            theta,
            x,
            validation=_validation(),
            generator=generator_from_seed(0),
            options=OPTIONS,
        )


@pytest.mark.parametrize("kind", ["posterior", "likelihood"])
@pytest.mark.parametrize("model", DENSITIES)
def test_exploding_network_is_a_training_error(small_estimator, model, kind):
    with pytest.raises(TrainingError, match="NaN in epoch|never finite"):
        _train(
            small_estimator(model, kind=kind),
            TrainingOptions(batch_size=8, lr=1e30, clip_max_norm=None),
        )


def test_non_finite_data_name_the_row(small_estimator):
    built = small_estimator()
    built[3][7, 1] = float("inf")
    with pytest.raises(DataError, match="x holds NaN or infinity in 1 of 40 rows, first in row 7"):
        _train(built)


@pytest.mark.parametrize("rows", [[], [0, 0], [-1], [40], list(range(40))])
def test_bad_validation_rows(small_estimator, rows):
    estimator, _, theta, x = small_estimator()
    with pytest.raises(DataError, match="validation rows"):
        fit(
            estimator,
            theta,
            x,
            validation=torch.tensor(rows, dtype=torch.long),
            generator=generator_from_seed(0),
        )


@pytest.mark.parametrize(("rows", "kept"), [(2, 1), (10, 1), (1000, 100)])
def test_validation_split(rows, kept):
    split = validation_split(rows, 0.1, generator_from_seed(3))
    assert len(split.unique()) == kept
    assert torch.equal(split, validation_split(rows, 0.1, generator_from_seed(3)))
    assert 0 <= int(split.min()) <= int(split.max()) < rows


@pytest.mark.parametrize(("rows", "fraction"), [(1, 0.1), (10, 0.0), (10, 1.0)])
def test_bad_validation_split(rows, fraction):
    with pytest.raises(DataError):
        validation_split(rows, fraction, generator_from_seed(0))


def test_checkpoint_of_another_training_is_not_taken(small_estimator, tmp_path):
    state, _ = _train(small_estimator())
    assert load_state(tmp_path, "one") is None
    save_state(tmp_path, state, "one")
    assert load_state(tmp_path, "other") is None
    assert load_state(tmp_path, "one").history == state.history


def test_damaged_checkpoint_is_refused(small_estimator, tmp_path):
    state, _ = _train(small_estimator())
    save_state(tmp_path, state)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged"):
        load_state(tmp_path)


def test_options_are_checked():
    with pytest.raises(ConfigError, match="batch_size"):
        TrainingOptions.parse({"batch_size": 0})
    with pytest.raises(ConfigError, match="ema_decay"):
        TrainingOptions.parse({"ema_decay": 1.0})


@pytest.mark.parametrize("model", ["mdn", "maf"])
def test_as_good_as_sbi_S01(silent_tracker, gaussian_problem, model):
    """Our loop against sbi's own trainer: same data and options, equal loss on new data.

    sbi's learns z = probit(theta), whose prior is a standard normal.
    """
    from sbi.inference import NPE_C
    from sbi.neural_nets import posterior_nn

    prior, theta, x = gaussian_problem
    unit, data = prior.to_unit(theta)[:1000], torch.from_numpy(x)[:1000]
    arguments = {"hidden_features": 20, "num_components": 4, "num_transforms": 3}
    spec = EstimatorSpec.parse(arguments | {"model": model, "x_shape": [2], "dimension": 2})
    estimator = build_estimator(spec, unit, data, generator_from_seed(1))
    options = TrainingOptions(batch_size=100, lr=5e-3, stop_after_epochs=6)
    fit(
        estimator,
        unit,
        data,
        validation=validation_split(1000, 0.1, generator_from_seed(2)),
        generator=generator_from_seed(2),
        options=options,
    )

    # with some seeds the same label is first in all transforms of its maf, and then blind to x
    torch.manual_seed(1)
    builder = posterior_nn(model, z_score_x="none", **arguments)
    normal = MultivariateNormal(torch.zeros(2), torch.eye(2))
    trainer = NPE_C(
        normal, density_estimator=builder, tracker=silent_tracker, show_progress_bars=False
    )
    theirs = trainer.append_simulations(probit(unit), data).train(
        training_batch_size=100, learning_rate=5e-3, max_num_epochs=1000, stop_after_epochs=6
    )
    fresh_theta = prior.to_unit(theta)[1000:]
    fresh_x = torch.from_numpy(x)[1000:]
    with torch.no_grad():
        ours_loss = float(estimator.loss(fresh_theta, fresh_x).mean())
        z = probit(fresh_theta)
        their_loss = float((theirs.loss(z, fresh_x) + normal.log_prob(z)).mean())
    assert ours_loss == pytest.approx(their_loss, abs=0.08)
    # 0.3 for theta in the box, whose area is 4
    assert ours_loss < 0.3 - math.log(4)
