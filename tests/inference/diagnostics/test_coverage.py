import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from analytic import Analytic, gaussian
from scipy import stats

from mlpop.config.blocks.prior import DistributionConfig
from mlpop.datasets.scaling import LabelScaling
from mlpop.errors import DataError
from mlpop.inference.diagnostics import calibration as calibration_module
from mlpop.inference.diagnostics import coverage as coverage_module
from mlpop.inference.diagnostics.binomial import binomial_band
from mlpop.inference.diagnostics.coverage import (
    LEVELS,
    compute_coverage,
    coverage_curve,
    density_rank,
    uniform_ks,
)
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed

NOISE = 0.3
PRIOR = Prior(("a", "b"), (-1.0, -1.0), (1.0, 1.0))


def calibrate(result, seed=0):
    return calibration_module.calibrate(result, np.random.default_rng(seed))


def write_coverage(folder, result, prior):
    return calibration_module.write_coverage(folder, result, prior, np.random.default_rng(0))


def _tests(count, seed=0):
    theta = PRIOR.sample(count, generator_from_seed(seed))
    noise = np.random.default_rng(seed).standard_normal(theta.shape)
    return theta, (theta + NOISE * noise).astype(np.float32)


def _coverage(member, count=400, num_samples=400, seed=0):
    members = member if isinstance(member, list) else [member]
    posterior = EnsemblePosterior(members, PRIOR)
    theta, x = _tests(count, seed)
    return compute_coverage(
        posterior, theta, x, generator_from_seed(seed), num_samples=num_samples
    )


@pytest.fixture(scope="module")
def exact(gaussian_member):
    return _coverage(gaussian_member(2, NOISE))


def test_golden_curve_B11():
    rank = [0.05, 0.15, 0.5, 1.0]
    expected = [0, 0.25, 0.5, 0.5, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75, 1.0]
    assert coverage_curve(rank).tolist() == expected
    # a failed test lies outside of every region
    with_failed = coverage_curve([*rank, np.nan])
    np.testing.assert_allclose(with_failed, 0.8 * np.array(expected))
    with pytest.raises(DataError, match="no test succeeded"):
        coverage_curve([np.nan])


def test_ties_count_half():
    draws = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
    assert density_rank(draws, torch.tensor([3.0, 0.0])).tolist() == [0.375, 0.5]


def test_exact_posterior_lies_inside_the_binomial_band_F11(exact):
    low, high = binomial_band(LEVELS, exact.num_ok, 0.95)
    curve = coverage_curve(exact.rank[exact.success])
    assert exact.num_ok == 400
    assert ((curve >= low) & (curve <= high)).all()


def test_ranks_of_the_exact_posterior_against_closed_form(gaussian_member):
    """One label: the density rank is the mass of the interval that is nearer to x."""
    prior = Prior(("a",), (-50.0,), (50.0,))
    posterior = EnsemblePosterior([gaussian_member(1, 1.0 / 50)], prior)
    theta = np.linspace(-2, 2, 9)[:, None]
    result = compute_coverage(
        posterior, theta, np.zeros((9, 1), np.float32), generator_from_seed(0), num_samples=40_000
    )
    np.testing.assert_allclose(result.rank, 2 * stats.norm.cdf(np.abs(theta[:, 0])) - 1, atol=0.01)
    np.testing.assert_allclose(
        result.marginal_ranks[:, 0] / 40_000, stats.norm.cdf(theta[:, 0]), atol=0.01
    )
    np.testing.assert_allclose(result.log_prob, stats.norm.logpdf(theta[:, 0]), atol=1e-4)
    np.testing.assert_allclose(result.width[:, 0], np.sqrt(12) / 100, rtol=0.02)


@pytest.mark.parametrize(
    ("spread", "shift", "verdict"),
    [
        (NOISE, 0.0, "calibrated"),
        (0.6 * NOISE, 0.0, "overconfident"),
        (1.7 * NOISE, 0.0, "underconfident"),
        (NOISE, 0.6 * NOISE, "biased"),
    ],
)
def test_verdicts(gaussian_member, spread, shift, verdict):
    calibration = calibrate(_coverage(gaussian_member(2, spread, shift)))
    assert calibration.verdict == verdict
    if verdict == "overconfident":
        assert calibration.hpd_shift > 0
        assert min(calibration.spread.values()) > 0
    if verdict == "biased":
        assert max(calibration.shift.values()) < 0  # draws too high: truths rank low


