"""Proposals of the next round: exact draws of an analytic truncated posterior by every method."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from mlpop.inference.posteriors.arguments import SamplingError
from mlpop.inference.prior import in_cube
from mlpop.inference.proposals import truncated_proposal
from mlpop.inference.proposals.proposal import make_proposal
from mlpop.inference.proposals.proposal_draw import MAX_REDRAWS
from mlpop.inference.proposals.truncation import Support
from mlpop.networks.rng import generator_from_seed

EPSILON = 1e-4


def draw_proposal(conditioned, num_samples, generator, *, kind, **options):
    """Make a proposal and draw from it once."""
    making = {name: options.pop(name) for name in ("sampler", "sir_candidates") if name in options}
    proposal = make_proposal(conditioned, generator, kind=kind, **making)
    return proposal.draw(num_samples, generator, **options)


def ball_volume(size):
    return math.exp(size / 2 * math.log(math.pi) - math.lgamma(size / 2 + 1))


def gaussian_at_acceptance(mixture_at, size, acceptance, **options):
    """A Gaussian whose support for `EPSILON` is a ball of `acceptance` times the prior's box."""
    radius = (acceptance * 2**size / ball_volume(size)) ** (1 / size)
    assert radius <= 1
    spread = radius / math.sqrt(stats.chi2.ppf(1 - EPSILON, size))
    return mixture_at([[0.0] * size], [np.eye(size) * spread**2], **options)


def edge_of(posterior, threshold):
    """Radius, in units of the box, at which a round Gaussian's density falls to the threshold."""
    size = posterior.means.shape[1]
    spread = float(posterior.parts[0].scale_tril[0, 0])
    log_peak = float(posterior.log_prob(torch.full((1, size), 0.5)))
    return spread * math.sqrt(2 * (log_peak - threshold))


def check_uniform_ball(posterior, draw):
    """(r / R)^d uniform, all octants alike, none outside, and the right volume."""
    size = posterior.means.shape[1]
    edge = edge_of(posterior, draw.threshold)
    theta = posterior.to_box(draw.theta)
    radius = theta.norm(dim=1).numpy() / edge
    assert radius.max() < 1
    assert draw.outside_fraction == 0
    assert stats.kstest(radius**size, "uniform").pvalue > 1e-3
    sides = (theta > 0).double().mean(0)
    assert float((sides - 0.5).abs().max()) < 4.5 * 0.5 / len(theta) ** 0.5
    volume = ball_volume(size) * edge**size / 2**size
    assert draw.volume_error < 0.2 * volume
    assert abs(draw.volume_fraction - volume) < 4.5 * draw.volume_error
    assert draw.exact


METHODS = {
    "auto": (2, 5, 6),
    "sir": (2, 5, 6),
    "box": (2, 5, 6),
}
GRID = [
    (sampler, size, acceptance)
    for sampler, sizes in METHODS.items()
    for size in sizes
    for acceptance in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    # the largest ball in a box of six dimensions has 0.081 of it
    if not (size == 6 and acceptance == 1e-1)
]
FAST = {("auto", 2, 1e-5), ("sir", 5, 1e-4), ("sir", 6, 1e-6), ("box", 5, 1e-3)}


@pytest.mark.parametrize(
    ("sampler", "size", "acceptance"),
    [
        pytest.param(
            *cell, marks=() if cell in FAST else pytest.mark.slow, id="{}-{}-{}".format(*cell)
        )
        for cell in [*GRID, ("auto", 6, 0.08), ("sir", 6, 0.08), ("box", 6, 0.08)]
    ],
)
def test_truncated_prior_is_exact_S21_F10(mixture_at, sampler, size, acceptance):
    posterior = gaussian_at_acceptance(mixture_at, size, acceptance)
    draw = draw_proposal(
        posterior, 2000, generator_from_seed(size), kind="truncated", sampler=sampler
    )
    check_uniform_ball(posterior, draw)
    assert draw.sampler == sampler
    assert draw.uncovered < 0.01
    # what a pilot finds: plain rejection while it is cheap, then far better
    if sampler != "box":
        ellipsoid = draw.method == "ellipsoid rejection"
        assert ellipsoid if acceptance < 5e-3 else draw.acceptance > 5e-3
    assert draw.acceptance > (5e-3 if acceptance > 5e-3 else 0.08)


