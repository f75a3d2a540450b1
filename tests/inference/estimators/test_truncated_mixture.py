"""The mixture of cut Gaussians against scipy's, also where a component lies far outside."""

import pytest
import torch
from scipy import stats

from mlpop.inference.estimators.truncated_mixture import LabelNetworks, TruncatedMixture
from mlpop.networks.rng import generator_from_seed, lend

CONDITION = torch.zeros(1, 2)


def alone(mean: float, width: float) -> TruncatedMixture:
    """Return the density of one label that has one component, whatever the condition."""
    density = TruncatedMixture(1, 2, 1, 4)
    raw = torch.log(torch.expm1(torch.tensor(width)))
    with torch.no_grad():
        for value in density.net.parameters():
            value.zero_()
        density.first.copy_(torch.tensor([0.0, mean, float(raw)]).view(1, 3, 1))
    return density


@pytest.mark.parametrize(
    ("mean", "width"),
    [(0.4, 0.1), (0.0, 0.3), (-0.3, 0.1), (-0.45, 0.05), (-1.2, 0.1), (-5.0, 0.3), (2.0, 0.09)]
    + [(1.5, 0.05), (1.0, 0.001), (7.0, 0.35), (0.5, 5.0)],
)
def test_component_is_a_cut_gaussian(mean: float, width: float) -> None:
    density = alone(mean, width)
    exact = stats.truncnorm(-mean / width, (1 - mean) / width, mean, width)
    with lend(generator_from_seed(3)), torch.no_grad():
        draws = density.sample(torch.Size((5000,)), CONDITION)[:, 0, 0]
        some = draws[:200]
        found = density.log_prob(some.view(-1, 1, 1), CONDITION)[:, 0]
    assert stats.kstest(draws.double().numpy(), exact.cdf).pvalue > 1e-3
    expected = torch.from_numpy(exact.logpdf(some.double().numpy())).float()
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=1e-3)


def test_a_label_sees_the_condition_and_those_before_it() -> None:
    networks = LabelNetworks(3, 2, 8, 5)
    u, condition = torch.rand(4, 6, 3), torch.randn(6, 2)
    numbers = networks(u, condition)
    for place in range(3):
        torch.testing.assert_close(networks.of_one(place, u, condition), numbers[place])
        changed = u.clone()
        changed[..., place] += 0.1
        moved = (networks(changed, condition) != numbers).flatten(1).any(1)
        assert moved.tolist() == [later > place for later in range(3)]
    assert (networks(u, condition + 1) != numbers).flatten(1).any(1).all()


def test_all_networks_in_one_pass_are_those_one_by_one() -> None:
    torch.manual_seed(5)
    networks = LabelNetworks(3, 2, 8, 5)
    torch.manual_seed(5)
    u, condition = torch.rand(6, 3), torch.randn(6, 2)
    torch.manual_seed(5)
    for place in range(3):
        alone = torch.nn.Sequential(
            torch.nn.Linear(2 + place, 8),
            torch.nn.Linear(8, 8),
            torch.nn.Linear(8, 5),
        )
        hidden = torch.cat([u[:, :place] - 0.5, condition], 1)
        hidden = alone[1](alone[0](hidden).relu()).relu()
        torch.testing.assert_close(networks.of_one(place, u, condition), alone[2](hidden))