def test_false_alarms_are_as_rare_as_alpha(gaussian_member):
    verdicts = [
        calibrate(_coverage(gaussian_member(2, NOISE), 100, 200, seed)).verdict
        for seed in range(40)
    ]
    assert verdicts.count("calibrated") >= 35


def test_uninformative_posterior_is_shown_by_gain_and_width(gaussian_member):
    calibration = calibrate(_coverage(gaussian_member(2, 5.0), 200, 200))
    assert calibration.gain == pytest.approx(0, abs=0.03)
    assert min(calibration.width.values()) == pytest.approx(1, abs=0.05)


def test_gain_and_nltp_of_the_exact_posterior(exact):
    calibration = calibrate(exact)
    theta, x = _tests(400)
    centre = x.astype(np.float64)
    log_prob = stats.truncnorm(
        (-1 - centre) / NOISE, (1 - centre) / NOISE, loc=centre, scale=NOISE
    ).logpdf(theta)
    assert calibration.nltp == pytest.approx(-log_prob.sum(1).mean(), abs=0.02)
    assert calibration.gain == pytest.approx(-calibration.nltp + 2 * np.log(2), abs=1e-6)


def test_ensemble_density_is_that_of_its_samples(gaussian_member):
    """Members that the prior cuts unequally: each is normalized there, or ranks are not even."""
    members = [gaussian_member(2, 0.35, 0.4), gaussian_member(2, 0.8, -0.2)]
    posterior = EnsemblePosterior(members, PRIOR)
    x = np.random.default_rng(3).uniform(-0.9, 0.9, (500, 2)).astype(np.float32)
    theta = posterior.sample_batched(1, x, generator_from_seed(8))[0]
    result = compute_coverage(posterior, theta, x, generator_from_seed(9), num_samples=1000)
    calibration = calibrate(result)
    assert calibration.p_value > 1e-3, calibration
    assert calibration.p_values["hpd"] > 1e-3


def test_few_tests_give_files_but_no_verdict(gaussian_member, tmp_path):
    result = _coverage(gaussian_member(2, NOISE), count=3, num_samples=50)
    assert calibrate(result).verdict == "too few tests"
    assert len(write_coverage(tmp_path, result, PRIOR)) == 5


def test_failed_tests_have_no_draws(gaussian_member, tmp_path):
    posterior = EnsemblePosterior([gaussian_member(2, 0.01)], PRIOR)
    x = np.array([[0.0, 0.0], [9.0, 9.0], [0.5, 0.5]], dtype=np.float32)
    theta = np.array([[0.0, 0.0], [0.0, 0.0], [0.5, 0.51]])
    result = compute_coverage(posterior, theta, x, generator_from_seed(0), num_samples=30)
    assert result.success.tolist() == [True, False, True]
    assert np.isnan(result.rank[1])
    assert result.marginal_ranks[1].tolist() == [-1, -1]
    assert not result.samples[1].any()
    assert result.samples[0].any()
    calibration = calibrate(result)
    assert (calibration.num_tests, calibration.num_failed) == (2, 1)
    summary = json.loads((write_coverage(tmp_path, result, PRIOR)[3]).read_text())
    assert (summary["n_ok"], summary["n_total"]) == (2, 3)
    hopeless = compute_coverage(
        posterior, theta[1:2], x[1:2], generator_from_seed(0), num_samples=30
    )
    assert calibrate(hopeless).verdict == "too few tests"
    names = [path.name for path in write_coverage(tmp_path / "none", hopeless, PRIOR)]
    assert "coverage_probability.npy" not in names


def test_failed_tests_count_as_misses(exact):
    """A third of the tests without a posterior is no calibrated posterior."""
    failed = np.arange(len(exact.success)) % 3 == 0
    result = replace(
        exact,
        success=exact.success & ~failed,
        rank=np.where(failed, np.nan, exact.rank),
        marginal_ranks=np.where(failed[:, None], -1, exact.marginal_ranks),
    )
    calibration = calibrate(result)
    assert calibration.num_failed == 400 - result.num_ok
    assert calibration.verdict == "overconfident"
    assert calibration.decided_by == "width/all"
    assert coverage_curve(result.rank)[-1] == pytest.approx(result.num_ok / 400)
    assert max(check.held for check in calibration.intervals.values()) < 0.7
    assert {check.conformal_level for check in calibration.intervals.values()} == {1.0}


