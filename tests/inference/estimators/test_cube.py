"""Densities on the unit cube: all their mass is inside, also next to its faces."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from mlpop.config.blocks.training import TrainingOptions
from mlpop.config.methods import DENSITIES
from mlpop.inference.estimators.cube import probit
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.prior import RESOLUTION
from mlpop.networks.rng import generator_from_seed, lend
from mlpop.training.fit import fit, validation_split

SIZES = {"hidden_features": 16, "num_components": 3, "num_transforms": 2, "num_bins": 5}
REACH = float(stats.norm.ppf(1 - RESOLUTION))


def _with_random_weights(model, dimension, seed=0):
    """Return an estimator of `dimension` labels and x (3, 2): a typical and two strange ones."""
    spec = EstimatorSpec.parse(SIZES | {"model": model, "x_shape": [2], "dimension": dimension})
    generator = generator_from_seed(seed)
    # in the middle: what random weights make of it is wide, but not beyond what float32 resolves
    theta = 0.3 + 0.4 * torch.rand(60, dimension, generator=generator)
    x = torch.randn(60, 2, generator=generator)
    estimator = build_estimator(spec, theta, x, generator).eval()
    with torch.no_grad():
        for value in estimator.parameters():
            value += 0.2 * torch.randn(value.shape, generator=generator)
    return estimator, torch.tensor([[0.1, -0.3], [1.5, 2.0], [-2.5, 0.5]])


def _grid(dimension, points):
    """Return nodes (n, d) of the cube that crowd at its faces, and the volume (n,) of each."""
    line = torch.linspace(-REACH, REACH, points, dtype=torch.float64)
    step = float(line[1] - line[0])
    nodes = torch.cartesian_prod(*[line] * dimension).view(-1, dimension)
    volume = (step * torch.exp(-0.5 * nodes.square()) / math.sqrt(2 * math.pi)).prod(-1)
    return torch.special.ndtr(nodes).float(), volume


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("model", DENSITIES)
def test_density_integrates_to_one_over_the_cube(model, dimension):
    estimator, x = _with_random_weights(model, dimension)
    nodes, volume = _grid(dimension, 2001 if dimension == 1 else 201)
    with torch.no_grad():
        density = estimator.log_prob(nodes[:, None].expand(-1, 3, -1), x).double().exp()
    integral = (density * volume[:, None]).sum(0)
    # random weights may put some of it nearer to a face than float32 resolves: as many draws
    with lend(generator_from_seed(1)), torch.no_grad():
        u = estimator.sample(torch.Size((20_000,)), x)
    resolved = ((u > RESOLUTION) & (u < 1 - RESOLUTION)).all(-1).double().mean(0)
    torch.testing.assert_close(integral, resolved, rtol=0, atol=0.012)
    assert float(resolved.max()) > 0.7
    assert float(density.std()) > 0.05


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("model", DENSITIES)
def test_all_draws_are_inside_and_follow_the_density(model, dimension):
    estimator, x = _with_random_weights(model, dimension)
    with lend(generator_from_seed(1)), torch.no_grad():
        draws = estimator.sample(torch.Size((2000,)), x)
    assert draws.shape == (2000, 3, dimension)
    assert bool(((draws > 0) & (draws < 1)).all())
    nodes, volume = _grid(dimension, 2001 if dimension == 1 else 201)
    with torch.no_grad():
        density = estimator.log_prob(nodes[:, None].expand(-1, 3, -1), x).double().exp()
    mass = (density * volume[:, None]).T.view(
        3, *[round(len(nodes) ** (1 / dimension))] * dimension
    )
    for row in range(3):
        # those that float32 tells from the faces
        inside = draws[:, row][
            ((draws[:, row] > RESOLUTION) & (draws[:, row] < 1 - RESOLUTION)).all(-1)
        ]
        assert len(inside) > 1000
        for axis in range(dimension):
            marginal = (mass[row].sum(1 - axis) if dimension == 2 else mass[row]).numpy()
            marginal = marginal / marginal.sum()
            # half of a node's mass is on either side of it
            below = marginal.cumsum() - marginal / 2
            level = np.interp(
                probit(inside[:, axis]), np.linspace(-REACH, REACH, len(below)), below
            )
            assert stats.kstest(level, "uniform").pvalue > 1e-3, (axis, row)


@pytest.mark.parametrize("model", DENSITIES)
def test_density_is_finite_on_the_faces_and_differentiable(model):
    estimator, x = _with_random_weights(model, 2)
    points = torch.tensor([[0.0, 0.5], [1.0, 1.0], [RESOLUTION, 0.2], [0.3, 0.6]])
    theta = points[:, None].expand(-1, 3, -1).clone().requires_grad_()
    values = estimator.log_prob(theta, x)
    assert bool(values.isfinite().all())
    (gradient,) = torch.autograd.grad(values.sum(), theta)
    assert bool(gradient.isfinite().all())
    assert bool((gradient[3] != 0).all())


@pytest.mark.parametrize("model", ["mdn", "nsf"])
def test_a_density_of_a_part_of_the_cube_has_all_its_mass_there(model):
    low, high = torch.tensor([0.2, 0.0]), torch.tensor([0.25, 0.6])
    spec = EstimatorSpec.parse(
        SIZES
        | {"model": model, "x_shape": [2], "dimension": 2, "domain": [[0.2, 0.25], [0.0, 0.6]]}
    )
    generator = generator_from_seed(0)
    theta = low + (high - low) * (0.3 + 0.4 * torch.rand(60, 2, generator=generator))
    estimator = build_estimator(spec, theta, torch.randn(60, 2, generator=generator), generator)
    x = torch.tensor([[0.1, -0.3]])
    nodes, volume = _grid(2, 201)
    points = low + (high - low) * nodes
    with lend(generator_from_seed(1)), torch.no_grad():
        density = estimator.log_prob(points[:, None], x).double().exp()[:, 0]
        draws = estimator.sample(torch.Size((2000,)), x)[:, 0]
        outside = estimator.log_prob(torch.tensor([[[0.3, 0.3]], [[0.22, 0.7]]]), x)
    integral = float((density * volume).sum()) * 0.05 * 0.6
    assert integral == pytest.approx(1, abs=0.02)
    assert bool(((draws >= low) & (draws <= high)).all())
    assert bool((outside == -torch.inf).all())


def test_probit_is_the_quantile_of_a_standard_normal():
    u = torch.tensor([RESOLUTION, 1e-4, 0.2, 0.5, 0.9, 1 - RESOLUTION])
    np.testing.assert_allclose(probit(u), stats.norm.ppf(u.double()), rtol=1e-6)
    ends = probit(torch.tensor([0.0, 1.0]))
    np.testing.assert_allclose(ends, [-REACH, REACH], rtol=1e-6)


NOISE, ROWS = 0.25, 6000


def _trained(model):
    """Return a density that has learnt x = theta + N(0, NOISE) of theta in the unit interval."""
    generator = generator_from_seed(2)
    theta = torch.rand(ROWS, 1, generator=generator)
    x = theta + NOISE * torch.randn(ROWS, 1, generator=generator)
    spec = EstimatorSpec.parse(
        SIZES | {"model": model, "x_shape": [1], "dimension": 1, "z_score_x": "independent"}
    )
    estimator = build_estimator(spec, theta, x, generator_from_seed(3))
    fit(
        estimator,
        theta,
        x,
        validation=validation_split(ROWS, 0.1, generator_from_seed(4)),
        generator=generator_from_seed(5),
        options=TrainingOptions(batch_size=200, lr=5e-3, max_num_epochs=20),
    )
    return estimator.eval()


@pytest.mark.parametrize(
    "model",
    [
        "mdn",
        "nsf",
        *(pytest.param(m, marks=pytest.mark.slow) for m in DENSITIES if m not in ("mdn", "nsf")),
    ],
)
def test_a_posterior_that_piles_up_at_an_edge_keeps_its_mass_there(model):
    """x at an edge: the posterior is a normal that the edge cuts, densest at the edge.

    A density that leaks and is cut afterwards has half of this mass in the outermost 5 %. About
    700 simulations are as near to each x as the noise, which tell its mass there to 0.014.
    """
    estimator = _trained(model)
    x = torch.tensor([[0.0], [0.08], [0.92], [1.0]])
    with lend(generator_from_seed(6)), torch.no_grad():
        draws = estimator.sample(torch.Size((4000,)), x)[..., 0].double().numpy()
    for column, centre in enumerate(x[:, 0].tolist()):
        exact = stats.truncnorm(-centre / NOISE, (1 - centre) / NOISE, centre, NOISE)
        lower = centre < 0.5
        expected = exact.cdf(0.05) if lower else exact.sf(0.95)
        found = ((draws < 0.05) if lower else (draws > 0.95))[:, column].mean()
        assert expected > 0.1
        assert found == pytest.approx(expected, abs=0.05), centre
    # over all x alike: of truths that are uniform, 5 % are in either of the outermost 5 %
    generator = generator_from_seed(7)
    theta = torch.rand(2000, 1, generator=generator)
    x = theta + NOISE * torch.randn(2000, 1, generator=generator)
    with lend(generator), torch.no_grad():
        draws = estimator.sample(torch.Size((100,)), x)[..., 0].double().numpy()
    for outermost in (draws < 0.05, draws > 0.95):
        assert outermost.mean() == pytest.approx(0.05, abs=0.012)
