"""Coverage of an ensemble: embed once and sample in batches, against sbi's own loop.

    python -P benchmarks/expected_coverage.py [--model maf] [--members 5] [--tests 200]

Both rank the truth among 1000 draws of the same untrained ensemble on maps (6, 32, 32); sbi does
so for a few tests. Costs are process time with one thread.

The flows are sbi's densities of z = probit(theta), whose prior is a standard normal; with sbi's
own loop the embedding network is inside them. The `mdn` is mlpop's own: sbi's loop runs on our
network, which embeds an x once in every call. Ranks are by the density in the unit cube. sbi
spends nothing here on mass that leaks out of the prior: there is none.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sbi.diagnostics import run_sbc
from sbi.inference import EnsemblePosterior as SbiEnsemble
from sbi.inference.posteriors import DirectPosterior
from sbi.neural_nets import posterior_nn
from sbi.utils import BoxUniform
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from mlpop.inference.diagnostics.coverage import compute_coverage
from mlpop.inference.estimators.cube import probit
from mlpop.inference.estimators.estimator import EmbedOnce, build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed, lend, one_thread

SHAPE = (6, 32, 32)
LABELS = 5
NUM_SAMPLES = 1000
WIDTH = 0.7
"""Of the theta that networks are standardized by, over the prior's: untrained flows are wider than
these, about as wide as the prior, so that truths of the prior have all ranks."""


def make_members(model: str, count: int, theta: Tensor, x: Tensor) -> list[EmbedOnce]:
    """Return estimators that know the spread of theta and nothing else."""
    spec = EstimatorSpec.parse(
        {
            "model": model,
            "embedding": {
                "type": "ModelConvSBI",
                "args": {"input_shape": SHAPE, "len_output_layer": 32},
            },
            "x_shape": SHAPE,
            "dimension": LABELS,
        }
    )
    return [build_estimator(spec, theta, x, generator_from_seed(j)).eval() for j in range(count)]


def as_sbi_makes_them(members: list[EmbedOnce], model: str, z: Tensor, x: Tensor) -> list:
    """Return the same densities of z with the embedding network inside, as sbi builds them."""
    result = []
    for member in members:
        with lend(generator_from_seed(0)):
            estimator = posterior_nn(
                model,
                z_score_x="none",
                hidden_features=32,
                num_components=10,
                embedding_net=member.embedding,
            )(z, x)
        head = member.net.net.state_dict()
        estimator.load_state_dict(
            {name: head.get(name, value) for name, value in estimator.state_dict().items()}
        )
        result.append(estimator.eval())
    return result


def sbi_way(
    members: list[EmbedOnce], model: str, theta: Tensor, x: Tensor
) -> tuple[Tensor, SbiEnsemble, Callable[[Tensor, Tensor], Tensor]]:
    """Return the truths as sbi's densities know them, their ensemble, and what ranks go by."""
    if model == "mdn":
        truths, estimators = theta, members
        prior: Distribution = BoxUniform(torch.zeros(LABELS), torch.ones(LABELS))
    else:
        truths = probit(theta)
        estimators = as_sbi_makes_them(members, model, truths, x)
        prior = MultivariateNormal(torch.zeros(LABELS), torch.eye(LABELS))
    ensemble = SbiEnsemble([DirectPosterior(estimator, prior) for estimator in estimators])
    return (
        truths,
        ensemble,
        # the density in the unit cube is that of theta, or of z, over the prior's
        lambda at, x: ensemble.log_prob(at, x, norm_posterior=False) - prior.log_prob(at),
    )


def main() -> None:
    """Time both ways; compare their ranks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("maf", "mdn"), default="maf")
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--sbi-tests", type=int, default=4)
    parser.add_argument("--members", type=int, default=5)
    arguments = parser.parse_args()
    generator = generator_from_seed(0)
    prior = Prior(tuple("abcde"), (-1.0,) * LABELS, (1.0,) * LABELS)
    theta = prior.sample(arguments.tests, generator)
    x = torch.poisson(
        torch.rand(arguments.tests, *SHAPE, generator=generator), generator=generator
    )
    unit = prior.to_unit(theta)
    with one_thread():
        known = prior.to_unit(WIDTH * theta)
        members = make_members(arguments.model, arguments.members, known, x)
        posterior = EnsemblePosterior(members, prior)
        compute_coverage(posterior, theta[:2], x[:2].numpy(), generator, num_samples=NUM_SAMPLES)
        started = time.process_time()
        result = compute_coverage(posterior, theta, x.numpy(), generator, num_samples=NUM_SAMPLES)
        ours = (time.process_time() - started) / arguments.tests
        truths, ensemble, log_density = sbi_way(members, arguments.model, unit, x)
        part = slice(arguments.sbi_tests)
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ranks, _ = run_sbc(
                truths[part],
                x[part],
                ensemble,
                num_posterior_samples=NUM_SAMPLES,
                reduce_fns=log_density,
                show_progress_bar=False,
                use_batched_sampling=False,
            )
        theirs = (time.process_time() - started) / arguments.sbi_tests
    # sbi counts draws of lower density than the truth, we of higher
    sbi_rank = 1 - ranks[:, 0].numpy() / NUM_SAMPLES
    difference = float(np.abs(sbi_rank - result.rank[part]).max())
    sys.stdout.write(
        f"{arguments.members} x {arguments.model}, {NUM_SAMPLES} draws, maps {SHAPE}: "
        f"{1000 * ours:.1f} ms a test, sbi {1000 * theirs:.0f} ms: {theirs / ours:.0f} times; "
        f"ranks of {arguments.sbi_tests} tests, {result.rank[part].min():.3f} to "
        f"{result.rank[part].max():.3f}, differ by at most {difference:.3f} "
        f"(standard error up to {(0.5 / NUM_SAMPLES) ** 0.5:.3f})\n"
    )


if __name__ == "__main__":
    main()
