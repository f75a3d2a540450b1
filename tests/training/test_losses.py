import pytest
import torch
from sbi.inference import NPE_C, NRE_B
from sbi.neural_nets import posterior_nn
from torch.distributions import MultivariateNormal

from mlpop.errors import DataError
from mlpop.inference.estimators.cube import probit
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed, lend
from mlpop.training.losses import (
    Objective,
    check_num_atoms,
    contrastive_loss,
    draw_atoms,
    fixed_atoms,
    make_objective,
)

MAPS = {
    "hidden_features": 16,
    "num_components": 4,
    "num_transforms": 2,
    "x_shape": (2, 16, 16),
    "dimension": 3,
    "embedding": {
        "type": "ModelConvSBIshallow",
        "args": {"input_shape": [2, 16, 16], "len_output_layer": 6},
    },
}
PRIOR = Prior(("a", "b", "c"), (-1.0, 0.0, 3.0), (1.0, 2.0, 5.0))


def _data(rows=30):
    generator = generator_from_seed(7)
    theta = torch.rand(rows, 3, generator=generator)
    return theta, torch.randn(rows, 2, 16, 16, generator=generator)


def _ours(estimator, theta, x, name, num_atoms):
    objective = Objective(name, num_atoms)
    with lend(generator_from_seed(3)):
        candidates = objective.candidates(len(theta))
    return objective.losses(estimator, theta[candidates], x)


@pytest.mark.parametrize("num_atoms", [2, 10, 30])
@pytest.mark.parametrize("model", ["maf", "nsf", "zuko_nsf"])
def test_atomic_loss_equals_sbi_on_the_same_atoms(silent_tracker, model, num_atoms):
    """sbi's SNPE-C of z = probit(theta), whose prior is a standard normal; it embeds every x once
    for each atom.
    """
    theta, x = _data()
    z = probit(theta)
    spec = EstimatorSpec.parse(MAPS | {"model": model})
    estimator = build_estimator(spec, theta, x, generator_from_seed(1))
    inside = posterior_nn(
        model,
        z_score_theta="independent",
        z_score_x="none",
        hidden_features=16,
        num_components=4,
        num_transforms=2,
        embedding_net=estimator.embedding,
    )(z, x)
    state = {
        name: estimator.net.net.state_dict().get(name, value)
        for name, value in inside.state_dict().items()
    }
    inside.load_state_dict(state)
    normal = MultivariateNormal(torch.zeros(3), torch.eye(3))
    trainer = NPE_C(normal, tracker=silent_tracker, show_progress_bars=False)
    trainer._neural_net = inside
    trainer._num_atoms = num_atoms
    trainer._use_combined_loss = False
    with lend(generator_from_seed(3)):
        theirs = -trainer._log_prob_proposal_posterior_atomic(z, x, torch.ones(30, 1))
    ours = _ours(estimator, theta, x, "atomic", num_atoms)
    assert float(ours.detach().std()) > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    wanted = [value for value in estimator.embedding.parameters() if value.requires_grad]
    gradients = [torch.autograd.grad(each.mean(), wanted) for each in (ours, theirs)]
    for own, their in zip(*gradients, strict=True):
        torch.testing.assert_close(own, their, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("num_atoms", [2, 10, 30])
@pytest.mark.parametrize("model", ["linear", "mlp", "resnet"])
def test_contrastive_loss_equals_sbi_on_the_same_atoms(silent_tracker, model, num_atoms):
    theta, x = _data()
    spec = EstimatorSpec.parse(MAPS | {"kind": "ratio", "model": model})
    estimator = build_estimator(spec, theta, x, generator_from_seed(1))
    trainer = NRE_B(PRIOR.box, tracker=silent_tracker, show_progress_bars=False)
    trainer._neural_net = estimator
    with lend(generator_from_seed(3)):
        theirs = trainer._loss(theta, x, num_atoms)
    ours = _ours(estimator, theta, x, "contrastive", num_atoms)
    assert ours.shape == (30,)
    torch.testing.assert_close(ours.mean(), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["posterior", "ratio"])
def test_x_is_embedded_once_for_all_its_atoms(kind):
    theta, x = _data()
    model = "maf" if kind == "posterior" else "mlp"
    spec = EstimatorSpec.parse(MAPS | {"kind": kind, "model": model})
    estimator = build_estimator(spec, theta, x, generator_from_seed(1))
    rows = []
    network = estimator.embedding_net_x if kind == "ratio" else estimator.embedding_net
    network.register_forward_hook(lambda _, i, __: rows.append(len(i[0])))
    contrastive_loss(estimator, theta[draw_atoms(30, 10)], x)
    assert rows == [30]


class Known:
    """log p(x | theta) of a normal x, up to a function of x."""

    kind = "ratio"

    def log_potential(self, theta, x):
        return -0.5 * ((x - theta) ** 2).sum(-1) + 7 * x.sum(-1)


def test_contrastive_loss_by_hand():
    theta = torch.tensor([[0.0], [1.0]])
    loss = contrastive_loss(Known(), theta[torch.tensor([[0, 1], [1, 0]])], theta)
    expected = torch.log(1 + torch.exp(torch.tensor(-0.5)))
    torch.testing.assert_close(loss, expected.expand(2))


@pytest.mark.parametrize("choose", [draw_atoms, fixed_atoms])
@pytest.mark.parametrize(("count", "num_atoms", "got"), [(2, 10, 2), (7, 7, 7), (600, 10, 10)])
def test_atoms_are_different_rows_and_clipped_to_the_batch(choose, count, num_atoms, got):
    atoms = choose(count, num_atoms)
    assert atoms.shape == (got, count)
    assert torch.equal(atoms[0], torch.arange(count))
    assert 0 <= int(atoms.min()) <= int(atoms.max()) < count
    ordered = atoms.sort(0).values
    assert bool((ordered[1:] != ordered[:-1]).all())


def test_fixed_atoms_never_change_and_every_row_is_as_often_chosen():
    state = torch.get_rng_state()
    first = fixed_atoms(600, 10)
    torch.manual_seed(99)
    assert torch.equal(first, fixed_atoms(600, 10))
    torch.set_rng_state(state)
    assert torch.equal(first.flatten().bincount(), torch.full((600,), 10))
    gaps = (first[1:] - first[0]) % 600
    assert len(gaps.unique()) > 300  # neighbours in the file are no neighbours here


def test_drawn_atoms_are_uniform():
    with lend(generator_from_seed(0)):
        chosen = torch.stack([draw_atoms(5, 3)[1:, 0] for _ in range(4000)]).flatten()
    counts = chosen.bincount(minlength=5)
    assert counts[0] == 0
    assert float((counts[1:] / 2000 - 1).abs().max()) < 0.1


def test_which_loss_runs():
    assert make_objective("posterior", "atomic", 5) == Objective("atomic", 5)
    assert make_objective("likelihood", "maximum_likelihood", 5).name == "maximum_likelihood"
    assert make_objective("ratio", "maximum_likelihood", 5) == Objective("contrastive", 5)
    with pytest.raises(DataError, match="a ratio needs no correction.*cannot be atomic"):
        make_objective("ratio", "atomic", 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 8, 8), "2 num_atoms, but got 1"),
        ((10, 1, 8), "2 rows in a batch, but got 1"),
        ((10, 8, 1), "2 validation rows, but got 1"),
    ],
)
def test_too_little_to_compare(arguments, message):
    with pytest.raises(DataError, match=message):
        check_num_atoms(*arguments)