BOX = (0.5, 0.8)


def _in_box(values):
    inside = ((values >= BOX[0]) & (values <= BOX[1])).all(-1)
    return torch.where(inside, 0.0, -torch.inf)


def _box_tests(seed, count=300):
    """Tests from a box inside the prior."""
    rng = np.random.default_rng(seed)
    theta = 2 * rng.uniform(*BOX, (count, 2)) - 1
    return theta, (theta + NOISE * rng.standard_normal(theta.shape)).astype(np.float32)


def _box_coverage(member, seed, log_ratio=_in_box):
    posterior = EnsemblePosterior([member], PRIOR)
    generator = generator_from_seed(seed)
    return compute_coverage(
        posterior, *_box_tests(seed), generator, num_samples=1000, log_ratio=log_ratio
    )


def test_tests_from_a_proposal_are_compared_with_draws_under_it(gaussian_member):
    member = gaussian_member(2, NOISE)
    plain, corrected = (_box_coverage(member, 0, log_ratio=ratio) for ratio in (None, _in_box))
    assert calibrate(plain).verdict != "calibrated"
    ok = corrected.success
    assert ok.mean() > 0.98
    samples = corrected.samples[ok]
    assert ((samples >= np.float32(BOX[0])) & (samples <= np.float32(BOX[1]))).all()
    assert not corrected.samples[~ok].any()
    for pool in corrected.pool_samples[ok]:
        assert len(np.unique(pool, axis=0)) == len(pool)
    # what is said of the posterior itself is as before
    np.testing.assert_array_equal(plain.log_prob[ok], corrected.log_prob[ok])
    np.testing.assert_array_equal(plain.width[ok], corrected.width[ok])


@pytest.mark.parametrize("most", [coverage_module.MOST_DRAWS, 1000])
def test_false_alarms_on_tests_from_a_proposal_are_as_rare_as_alpha(
    gaussian_member, monkeypatch, most
):
    """Also where many tests are left out, of whose posteriors little lies in the box."""
    monkeypatch.setattr(coverage_module, "MOST_DRAWS", most)
    member = gaussian_member(2, NOISE)
    found = [calibrate(_box_coverage(member, seed)) for seed in range(40)]
    # two are expected; eight have a chance of 1e-3. Draws that were repeated gave 11.
    assert [calibration.verdict for calibration in found].count("calibrated") >= 33
    left_out = np.mean([calibration.num_left_out for calibration in found])
    assert (left_out > 30) if most == 1000 else (left_out < 1)
    assert {c.num_tests + c.num_failed + c.num_left_out for c in found} == {300}


def test_tests_that_are_left_out_have_no_row(gaussian_member, monkeypatch, tmp_path):
    monkeypatch.setattr(coverage_module, "MOST_DRAWS", 1000)
    result = _box_coverage(gaussian_member(2, NOISE), 0)
    assert result.num_left_out > 0
    count = 300 - result.num_left_out
    theta = PRIOR.to_unit(_box_tests(0)[0]).numpy()
    assert (result.truth[:, None] == theta).all(-1).any(1).all()
    for rows in (result.truth, result.samples, result.success, result.rank, result.pool_samples):
        assert len(rows) == count
    paths = {path.name: path for path in write_coverage(tmp_path, result, PRIOR)}
    assert json.loads(paths["coverage.json"].read_text())["n_left_out"] == result.num_left_out
    assert json.loads(paths["coverage.json"].read_text())["n_total"] == count
    calibration = json.loads(paths["calibration.json"].read_text())
    assert calibration["num_left_out"] == result.num_left_out


def test_tests_from_a_proposal_where_none_can_be_drawn_for(gaussian_member):
    """The posterior of the first has nothing inside the prior, that of the second in the box."""
    posterior = EnsemblePosterior([gaussian_member(2, 0.01)], PRIOR)
    x = np.array([[9.0, 9.0], [-0.5, -0.5]], dtype=np.float32)
    theta = np.full((2, 2), 0.3)
    for rows in (slice(0, 1), slice(0, 2)):
        result = compute_coverage(
            posterior,
            theta[rows],
            x[rows],
            generator_from_seed(0),
            num_samples=30,
            log_ratio=_in_box,
        )
        assert not result.success.any()
        assert np.isnan(result.rank).all()


