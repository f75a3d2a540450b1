import numpy as np
import pytest
import torch
from analytic import Analytic, cut_normal, gaussian, two_modes
from scipy import stats

from mlpop.inference.mcmc.chains import start_chains
from mlpop.inference.mcmc.kernels import HamiltonianKernel, SliceKernel, jump
from mlpop.inference.mcmc.starting_points import systematic, temper
from mlpop.inference.mcmc.student_mixture import fit_student_mixture
from mlpop.inference.mcmc.target import make_target
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed


def _target(member, x):
    potential = member.log_potential_embedded
    return make_target(potential, torch.as_tensor(x).float(), member.theta_shape[0])


def _whitened(member, x):
    target = _target(member, x)
    centre = torch.full((1, 2), 0.3, dtype=torch.float64)
    factor = torch.tensor([[[0.9, 0.3], [-0.2, 0.5]]], dtype=torch.float64)
    return target.whitened(centre, factor)


def test_density_over_y_has_the_integral_of_the_potential():
    target = _whitened(gaussian(2, 0.3), [[0.8, -0.4]])
    line = torch.linspace(-30, 30, 1201, dtype=torch.float64)
    y = torch.cartesian_prod(line, line)
    value = target.log_density(y, torch.zeros(len(y), dtype=torch.int64)).exp().sum() * 0.05**2
    exact = 1.0
    for centre in (0.8, -0.4):
        # over the unit cube, half as wide as the box of the label
        exact *= cut_normal(centre, 0.3).pdf(centre) ** -1 / 2
    assert float(value) == pytest.approx(exact, rel=2e-3)


def test_gradient_is_that_of_the_density():
    target = _whitened(gaussian(2, 0.5), [[0.1, 0.2]])
    y = torch.tensor([[0.3, -0.8], [1.5, 0.2], [-2.0, 1.0]], dtype=torch.float64)
    owner = torch.zeros(3, dtype=torch.int64)
    value, gradient = target.log_density_and_gradient(y, owner)
    torch.testing.assert_close(value, target.log_density(y, owner))
    for axis in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[axis] = 1e-2
        up, down = target.log_density(y + step, owner), target.log_density(y - step, owner)
        torch.testing.assert_close(gradient[:, axis], (up - down) / 2e-2, rtol=1e-2, atol=1e-3)


def test_theta_never_leaves_the_cube():
    prior = Prior(("a", "b"), (-1.0, 100.0), (3.0, 100.001))
    target = _target(Analytic(lambda theta, x: theta.sum(-1), 2), [[0.0, 0.0]])
    y = torch.tensor([[-800.0, 800.0], [40.0, -40.0], [0.0, 0.0]], dtype=torch.float64)
    theta = target.to_theta(y, torch.zeros(3, dtype=torch.int64))
    assert bool(((theta > 0) & (theta < 1)).all())
    assert prior.contains(prior.to_physical(theta)).all()
    assert theta[2, 0] == 0.5


def test_bad_potentials_count_as_no_density():
    def broken(theta, x):
        return torch.where(theta[..., 0] > 0, torch.nan, torch.inf)

    target = _target(Analytic(broken, 1), [[0.0]])
    y = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    owner = torch.zeros(2, dtype=torch.int64)
    assert target.log_density(y, owner).tolist() == [-np.inf, -np.inf]
    value, gradient = target.log_density_and_gradient(y, owner)
    assert value.tolist() == [-np.inf, -np.inf]
    assert not gradient.any()


@pytest.mark.parametrize("name", ["slice", "hamiltonian", "jump"])
def test_every_step_leaves_the_posterior_as_it_is(name):
    """Chains that start from exact draws stay exact, and move."""
    count = 6000
    member = gaussian(2, 0.3)
    target = _whitened(member, [[0.8, -0.4]])
    exact = np.stack(
        [cut_normal(centre, 0.3).rvs(count, random_state=3) for centre in (0.8, -0.4)], 1
    )
    exact[:, 1] = np.random.default_rng(1).permutation(exact[:, 1])
    z = torch.from_numpy((exact + 1) / 2).logit()
    y = torch.linalg.solve(target.factor[0], (z - target.centre[0]).T).T
    chains = start_chains(target, y[None])
    generator = generator_from_seed(4)
    if name == "slice":
        # far too narrow for some chains, far too wide for others
        widths = torch.logspace(-1, 1.5, count, dtype=torch.float64)[:, None].repeat(1, 2)
        SliceKernel(widths).step(target, chains, generator, learn=False)
    elif name == "hamiltonian":
        kernel = HamiltonianKernel(torch.tensor([0.9], dtype=torch.float64).log())
        kernel.step(target, chains, generator, learn=False)
    else:
        # fitted to something else: slow, but right
        jump(target, chains, fit_student_mixture(0.7 * y[None, :500] + 0.3, generator), generator)
    theta = 2 * target.to_theta(chains.y, chains.owner).double().numpy() - 1
    moved = (np.abs(theta - exact) > 1e-5).all(1).mean()
    assert moved > 0.5
    for label, centre in enumerate((0.8, -0.4)):
        truth = cut_normal(centre, 0.3)

        assert stats.kstest(theta[:, label], truth.cdf).pvalue > 0.01
    assert abs(np.corrcoef(theta.T)[0, 1]) < 0.04
    torch.testing.assert_close(
        chains.log_density, target.log_density(chains.y, chains.owner), rtol=1e-5, atol=1e-5
    )


