"""Regions, covers, thresholds and rejection, each against what is known in closed form."""

import math

import numpy as np
import pytest
import torch
from closed_forms import MixtureAt
from scipy import stats

from mlpop.inference.posteriors.arguments import SamplingError
from mlpop.inference.proposals.enclosing_region import enclose
from mlpop.inference.proposals.rejection import Budget, reject
from mlpop.inference.proposals.resampling import resample
from mlpop.inference.proposals.shapes import Box, Ellipsoids
from mlpop.inference.proposals.truncation import (
    Support,
    enclose_support,
    find_support,
    posterior_source,
    prior_source,
)
from mlpop.networks.rng import generator_from_seed


def rotation(size, seed=0):
    matrix = np.random.default_rng(seed).standard_normal((size, size))
    return torch.from_numpy(np.linalg.qr(matrix)[0])


@pytest.mark.parametrize("size", [1, 2, 6])
def test_ellipsoid_draws_are_uniform_and_its_volume_is_right(size):
    factor = torch.linalg.cholesky(
        torch.eye(size, dtype=torch.float64) + 0.5 * torch.ones(size, size)
    )
    centre = torch.arange(size, dtype=torch.float64)
    ellipsoid = Ellipsoids(centre[None], 0.1 * factor[None])
    points = ellipsoid.sample(4000, generator_from_seed(size))
    ball = torch.linalg.solve_triangular(0.1 * factor, (points - centre).T, upper=False)
    assert stats.kstest(ball.norm(dim=0).numpy() ** size, "uniform").pvalue > 1e-3
    for axis in range(size):
        sides = (ball[axis] > 0).double().mean()
        assert abs(float(sides) - 0.5) < 4 * 0.5 / 4000**0.5
    unit = {1: 2.0, 2: math.pi, 6: math.pi**3 / 6}[size]
    expected = unit * 0.1**size * float(factor.diagonal().prod())
    assert math.exp(ellipsoid.log_volume) == pytest.approx(expected)
    assert math.exp(ellipsoid.widened(2).log_volume) == pytest.approx(2 * expected)


def test_union_of_overlapping_ellipsoids_is_drawn_from_uniformly():
    circle = 0.3 * torch.eye(2, dtype=torch.float64)
    centres = torch.tensor([[0.0, 0.0], [0.3, 0.0]], dtype=torch.float64)
    union = Ellipsoids(centres, torch.stack([circle, circle]))
    points = union.sample(40_000, generator_from_seed(1))
    lens = 2 * 0.09 * math.acos(0.5) - 0.15 * math.sqrt(4 * 0.09 - 0.09)
    area = 2 * math.pi * 0.09 - lens
    both = (torch.cdist(points, centres) <= 0.3).all(1).double().mean()
    assert float(both) == pytest.approx(lens / area, abs=4 * 0.5 / len(points) ** 0.5)
    kept = len(points) / 40_000 * math.exp(union.log_volume)
    assert kept == pytest.approx(area, rel=0.02)
    assert bool(union.contains(points).all())


@pytest.mark.parametrize("aligned", [True, False])
def test_box_draws_are_uniform_inside_it(aligned):
    axes = torch.eye(3, dtype=torch.float64) if aligned else rotation(3)
    low = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    high = torch.tensor([0.2, 0.6, 0.9], dtype=torch.float64)
    box = Box(axes, low, high, aligned)
    points = box.sample(4000, generator_from_seed(3))
    places = ((points @ axes - low) / (high - low)).numpy()
    for axis in range(3):
        assert stats.kstest(places[:, axis], "uniform").pvalue > 1e-3
    assert bool(box.contains(points).all())
    assert math.exp(box.log_volume) == pytest.approx(0.1 * 0.4 * 0.6)
    assert math.exp(box.widened(2).log_volume) == pytest.approx(2 * 0.024)


def test_aligned_box_ends_where_the_prior_ends():
    eye = torch.eye(2, dtype=torch.float64)
    low, high = torch.tensor([0.0, 0.5]).double(), torch.tensor([0.5, 0.99]).double()
    wide = Box(eye, low, high, True).widened(4)
    assert float(wide.low[0]) == 0
    assert float(wide.high[1]) == 1


