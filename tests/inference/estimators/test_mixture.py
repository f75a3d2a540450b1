import pytest
import torch

from mlpop.inference.estimators.cube import probit
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.mixture import mixture_log_prob
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.networks.rng import generator_from_seed


@pytest.mark.parametrize("labels", [1, 2, 6])
@pytest.mark.parametrize("z_score_theta", ["none", "independent", "structured"])
@pytest.mark.parametrize("stretch", [1.0, 30.0])
def test_equals_sbi(labels, z_score_theta, stretch):
    """`stretch` makes narrow and broad components that overlap little."""
    spec = EstimatorSpec.parse(
        {
            "hidden_features": 8,
            "num_components": 4,
            "z_score_theta": z_score_theta,
            "x_shape": [3],
            "dimension": labels,
        }
    )
    generator = generator_from_seed(1)
    theta = torch.rand(50, labels, generator=generator)
    x = torch.randn(50, 3, generator=generator)
    head = build_estimator(spec, theta, x, generator).net.net
    with torch.no_grad():
        for value in head.parameters():
            value += 0.1 * stretch**0.5 * torch.randn(value.shape, generator=generator)
        points = probit(theta) + 0.3 * torch.randn(20, 50, labels, generator=generator)
        fast = mixture_log_prob(head, points, x)
        slow = head.log_prob(points, x)
        exact = head.double().log_prob(points.double(), x.double())
    assert fast.shape == slow.shape == (20, 50)
    assert float(exact.std()) > 0.3
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fast, exact.float(), rtol=5e-5, atol=5e-5)