@pytest.mark.parametrize(
    ("size", "acceptance"),
    [
        (2, 1e-1),
        (5, 1e-2),
        pytest.param(6, 1e-2, marks=pytest.mark.slow),
        pytest.param(2, 1e-3, marks=pytest.mark.slow),
        pytest.param(5, 1e-3, marks=pytest.mark.slow),
        pytest.param(6, 1e-3, marks=pytest.mark.slow),
        pytest.param(2, 1e-4, marks=pytest.mark.slow),
        pytest.param(6, 1e-4, marks=pytest.mark.slow),
    ],
)
def test_prior_rejection_is_exact(mixture_at, size, acceptance):
    posterior = gaussian_at_acceptance(mixture_at, size, acceptance)
    draw = draw_proposal(
        posterior, 1000, generator_from_seed(size), kind="truncated", sampler="rejection"
    )
    assert draw.method == "prior rejection"
    check_uniform_ball(posterior, draw)


@pytest.mark.slow
@pytest.mark.parametrize("acceptance", [1e-1, 1e-4, 1e-6])
@pytest.mark.parametrize("size", [2, 5])
def test_posterior_rejection_is_exact_at_any_width(mixture_at, size, acceptance, monkeypatch):
    """The method of last resort, which needs no region: forced by leaving no other affordable."""

    posterior = gaussian_at_acceptance(mixture_at, size, acceptance)
    choose = truncated_proposal._choose

    def only_last(ways, *arguments):
        return (
            ways[-1] if ways[-1].source.name == "posterior rejection" else choose(ways, *arguments)
        )

    monkeypatch.setattr(truncated_proposal, "_choose", only_last)
    monkeypatch.setattr(truncated_proposal, "PRIOR_ACCEPTANCE", 2.0)
    draw = draw_proposal(posterior, 1000, generator_from_seed(size), kind="truncated")
    assert draw.method == "posterior rejection"
    check_uniform_ball(posterior, draw)


def reference(posterior, threshold, count, seed):
    """Uniform draws of a support in two dimensions: a fine grid, cell by cell."""
    support = Support(posterior, threshold)
    side = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    grid = torch.cartesian_prod(side, side)
    cells = grid[support.contains(grid.float())]
    rows = torch.randint(len(cells), (count,), generator=generator_from_seed(seed))
    jitter = torch.rand(count, 2, generator=generator_from_seed(seed + 1)).double() - 0.5
    return (cells[rows] + jitter / 1000).float(), len(cells) / len(grid)


