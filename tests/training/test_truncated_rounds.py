"""Many rounds of truncated proposals: the posterior must not become narrower than the truth."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from mlpop.config.blocks.training import TrainingOptions
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.estimators.store import load_ensemble
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.prior import Prior
from mlpop.inference.proposals import truncated_proposal
from mlpop.inference.proposals.proposal import make_proposal
from mlpop.networks.rng import generator_from_seed
from mlpop.training.fit import validation_split
from mlpop.training.member_task import MemberTask, train_member

PRIOR = Prior(("a", "b"), (0.0, 0.0), (1.0, 1.0))
SPREAD = 0.05
OBSERVED = np.array([0.55, 0.4], dtype=np.float32)
ROUNDS, SIMULATIONS, MEMBERS = 6, 600, 3
SPEC = EstimatorSpec(
    model="mdn",
    hidden_features=32,
    num_components=4,
    x_shape=(2,),
    z_score_x="independent",
    dimension=2,
)
OPTIONS = TrainingOptions(batch_size=50, lr=1e-3, stop_after_epochs=20, max_num_epochs=300)


def run(folder, seed, spread=SPREAD):
    """Infer theta of x = theta + N(0, spread), simulating round by round near OBSERVED.

    Every round trains new networks on all simulations, so that what is left of a wrong width is
    the proposals' doing, not that of trainings which go on from each other.

    Returns:
        Widths of the posterior over the true one and the proposals of all rounds, and the last
        posterior.
    """
    rng = np.random.default_rng(seed)
    proposals, widths = [], []
    theta = PRIOR.to_unit(PRIOR.sample(SIMULATIONS, generator_from_seed(seed))).numpy()
    x = np.empty((0, 2), np.float32)
    posterior = None
    for round_ in range(ROUNDS):
        if round_:
            conditioned = posterior.at(OBSERVED, generator_from_seed(seed))
            generator = generator_from_seed(100 * seed + round_)
            proposal = make_proposal(conditioned, generator, kind="truncated", sampler="sir")
            draw = proposal.draw(SIMULATIONS, generator)
            proposals.append(draw)
            theta = np.concatenate([theta, draw.theta.numpy()])
        noise = spread * rng.standard_normal((SIMULATIONS, 2))
        x = np.concatenate([x, (theta[-SIMULATIONS:] + noise).astype(np.float32)])
        place = folder / f"round_{round_}"
        place.mkdir(parents=True)
        np.save(place / "theta.npy", theta)
        np.save(place / "x.npy", x)
        members = [place / f"member_{j}" for j in range(MEMBERS)]
        validation = validation_split(len(theta), 0.1, generator_from_seed(round_))
        for j, member in enumerate(members):
            train_member(
                MemberTask(
                    folder=str(member),
                    theta_path=str(place / "theta.npy"),
                    x_path=str(place / "x.npy"),
                    validation=tuple(validation.tolist()),
                    spec=SPEC,
                    options=OPTIONS,
                    init_seed=1000 * seed + 10 * round_ + j,
                    training_seed=7 + j,
                )
            )
        posterior = EnsemblePosterior(load_ensemble(members), PRIOR)
        draws = posterior.sample(20_000, OBSERVED, generator_from_seed(seed))
        widths.append(draws.std(0) / spread)
        assert np.abs(draws.mean(0) - OBSERVED).max() < 0.4 * spread
    return np.array(widths), proposals, posterior


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "spread"), [(1, SPREAD), (2, SPREAD), (4, 0.01)])
def test_posterior_keeps_its_width_through_truncated_rounds_S21(
    tmp_path, monkeypatch, seed, spread
):
    """With sbi's own resampling it is 10 % too narrow by now, and falling."""
    widths, proposals, posterior = run(tmp_path, seed, spread)
    assert widths[-1].mean() == pytest.approx(1, abs=0.05)
    assert np.abs(widths[-1] - 1).max() < 0.1
    assert all(draw.outside_fraction == 0 and draw.exact for draw in proposals)
    # no proposal shuts out the true support, a disk that leaves out 1e-4 of the mass
    exact = np.pi * spread**2 * -2 * np.log(1e-4)
    assert min(draw.volume_fraction for draw in proposals) > 0.8 * exact

    def final(sampler):
        conditioned = posterior.at(OBSERVED, generator_from_seed(seed))
        generator = generator_from_seed(9)
        proposal = make_proposal(conditioned, generator, kind="truncated", sampler=sampler)
        return proposal.draw(2000, generator)

    monkeypatch.setattr(truncated_proposal, "PRIOR_ACCEPTANCE", 2.0)
    plain, box, best = final("rejection"), final("box"), final("auto")
    assert plain.method == "prior rejection"
    assert best.method in ("ellipsoid rejection", "box rejection", "rotated box rejection")
    for draw in (box, best):
        assert draw.threshold == plain.threshold
        error = np.hypot(draw.volume_error, plain.volume_error)
        assert abs(draw.volume_fraction - plain.volume_fraction) < 4.5 * error
        for axis in range(2):
            one, two = draw.theta[:, axis].numpy(), plain.theta[:, axis].numpy()
            assert ks_2samp(one, two).pvalue > 1e-3