def test_mixture_is_a_density_and_finds_modes():
    generator = generator_from_seed(0)
    normal = torch.randn(2, 900, 1, generator=generator, dtype=torch.float64)
    sign = torch.where(torch.rand(2, 900, 1, generator=generator) < 0.3, -1.0, 1.0)
    points = torch.stack([normal[0], sign[1] * 0.9 + 0.1 * normal[1]])
    mixture = fit_student_mixture(points, generator)
    line = torch.linspace(-60, 60, 48_001, dtype=torch.float64)
    density = mixture.log_prob(line[None, :, None].expand(2, -1, -1)).exp()
    torch.testing.assert_close(
        density.sum(1) * 0.0025, torch.ones(2, dtype=torch.float64), rtol=1e-3, atol=0
    )
    draws = mixture.sample(20_000, generator)[..., 0]
    for row in range(2):
        below = density[row, line < 0].sum() * 0.0025
        assert float((draws[row] < 0).double().mean()) == pytest.approx(float(below), abs=0.015)
    assert float((draws[1] < 0).double().mean()) == pytest.approx(0.32, abs=0.05)
    # between the modes there is next to nothing
    assert float(density[1, line.abs() < 0.02].mean()) < 0.1 * float(density[1].max())


def test_systematic_draws_are_as_even_as_can_be():
    weights = torch.tensor([[0.25, 0.5, 0.25], [0.1, 0.0, 0.9]])
    chosen = systematic(weights, 10, generator_from_seed(0))
    for row, expected in zip(chosen, weights, strict=True):
        counts = torch.bincount(row, minlength=3)
        assert bool(((counts - 10 * expected).abs() < 1).all())
    many = [systematic(weights[1:], 1, generator_from_seed(i))[0, 0].item() for i in range(2000)]
    assert np.mean(np.array(many) == 0) == pytest.approx(0.1, abs=0.02)
    assert 1 not in many


def test_prior_candidates_are_enough_for_a_wide_posterior():
    particles = temper(
        _target(gaussian(1, 0.5), [[0.0]]),
        generator_from_seed(0),
        num_candidates=4000,
        num_particles=500,
    )
    assert particles.stages.tolist() == [1]
    assert 1000 < float(particles.candidate_ess) < 4000


def test_tempering_finds_a_needle_in_five_dimensions():
    """Of 4000 prior candidates not one is near: 1e-10 of the prior's volume, in two modes."""
    member = two_modes(5, 0.01, 0.7)
    target = _target(member, [[0.0] * 5] * 4)
    particles = temper(target, generator_from_seed(1), num_candidates=4000, num_particles=500)
    assert bool(particles.ok.all())
    assert float(particles.candidate_ess.max()) < 10
    assert int(particles.stages.min()) > 4
    owner = torch.arange(4).repeat_interleave(500)
    theta = 2 * target.to_theta(particles.y.view(-1, 5), owner).view(4, 500, 5) - 1
    first = (theta[..., 0] < 0).double().mean()
    assert float(first) == pytest.approx(0.7, abs=0.12)
    spread = torch.where(theta < 0, theta + 0.5, theta - 0.5).std()
    assert float(spread) == pytest.approx(0.01, rel=0.1)


def test_hopeless_observations_are_told():
    def only_first(theta, x):
        return torch.where(x[..., 0] > 0, -theta.square().sum(-1), torch.nan)

    particles = temper(
        _target(Analytic(only_first, 1), [[1.0], [-1.0]]),
        generator_from_seed(0),
        num_candidates=500,
        num_particles=100,
    )
    assert particles.ok.tolist() == [True, False]