def ask(contains):
    def inside(points):
        return len(points), contains(points)

    return inside


def test_cover_grows_to_parts_that_the_points_never_saw():
    """The points know the inner third of a ball only; the search finds the rest."""
    centre = torch.full((4,), 0.5, dtype=torch.float64)

    def contains(points):
        return (points - centre).norm(dim=1) < 0.3

    generator = generator_from_seed(5)
    normal = torch.randn(4000, 4, generator=generator, dtype=torch.float64)
    points = centre + 0.03 * normal
    points = points[(points - centre).norm(dim=1) < 0.1]
    enclosure = enclose(
        "ellipsoid", points, torch.zeros(len(points)).double(), ask(contains), generator
    )
    assert enclosure.missed == 0
    shell = normal / normal.norm(dim=1, keepdim=True) * 0.2995 + centre
    assert float(enclosure.region.contains(shell).double().mean()) > 0.999
    assert enclosure.acceptance > 0.6
    assert enclosure.uncovered < 0.01


@pytest.mark.parametrize("shape", ["ellipsoid", "box", "rotated box"])
def test_cover_of_two_modes_loses_neither(shape):
    generator = generator_from_seed(6)
    centres = torch.tensor([[0.2] * 3, [0.8] * 3], dtype=torch.float64)

    def contains(points):
        return (torch.cdist(points, centres) < 0.05).any(1)

    which = torch.rand(6000, generator=generator) < 0.02
    points = centres[which.long()] + 0.012 * torch.randn(
        6000, 3, generator=generator, dtype=torch.float64
    )
    points = points[contains(points)]
    enclosure = enclose(shape, points, torch.zeros(len(points)).double(), ask(contains), generator)
    ball = torch.randn(2000, 3, generator=generator, dtype=torch.float64)
    surface = 0.0499 * ball / ball.norm(dim=1, keepdim=True)
    for centre in centres:
        assert float(enclosure.region.contains(centre + surface).double().mean()) > 0.99
    if shape == "ellipsoid":
        assert enclosure.acceptance > 0.5
        assert len(enclosure.region.centres) == 2


def test_cover_splits_a_curved_support():
    """A thin ring: one ellipsoid would be mostly empty."""
    generator = generator_from_seed(7)
    angle = 2 * math.pi * torch.rand(5000, generator=generator, dtype=torch.float64)
    radius = 0.3 + 0.01 * (torch.rand(5000, generator=generator, dtype=torch.float64) - 0.5)
    points = 0.5 + torch.stack([radius * angle.cos(), radius * angle.sin()], 1)

    def contains(points):
        return ((points - 0.5).norm(dim=1) - 0.3).abs() < 0.005

    enclosure = enclose("ellipsoid", points, torch.zeros(5000).double(), ask(contains), generator)
    assert enclosure.missed == 0
    # one ellipsoid: 0.07
    assert enclosure.acceptance > 0.2
    assert bool(enclosure.region.contains(points).all())


def test_threshold_is_the_element_at_epsilon_of_the_sorted_densities_B4(mixture_at):
    posterior = mixture_at([[0.0, 0.0]], [np.eye(2) * 0.01])
    draws = posterior.sample(10_000, generator_from_seed(8))
    pilot = find_support(posterior, draws, 1e-2)
    assert pilot.support.threshold == float(posterior.log_prob(draws).double().sort().values[100])
    assert bool(pilot.support.contains(pilot.theta).all())
    # below a density, a Gaussian in 2-d has mass density * 2 pi sigma^2; the box has an area of 4
    mass = math.exp(pilot.support.threshold) / 4 * 2 * math.pi * 0.01
    assert mass == pytest.approx(1e-2, rel=0.35)


class Pool(MixtureAt):
    """Two members, each a Gaussian with the same outlier's share elsewhere."""

    def __init__(self, *parts):
        super().__init__(
            [m for p in parts for m in p.means],
            [part.covariance_matrix for p in parts for part in p.parts],
            [float(w) for p in parts for w in p.weights],
        )
        self.members = parts

    def consensus(self, theta):
        return torch.stack([part.log_prob(theta) for part in self.members]).mean(0)