@pytest.mark.parametrize(
    ("spread", "shift", "verdict"),
    [(0.6, 0.0, "overconfident"), (1.7, 0.0, "underconfident"), (1.0, 0.6, "biased")],
)
def test_faults_on_tests_from_a_proposal(gaussian_member, spread, shift, verdict):
    member = gaussian_member(2, spread * NOISE, shift * NOISE)
    assert calibrate(_box_coverage(member, 3)).verdict == verdict


def test_truth_outside_the_prior_ranks_last(gaussian_member):
    posterior = EnsemblePosterior([gaussian_member(2, NOISE)], PRIOR)
    result = compute_coverage(
        posterior,
        [[1.01, 0.0], [1.0, 0.0]],
        np.zeros((2, 2), np.float32),
        generator_from_seed(0),
        num_samples=100,
    )
    assert result.rank[0] == 1
    assert result.log_prob[0] == -np.inf
    assert np.isfinite(result.log_prob[1])
    assert calibrate(result).nltp is None


def test_files(exact, tmp_path):
    paths = {path.name: path for path in write_coverage(tmp_path, exact, PRIOR)}
    curve = np.load(paths["coverage_probability.npy"])
    assert curve.shape == (12,)
    assert curve.dtype == np.float64
    with np.load(paths["posterior_samples_test_data.npz"]) as data:
        assert data["true_values"].shape == (400, 2)
        assert data["posterior_samples"].shape == (400, 400, 2)
        assert data["posterior_samples"].dtype == np.float32
        assert data["labels"].tolist() == ["a", "b"]
        ok = data["success"]
        assert ok.sum() == exact.num_ok
        assert np.array_equal(data["rank"], exact.rank, equal_nan=True)
        assert json.loads(str(data["scaling"])) is None
        assert PRIOR.contains(data["posterior_samples"]).all()
        counted = (data["posterior_samples"] < data["true_values"][:, None]).sum(1)
        assert np.array_equal(counted[ok], np.load(paths["ranks.npy"])[ok])
    summary = json.loads(paths["coverage.json"].read_text())
    assert summary["coverage"] == curve.tolist()
    assert summary["ks_distance"] == uniform_ks(np.where(exact.success, exact.rank, 1.0))[0]
    for percent in ("68", "95"):
        assert len(summary[f"band_{percent}"]["low"]) == 12
    assert set(summary["levels"]) == {"0.5", "0.68", "0.9", "0.95"}
    calibration = json.loads(paths["calibration.json"].read_text())
    assert calibration["verdict"] == "calibrated"
    assert set(calibration["p_values"]) == {"hpd", "tarp", "sbc/a", "sbc/b"}


def test_files_hold_labels_that_are_scaled_like_the_training_set(gaussian_member, tmp_path):
    statistics = {"a": {"mean": 3.0, "std": 2.0, "min": 0.0, "max": 1.0}}
    scaling = LabelScaling("standardize", statistics, ("a",))
    normal = DistributionConfig.parse({"type": "normal", "args": {"loc": 3.0, "scale": 0.5}})
    prior = Prior(("a",), (np.nan,), (np.nan,), scaling, {"a": normal})
    posterior = EnsemblePosterior([gaussian_member(1, 0.2)], prior)
    theta, x = prior.sample(60, generator_from_seed(0)), np.zeros((60, 1), np.float32)
    result = compute_coverage(posterior, theta, x, generator_from_seed(1), num_samples=50)
    np.testing.assert_allclose(result.truth, stats.norm(3, 0.5).cdf(theta), atol=1e-6)
    with np.load(write_coverage(tmp_path, result, prior)[1]) as data:
        np.testing.assert_allclose(data["true_values"], (theta - 3) / 2, atol=1e-5)
        draws = 3 + 2 * data["posterior_samples"]
        np.testing.assert_allclose(stats.norm(3, 0.5).cdf(draws), result.samples, atol=1e-6)
    # a density over theta, like that of the prior: the gain has no unit
    np.testing.assert_allclose(result.log_prior, stats.norm(3, 0.5).logpdf(theta[:, 0]))
    unit = stats.truncnorm(-5, 5, loc=0.5, scale=0.1).logpdf(result.truth[:, 0].astype(float))
    np.testing.assert_allclose(result.log_prob - result.log_prior, unit, atol=1e-4)
    assert calibrate(result).gain == pytest.approx(unit.mean(), abs=1e-4)


