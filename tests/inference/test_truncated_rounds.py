"""Many rounds of truncated proposals: the posterior must not become narrower than the truth."""

from itertools import pairwise

import numpy as np
import pytest

from mlpop.inference import (
    EnsemblePosterior,
    EstimatorSpec,
    Prior,
    TrainingOptions,
    load_ensemble,
    member_tasks,
    train_member,
    validation_split,
)
from mlpop.inference.proposal import draw_proposal
from mlpop.inference.rng import generator_from_seed

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
    low=PRIOR.low,
    high=PRIOR.high,
)
OPTIONS = TrainingOptions(
    batch_size=50, learning_rate=1e-3, stop_after_epochs=20, max_num_epochs=300
)


def run(folder, seed):
    """Infer theta of x = theta + N(0, SPREAD), simulating round by round near OBSERVED.

    Every round trains new networks on all simulations, so that what is left of a wrong width is
    the proposals' doing, not that of trainings which go on from each other.

    Returns:
        Widths of the posterior over the true one, and the proposals, of all rounds.
    """
    rng = np.random.default_rng(seed)
    proposals, widths = [], []
    theta = PRIOR.to_scaled(PRIOR.sample(SIMULATIONS, generator_from_seed(seed))).numpy()
    x = np.empty((0, 2), np.float32)
    posterior = None
    for round_ in range(ROUNDS):
        if round_:
            draw = draw_proposal(
                posterior.at(OBSERVED, generator_from_seed(seed)),
                SIMULATIONS,
                generator_from_seed(100 * seed + round_),
                kind="truncated",
                sampler="sir",
            )
            proposals.append(draw)
            theta = np.concatenate([theta, draw.theta.numpy()])
        noise = SPREAD * rng.standard_normal((SIMULATIONS, 2))
        x = np.concatenate([x, (theta[-SIMULATIONS:] + noise).astype(np.float32)])
        place = folder / f"round_{round_}"
        place.mkdir(parents=True)
        np.save(place / "theta.npy", theta)
        np.save(place / "x.npy", x)
        members = [place / f"member_{j}" for j in range(MEMBERS)]
        for task in member_tasks(
            members,
            [(1000 * seed + 10 * round_ + j, 7 + j) for j in range(MEMBERS)],
            theta_path=place / "theta.npy",
            x_path=place / "x.npy",
            validation=validation_split(len(theta), 0.1, generator_from_seed(round_)),
            spec=SPEC,
            options=OPTIONS,
        ):
            train_member(task)
        posterior = EnsemblePosterior(load_ensemble(members), PRIOR)
        draws = posterior.sample(20_000, OBSERVED, generator_from_seed(seed))
        widths.append(draws.std(0) / SPREAD)
        assert np.abs(draws.mean(0) - OBSERVED).max() < 0.4 * SPREAD
    return np.array(widths), proposals


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_posterior_keeps_its_width_through_truncated_rounds_S21(tmp_path, seed):
    """With sbi's own resampling it is 10 % too narrow by now, and falling."""
    widths, proposals = run(tmp_path, seed)
    assert widths[-1].mean() == pytest.approx(1, abs=0.05)
    assert np.abs(widths[-1] - 1).max() < 0.1
    # what the true support has of the prior, a disk that leaves out 1e-4 of the mass
    exact = np.pi * SPREAD**2 * -2 * np.log(1e-4)
    assert proposals[-1].volume_fraction == pytest.approx(exact, rel=0.25)
    assert all(draw.outside_fraction == 0 and draw.exact for draw in proposals)
    # every proposal holds to the truth: none shuts out what the next one needs
    fractions = [draw.volume_fraction for draw in proposals]
    assert all(later > 0.5 * before for before, later in pairwise(fractions[1:]))