def test_support_is_where_the_members_agree():
    """Each has an island of 1 % of its mass where the other one has none."""
    cores = [[-0.02, 0.0], [0.02, 0.0]]
    islands = [[-0.8, 0.8], [0.8, -0.8]]
    members = [
        MixtureAt([core, island], [np.eye(2) * 0.1**2, np.eye(2) * 0.04**2], [0.99, 0.01])
        for core, island in zip(cores, islands, strict=True)
    ]
    posterior = Pool(*members)
    draws = posterior.sample(100_000, generator_from_seed(1))
    pilot = find_support(posterior, draws, 1e-4)
    assert not bool(pilot.support.contains(posterior.from_box(torch.tensor(islands))).any())
    # the geometric mean of two Gaussians of one covariance is one between them
    middle = MixtureAt([[0.0, 0.0]], [np.eye(2) * 0.1**2])
    exact = find_support(middle, middle.sample(100_000, generator_from_seed(2)), 1e-4)
    area = [
        float(p.support.contains(torch.rand(200_000, 2, generator=generator_from_seed(3))).sum())
        for p in (pilot, exact)
    ]
    assert area[0] == pytest.approx(area[1], rel=0.1)
    # uniform, whatever draws it
    one, *_ = reject(
        posterior_source(pilot.support, posterior.sample),
        1500,
        generator_from_seed(4),
        Budget(10**7, 60),
        expected=0.01,
    )
    two, *_ = reject(
        prior_source(pilot.support), 1500, generator_from_seed(5), Budget(10**7, 60), expected=0.1
    )
    for axis in range(2):
        assert stats.ks_2samp(one[:, axis], two[:, axis]).pvalue > 1e-3


def test_members_that_never_agree_are_refused():
    far = [MixtureAt([[c, c]], [np.eye(2) * 1e-4]) for c in (-0.9, 0.9)]
    posterior = Pool(*far)
    with pytest.raises(SamplingError, match="where all its networks"):
        find_support(posterior, posterior.sample(1000, generator_from_seed(1)), 1e-4)


def test_broken_density_is_refused(mixture_at):
    posterior = mixture_at([[0.0, 0.0]], [np.eye(2) * 0.01])
    posterior.log_prob = lambda theta: torch.full((len(theta),), float("nan"))
    draws = posterior.sample(1000, generator_from_seed(8))
    with pytest.raises(SamplingError, match="not finite at 1000 of 1000 draws of its own"):
        find_support(posterior, draws, 1e-4)
    posterior.log_prob = lambda theta: torch.zeros(len(theta))
    with pytest.raises(SamplingError, match="only 0 of 1000 draws .* same density"):
        find_support(posterior, draws, 1e-4)


def test_support_ends_at_the_prior(mixture_at):
    posterior = mixture_at([[0.9, 0.0]], [np.eye(2) * 0.01])
    support = Support(posterior, -5.0)
    theta = torch.tensor([[0.95, 0.5], [1.0, 0.5], [1.0001, 0.5], [float("nan"), 0.5]])
    assert support.contains(theta).tolist() == [True, True, False, False]


def test_posterior_rejection_is_uniform(mixture_at):
    """Against prior rejection, both on the same support of two modes of unequal weight."""
    posterior = mixture_at(
        [[-0.5, 0.0], [0.5, 0.2]], [np.eye(2) * 0.06**2, np.eye(2) * 0.1**2], [0.9, 0.1]
    )
    pilot = find_support(posterior, posterior.sample(20_000, generator_from_seed(1)), 1e-2)
    support = pilot.support
    exact = posterior_source(support, posterior.sample)
    one, accepted_1, attempts_1 = reject(
        exact, 1500, generator_from_seed(2), Budget(10**7, 60), expected=0.1
    )
    two, accepted_2, attempts_2 = reject(
        prior_source(support), 1500, generator_from_seed(3), Budget(10**7, 60), expected=0.1
    )
    for axis in range(2):
        assert stats.ks_2samp(one[:, axis], two[:, axis]).pvalue > 1e-3
    assert accepted_1 / attempts_1 == pytest.approx(pilot.posterior_acceptance, rel=0.1)
    # density of an accepted draw is exp(tau) everywhere: acceptance over it is the volume
    volume = accepted_1 / attempts_1 * math.exp(-support.threshold)
    assert volume == pytest.approx(accepted_2 / attempts_2, rel=0.1)