def test_large_results_are_thinned(gaussian_member, monkeypatch):
    monkeypatch.setattr(coverage_module, "MAX_STORED", 1000)
    result = _coverage(gaussian_member(2, NOISE), count=10, num_samples=205)
    assert result.thinning == 5
    assert result.samples.shape == (10, 41, 2)
    assert result.samples.all()
    assert result.num_samples == 205


def test_lots_do_not_change_who_is_drawn(gaussian_member, monkeypatch):
    monkeypatch.setattr(coverage_module, "DRAWS_AT_ONCE", 2000)
    seen = []
    posterior = EnsemblePosterior([gaussian_member(2, NOISE)], PRIOR)
    theta, x = _tests(25)
    result = compute_coverage(
        posterior,
        theta,
        x,
        generator_from_seed(0),
        num_samples=200,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(10, 25), (20, 25), (25, 25)]
    assert result.success.all()
    centres = 2 * result.samples.mean(1)[:, 0] - 1  # of the cube in the prior's box
    np.testing.assert_allclose(centres, x[:, 0].clip(-1, 1), atol=0.6)


def test_same_seed_same_bits(gaussian_member):
    first, second = (_coverage(gaussian_member(2, NOISE), 20, 50) for _ in range(2))
    assert np.array_equal(first.samples, second.samples)
    assert np.array_equal(first.tarp, second.tarp)


def test_shapes_are_checked(gaussian_member):
    posterior = EnsemblePosterior([gaussian_member(2, NOISE)], PRIOR)
    with pytest.raises(DataError, match=r"theta \(n, 2\).*\(3, 2\) and 4 x"):
        compute_coverage(
            posterior, np.zeros((3, 2)), np.zeros((4, 2), np.float32), generator_from_seed(0)
        )


def _chains(members, sampler="slice_np_vectorized", weights=None, num_chains=10, thin=1):
    options = McmcOptions(sampler, num_chains, thin, warmup=12, num_candidates=200)
    return McmcPosterior(members, PRIOR, weights, options=options)


@pytest.mark.parametrize(
    "sampler", ["slice_np_vectorized", pytest.param("hmc", marks=pytest.mark.slow)]
)
def test_markov_chains_of_the_exact_likelihood_lie_inside_the_band_B11(sampler):
    theta, x = _tests(500, seed=1)
    # of ten chains of 25 independent draws, 1.2 % have an R-hat above the limit; of twenty, none
    posterior = _chains([gaussian(2, NOISE)], sampler, num_chains=20, thin=2)
    result = compute_coverage(posterior, theta, x, generator_from_seed(2), num_samples=250)
    assert result.num_ok == 500
    low, high = binomial_band(LEVELS, 500, 0.95)
    curve = coverage_curve(result.rank)
    assert ((curve >= low) & (curve <= high)).all()
    calibration = calibrate(result)
    assert calibration.verdict == "calibrated"
    assert calibration.poor_chains < 0.01
    # the density of the truth is normalized, each test with its own evidence
    centre = x.astype(np.float64)
    exact = stats.truncnorm(
        (-1 - centre) / NOISE, (1 - centre) / NOISE, loc=centre, scale=NOISE
    ).logpdf(theta)
    np.testing.assert_allclose(result.log_prob, exact.sum(1), atol=0.15)


@pytest.mark.parametrize(("spread", "verdict"), [(0.6, "overconfident"), (1.7, "underconfident")])
def test_markov_chains_of_a_wrong_likelihood_are_found_out(spread, verdict):
    theta, x = _tests(150, seed=1)
    posterior = _chains([gaussian(2, spread * NOISE)])
    result = compute_coverage(posterior, theta, x, generator_from_seed(2), num_samples=150)
    assert calibrate(result).verdict == verdict


