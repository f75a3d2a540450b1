"""sbi's conditional densities of a vector given a vector, with their defects mended."""

import warnings

import torch
from nflows.transforms.lu import LULinear
from nflows.transforms.permutations import RandomPermutation
from sbi.neural_nets import posterior_nn
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from torch import Tensor, nn

from mlpop.config.blocks.network import ZScore
from mlpop.config.methods import DENSITIES
from mlpop.inference.estimators.spec import EstimatorSpec


def build_density(
    spec: EstimatorSpec, values: Tensor, width: int, z_score: ZScore
) -> ConditionalDensityEstimator:
    """Build sbi's density of one vector given another; draws from torch's global generator.

    Args:
        spec: model and its sizes.
        values: (n, k) vectors that the density is of; for standardization.
        width: length of the vectors that it is given.
        z_score: how `values` are standardized inside.
    """
    if values.shape[1] == 1 and z_score == "structured":
        # sbi cannot pool the scale of one component, and it is the same thing
        z_score = "independent"
    network = DENSITIES[spec.model]
    with warnings.catch_warnings():
        # sbi warns that flows in one dimension are Gaussian: the user chose the model
        warnings.simplefilter("ignore", UserWarning)
        # sbi's likelihood_nn builds the same networks with the roles of theta and x swapped
        density = posterior_nn(
            spec.model,
            z_score_theta=z_score,
            z_score_x="none",
            **{name: getattr(spec, name) for name in network.arguments},
        )(values, torch.zeros(len(values), width))
    if network.permutes:
        _change_first_component(density)
    for module in density.modules():
        if isinstance(module, LULinear):
            module.__class__ = SolvedLULinear
    return density


class SolvedLULinear(LULinear):
    """nflows' linear transform; its own inverse calls what torch is about to remove."""

    def inverse_no_cache(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inverse (n, k) of `inputs` (n, k) and its log determinants (n,)."""
        lower, upper = self._create_lower_upper()
        middle = torch.linalg.solve_triangular(
            lower, (inputs - self.bias).T, upper=False, unitriangular=True
        )
        outputs = torch.linalg.solve_triangular(upper, middle, upper=True).T
        return outputs, -self.logabsdet() * inputs.new_ones(len(inputs))


def _change_first_component(flow: nn.Module) -> None:
    """Redraw the permutations of a flow until each puts another component in front.

    The first component of an nflows autoregressive transform does not see the condition. sbi's
    random permutations leave the same one in front of all transforms with a chance of 1/16 for
    two components and five transforms; its density would then not depend on the condition.
    """
    for module in flow.modules():
        if isinstance(module, RandomPermutation):
            order: Tensor = module.get_buffer("_permutation")
            while len(order) > 1 and order[0] == 0:
                order.copy_(torch.randperm(len(order)))