class CoinSource:
    name = "coin"

    def __init__(self, rate):
        self.rate = rate
        self.lots = []

    def attempt(self, count, generator):
        self.lots.append(count)
        theta = torch.rand(count, 1, generator=generator)
        return theta[theta[:, 0] < self.rate]


def test_rejection_makes_few_attempts_more_than_needed():
    source = CoinSource(0.05)
    theta, accepted, attempts = reject(
        source, 500, generator_from_seed(0), Budget(10**6, 60), expected=0.05
    )
    assert len(theta) == 500
    assert sum(source.lots) == attempts < 1.3 * 500 / 0.05
    assert accepted >= 500


def test_attempt_budget_ends_in_an_error_that_says_what_to_change():
    source = CoinSource(1e-4)
    budget = Budget(200_000, 60, "Ask for fewer draws")
    with pytest.raises(
        SamplingError, match=r"coin: \d+ of 500 draws after \d+ attempts, acceptance .*Ask for"
    ):
        reject(source, 500, generator_from_seed(0), budget, expected=1e-4)
    # seen long before the budget was spent
    assert sum(source.lots) <= 100_000


def test_time_budget_ends_in_an_error_and_never_changes_draws():
    with pytest.raises(SamplingError, match="cannot be drawn within 0 s"):
        reject(CoinSource(0.5), 10**6, generator_from_seed(0), Budget(10**8, 0.0), expected=0.5)
    plenty, *_ = reject(
        CoinSource(0.5), 100, generator_from_seed(0), Budget(10**4, 1), expected=0.5
    )
    more, *_ = reject(
        CoinSource(0.5), 100, generator_from_seed(0), Budget(10**4, 9e9), expected=0.5
    )
    assert torch.equal(plenty, more)


def test_resampling_stays_inside_and_near_the_exact_radius_F10(mixture_at):
    """B4: 0.645 of the radius where 0.667 is exact; sbi's own has 0.15 % outside and 0.50."""
    posterior = mixture_at([[0.0, 0.0]], [np.eye(2) * 0.3**2], edge=5.0)
    pilot = find_support(posterior, posterior.sample(50_000, generator_from_seed(1)), 1e-4)
    support = pilot.support
    theta, attempts, ess_median = resample(
        support, posterior.sample, 1500, generator_from_seed(2), Budget(10**7, 60), candidates=1024
    )
    log_peak = float(posterior.log_prob(torch.full((1, 2), 0.5)))
    edge = 0.3 * math.sqrt(2 * (log_peak - support.threshold))
    ratio = float(posterior.to_box(theta).norm(dim=1).mean()) / edge
    assert bool(support.contains(theta).all())
    assert ratio == pytest.approx(2 / 3, rel=0.05)
    assert ratio < 0.66
    assert 1 < ess_median < 60
    assert attempts == 1500 * 1024


def test_resampling_more_candidates_than_attempts_is_refused_before_drawing(mixture_at):
    posterior = mixture_at([[0.0, 0.0]], [np.eye(2) * 0.3**2], edge=5.0)
    with pytest.raises(SamplingError, match="with 1024 candidates: 0 of 2000 draws"):
        resample(
            Support(posterior, -5.0),
            posterior.sample,
            2000,
            generator_from_seed(2),
            Budget(10**5, 60),
            candidates=1024,
        )
    assert posterior.draws_made == 0


def test_cover_counts_what_it_asks_for(mixture_at):
    """A posterior at a corner of the prior: half of the ellipsoid's draws need no density."""
    posterior = mixture_at([[0.98, 0.98]], [np.eye(2) * 0.05**2])
    pilot = find_support(posterior, posterior.sample(20_000, generator_from_seed(1)), 1e-3)
    enclosure = enclose_support(pilot, "ellipsoid", generator_from_seed(2))
    assert 0.2 < enclosure.evaluations < 0.9
    assert bool(enclosure.region.contains(pilot.theta.double()).all())