@pytest.mark.slow
def test_false_alarms_of_chains_on_tests_from_a_proposal_are_as_rare_as_alpha():
    posterior = _chains([gaussian(2, NOISE)], num_chains=20, thin=2)
    verdicts = []
    for seed in range(20):
        theta, x = _box_tests(seed, 150)
        result = compute_coverage(
            posterior, theta, x, generator_from_seed(seed), num_samples=250, log_ratio=_in_box
        )
        assert result.success.mean() > 0.98
        verdicts.append(calibrate(result).verdict)
    # one is expected; five have a chance of 3e-3
    assert verdicts.count("calibrated") >= 16


def test_ensemble_of_likelihoods_is_the_mixture_of_posteriors_B11():
    """Potentials that differ by functions of x: ranks are uniform only without them."""
    members = [gaussian(2, 0.35, 0.4, slope=30.0), gaussian(2, 0.8, -0.2, slope=-50.0)]
    posterior = _chains(members, weights=(0.3, 0.7))
    x = np.random.default_rng(3).uniform(-0.9, 0.9, (500, 2)).astype(np.float32)
    direct = [truncated_draws(member, x, seed) for seed, member in enumerate(members)]
    first = np.random.default_rng(4).random(500)[:, None] < 0.3
    result = compute_coverage(
        posterior,
        np.where(first, *direct),
        x,
        generator_from_seed(9),
        num_samples=250,
    )
    low, high = binomial_band(LEVELS, 500, 0.95)
    curve = coverage_curve(result.rank)
    assert ((curve >= low) & (curve <= high)).all()
    assert calibrate(result).verdict == "calibrated"


def truncated_draws(member, x, seed):
    """Draw one exact theta for every x, independently of the code under test."""
    line = np.linspace(-1, 1, 2001)
    rng = np.random.default_rng(seed)
    theta = np.empty(x.shape)
    for label in range(x.shape[1]):
        grid = torch.from_numpy(line).float()[:, None, None].expand(-1, len(x), 2).clone()
        grid[..., 1 - label] = 0.0
        potential = member.function(grid, torch.from_numpy(x)).double().numpy()
        weights = np.exp(potential - potential.max(0)).cumsum(0)
        unit = rng.random(len(x)) * weights[-1]
        theta[:, label] = [
            np.interp(level, column, line) for level, column in zip(unit, weights.T, strict=True)
        ]
    return theta


def test_posteriors_without_chains_have_no_convergence(exact, tmp_path):
    assert exact.r_hat is None
    assert calibrate(exact).poor_chains is None
    assert "mcmc" not in json.loads(write_coverage(tmp_path, exact, PRIOR)[3].read_text())


def test_failed_chains_are_left_out(tmp_path):
    def only_positive(theta, x):
        inside = -0.5 * ((theta - x) / 0.3).square().sum(-1)
        return torch.where(x[..., 0] > 0, inside, torch.nan)

    posterior = _chains([Analytic(only_positive, 2)])
    x = np.array([[0.1, 0.2], [-0.1, 0.2], [0.5, -0.9]], dtype=np.float32)
    result = compute_coverage(posterior, x, x, generator_from_seed(0), num_samples=30)
    assert result.success.tolist() == [True, False, True]
    assert np.isnan(result.r_hat).tolist() == [False, True, False]
    assert calibrate(result).num_failed == 1
    summary = json.loads(write_coverage(tmp_path, result, PRIOR)[3].read_text())
    assert summary["mcmc"]["ess_min"] > 5
    assert summary["num_samples"] == 30


def test_chains_that_never_moved_have_no_number_in_the_summary(exact, tmp_path):
    """R-hat of equal draws is NaN, which JSON has not."""
    count = len(exact.success)
    still = replace(exact, r_hat=np.full(count, np.nan), ess=np.full(count, np.nan))
    summary = json.loads(
        write_coverage(tmp_path, still, PRIOR)[3].read_text(), parse_constant=pytest.fail
    )
    assert summary["mcmc"]["r_hat_max"] is None
    assert summary["mcmc"]["ess_min"] is None
    assert summary["mcmc"]["poor_fraction"] == 1


def test_draws_a_test_by_default(gaussian_member):
    assert EnsemblePosterior([gaussian_member(2, NOISE)], PRIOR).coverage_draws == 10_000
    posterior = _chains([gaussian(2, NOISE)])
    assert posterior.coverage_draws == 1000
    x = np.zeros((1, 2), dtype=np.float32)
    result = compute_coverage(posterior, x, x, generator_from_seed(0))
    assert result.num_samples == 1000