SHAPES = {
    "prior edge": ([[-0.99, 0.3]], [np.eye(2) * 0.015**2], None),
    "prior corner": ([[-0.98, 0.99]], [np.diag([0.02, 0.01]) ** 2], None),
    "correlated": ([[0.0, 0.0]], [0.08**2 * np.array([[1, 0.999], [0.999, 1]])], None),
    "two modes": ([[-0.6, -0.5], [0.6, 0.4]], [np.eye(2) * 0.01**2] * 2, None),
    "unequal modes": (
        [[-0.6, -0.5], [0.6, 0.4]],
        [np.eye(2) * 0.008**2, np.eye(2) * 0.012**2],
        [0.97, 0.03],
    ),
    "a mode that is narrow": (
        [[-0.6, -0.5], [0.6, 0.4]],
        [np.eye(2) * 0.015**2, np.eye(2) * 0.003**2],
        [0.9, 0.1],
    ),
    "core in a halo": (
        [[0.0, 0.0], [0.02, 0.02]],
        [np.eye(2) * 0.004**2, np.eye(2) * 0.02**2],
        [9.0, 1.0],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sampler", ["auto", "box"])
def test_truncated_prior_of_other_shapes(mixture_at, shape, sampler):
    means, covariances, weights = SHAPES[shape]
    posterior = mixture_at(means, covariances, weights)
    draw = draw_proposal(
        posterior, 3000, generator_from_seed(3), kind="truncated", sampler=sampler
    )
    assert draw.method == "ellipsoid rejection" if sampler == "auto" else "box" in draw.method
    assert draw.outside_fraction == 0
    assert bool(in_cube(draw.theta).all())
    exact, fraction = reference(posterior, draw.threshold, 20_000, 5)
    assert draw.volume_fraction == pytest.approx(fraction, rel=0.02, abs=4.5 * draw.volume_error)
    for direction in ([1, 0], [0, 1], [1, 1], [1, -1]):
        along = torch.tensor(direction).float()
        one, two = (draw.theta @ along).numpy(), (exact @ along).numpy()
        assert stats.ks_2samp(one, two).pvalue > 1e-3
    if len(means) == 2 and shape != "core in a halo":
        share = [(each[:, 0] > 0.5).double().mean() for each in (draw.theta, exact)]
        assert 0 < share[0] < 1
        assert float(share[0]) == pytest.approx(float(share[1]), abs=4 * 0.5 / 3000**0.5)


@pytest.mark.parametrize("sampler", ["auto", "sir", "box"])
@pytest.mark.parametrize(("size", "acceptance"), [(2, 0.05), (2, 1e-5), (6, 0.05), (6, 1e-6)])
def test_the_box_around_a_posterior_is_filled(mixture_at, size, acceptance, sampler):
    posterior = gaussian_at_acceptance(mixture_at, size, acceptance)
    proposal = make_proposal(
        posterior, generator_from_seed(1), kind="truncated", sampler=sampler, region="box"
    )
    draw = proposal.draw(4000, generator_from_seed(2))
    low, high = torch.tensor(draw.box, dtype=torch.float64).unbind(-1)
    volume = float((high - low).prod())
    assert draw.exact
    assert draw.threshold is None
    assert draw.outside_fraction == draw.apart_fraction == 0
    assert abs(draw.volume_fraction - volume) <= 4.5 * draw.volume_error + 1e-6 * volume
    for place in ((draw.theta - low) / (high - low)).T:
        assert stats.kstest(place.numpy(), "uniform").pvalue > 1e-4
    dense = draw_proposal(posterior, 4000, generator_from_seed(1), kind="truncated").theta
    assert bool(proposal.support.contains(dense).all())
    spread = (dense.max(0).values - dense.min(0).values).numpy()
    assert (high - low).numpy() == pytest.approx(spread, rel=0.25)
    assert proposal.log_ratio(draw.theta).numpy() == pytest.approx(-math.log(volume), abs=0.2)
    beyond = low - 0.01 * (high - low)
    assert float(proposal.log_ratio(beyond[None].float())) == -math.inf


def test_modes_in_five_dimensions_are_all_there(mixture_at):
    rng = np.random.default_rng(0)
    means = rng.uniform(-0.8, 0.8, (5, 5))
    spreads = np.array([0.03, 0.03, 0.03, 0.03, 0.04])
    posterior = mixture_at(means, [np.eye(5) * spread**2 for spread in spreads])
    draw = draw_proposal(posterior, 4000, generator_from_seed(3), kind="truncated")
    assert draw.method == "ellipsoid rejection"
    assert draw.acceptance > 0.3
    nearest = torch.cdist(posterior.to_box(draw.theta), posterior.means).argmin(1)
    share = torch.bincount(nearest, minlength=5).double() / 4000
    # a mode's ball ends where its own density is the threshold
    heights = posterior.log_prob(posterior.from_box(posterior.means)).double().numpy()
    volumes = (spreads * np.sqrt(2 * (heights - draw.threshold))) ** 5
    expected = volumes / volumes.sum()
    assert np.abs(share.numpy() - expected).max() < 4.5 * 0.5 / 4000**0.5
    total = volumes.sum() * ball_volume(5) / 2**5
    assert abs(draw.volume_fraction - total) < 4.5 * draw.volume_error + 0.002 * total


def test_pilot_picks_prior_rejection_for_a_wide_mixture(mixture_at):
    """An under-trained ensemble: a narrow member among wide ones that fill much of the prior."""
    posterior = mixture_at(
        [[0.0] * 5, [0.3] * 5], [np.eye(5) * 0.05**2, np.eye(5) * 0.4**2], [3.0, 1.0]
    )
    draw = draw_proposal(posterior, 1000, generator_from_seed(1), kind="truncated")
    assert draw.method == "prior rejection"
    assert 0.05 < draw.volume_fraction < 1
    assert draw.outside_fraction == 0
    assert list(draw.pilot) == ["prior rejection"]


def test_markov_chain_posteriors_need_few_draws(mixture_at):
    """Draws are dear: same support, no draws but the pilot's."""
    chains = gaussian_at_acceptance(mixture_at, 3, 1e-4, cheap=False)
    draw = draw_proposal(chains, 1000, generator_from_seed(1), kind="truncated")
    assert chains.draws_made == draw.threshold_samples == 10_000
    assert draw.method == "ellipsoid rejection"
    edge = edge_of(chains, draw.threshold)
    radius = chains.to_box(draw.theta).norm(dim=1).numpy() / edge
    assert stats.kstest(radius**3, "uniform").pvalue > 1e-3
    volume = ball_volume(3) * edge**3 / 8
    assert abs(draw.volume_fraction - volume) < 4.5 * draw.volume_error


def test_same_generator_same_bits(mixture_at):
    posterior = gaussian_at_acceptance(mixture_at, 4, 1e-4)
    one, two, other = (
        draw_proposal(posterior, 500, generator_from_seed(seed), kind="truncated")
        for seed in (7, 7, 8)
    )
    assert torch.equal(one.theta, two.theta)
    assert one.to_dict() == two.to_dict()
    assert not torch.equal(one.theta, other.theta)


@pytest.mark.parametrize("kind", ["truncated", "posterior"])
def test_draws_of_one_proposal_share_its_edge_and_do_not_depend_on_each_other(mixture_at, kind):
    posterior = gaussian_at_acceptance(mixture_at, 2, 1e-4)
    proposal = make_proposal(posterior, generator_from_seed(7), kind=kind)
    first = proposal.draw(300, generator_from_seed(1))
    second = proposal.draw(500, generator_from_seed(2))
    assert first.threshold == second.threshold
    assert torch.equal(proposal.draw(300, generator_from_seed(1)).theta, first.theta)
    again = make_proposal(posterior, generator_from_seed(7), kind=kind)
    assert torch.equal(again.draw(500, generator_from_seed(2)).theta, second.theta)


def test_record_is_plain_json_without_times(mixture_at):
    posterior = gaussian_at_acceptance(mixture_at, 2, 1e-4)
    draw = draw_proposal(posterior, 200, generator_from_seed(7), kind="truncated")
    record = json.loads(json.dumps(draw.to_dict(), allow_nan=False))
    assert record == draw.to_dict()
    assert record["num_samples"] == 200
    assert "seconds" not in record
    assert draw.seconds > 0
    for name in ("method", "acceptance", "attempts", "volume_fraction", "outside_fraction"):
        assert name in record


def test_hopeless_prior_rejection_says_what_to_do(mixture_at):
    posterior = gaussian_at_acceptance(mixture_at, 5, 1e-6)
    with pytest.raises(
        SamplingError,
        match=r"prior rejection: .* acceptance .* attempts\. Set "
        "trainer.truncation_sampler to 'box' or 'sir'",
    ):
        draw_proposal(
            posterior,
            1000,
            generator_from_seed(1),
            kind="truncated",
            sampler="rejection",
            max_attempts=500_000,
        )


@pytest.mark.parametrize("sampler", [pytest.param("auto", marks=pytest.mark.slow), "sir"])
def test_no_exact_method_within_the_attempts(mixture_at, sampler, monkeypatch):
    """Forty modes are too many for ellipsoids: `auto` refuses, `sir` resamples and says so."""
    means = np.random.default_rng(1).uniform(-0.9, 0.9, (40, 4))
    posterior = mixture_at(means, [np.eye(4) * 0.005**2] * 40)
    options = {"kind": "truncated", "max_attempts": 500 * 8, "sir_candidates": 8}
    monkeypatch.setattr(truncated_proposal, "EPSILON", 1e-3)
    monkeypatch.setattr(truncated_proposal, "CHEAP_THRESHOLD_SAMPLES", 5000)
    if sampler == "auto":
        with pytest.raises(
            SamplingError, match="no exact method can make 500 draws .* trainer.sir to true"
        ):
            draw_proposal(posterior, 500, generator_from_seed(1), sampler=sampler, **options)
        return
    draw = draw_proposal(posterior, 500, generator_from_seed(1), sampler=sampler, **options)
    assert draw.method == "sampling-importance-resampling"
    assert not draw.exact
    assert draw.outside_fraction == 0
    assert 1 < draw.ess_median <= 8
    assert draw.attempts == 500 * 8
    nearest = torch.cdist(posterior.to_box(draw.theta), posterior.means).argmin(1)
    assert len(set(nearest.tolist())) == 40


def test_posterior_proposal_is_the_posterior(mixture_at):
    posterior = mixture_at([[0.2, 0.0]], [np.diag([0.1, 0.05]) ** 2])
    draw = draw_proposal(posterior, 3000, generator_from_seed(1), kind="posterior")
    assert (draw.kind, draw.method, draw.acceptance) == ("posterior", "posterior", 1.0)
    assert draw.threshold is draw.volume_fraction is None
    for axis, (mean, spread) in enumerate(((0.2, 0.1), (0.0, 0.05))):
        cdf = stats.norm(mean, spread).cdf
        assert stats.kstest(posterior.to_box(draw.theta)[:, axis].numpy(), cdf).pvalue > 1e-3


def test_nan_rows_are_redrawn_B4(mixture_at):
    posterior = mixture_at([[0.2, 0.0]], [np.diag([0.1, 0.05]) ** 2])
    clean = posterior.sample
    calls = []

    def spoiled(count, generator):
        theta = clean(count, generator)
        calls.append(count)
        lot = torch.rand(count, generator=generator)
        theta[lot < 0.5, 0] = float("nan")
        theta[lot > 0.9] = 5.0
        return theta

    posterior.sample = spoiled
    draw = draw_proposal(posterior, 1000, generator_from_seed(1), kind="posterior")
    assert len(draw.theta) == 1000
    assert bool(in_cube(draw.theta).all())
    assert draw.redraws == len(calls) - 1 > 3
    assert draw.attempts == sum(calls)
    assert draw.acceptance == 1000 / sum(calls)
    first = posterior.to_box(draw.theta)[:, 0].numpy()
    assert stats.kstest(first, stats.norm(0.2, 0.1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["posterior", "truncated"])
def test_redraws_end_after_twenty_B4(mixture_at, kind, monkeypatch):
    monkeypatch.setattr(truncated_proposal, "CHEAP_THRESHOLD_SAMPLES", 100)
    posterior = mixture_at([[0.2, 0.0]], [np.diag([0.1, 0.05]) ** 2])
    calls = []

    def broken(count, generator):
        calls.append(count)
        return torch.full((count, 2), float("nan"))

    posterior.sample = broken
    with pytest.raises(SamplingError, match="100 of 100 draws .* NaN .* after 20 redraws"):
        draw_proposal(posterior, 100, generator_from_seed(1), kind=kind)
    assert len(calls) == MAX_REDRAWS + 1
