"""Coverage of an ensemble: embed once and sample in batches, against sbi's own loop.

    python -P benchmarks/expected_coverage.py [--model mdn] [--members 5] [--tests 100]

Both rank the truth among 1000 draws of the same untrained ensemble on maps (6, 32, 32); sbi does
so for a few tests. Costs are process time with one thread.
"""

import argparse
import sys
import time
import warnings

import numpy as np
import torch
from sbi.diagnostics import run_sbc
from sbi.inference import EnsemblePosterior as SbiEnsemble
from sbi.inference.posteriors import DirectPosterior
from sbi.neural_nets import posterior_nn
from torch import Tensor

from mlpop.inference.diagnostics.coverage import compute_coverage
from mlpop.inference.estimators.estimator import EmbedOnce, build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed, lend, one_thread

SHAPE = (6, 32, 32)
LABELS = 5
NUM_SAMPLES = 1000
WIDTHS = {"mdn": 0.7, "maf": 0.15}
"""Width of theta over the prior's: untrained flows are far wider than theta, mixtures are not."""


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
            "low": [-1.0] * LABELS,
            "high": [1.0] * LABELS,
        }
    )
    return [build_estimator(spec, theta, x, generator_from_seed(j)).eval() for j in range(count)]


def as_sbi_makes_them(members: list[EmbedOnce], model: str, theta: Tensor, x: Tensor) -> list:
    """Return the same densities with the embedding network inside, as sbi builds them."""
    result = []
    for member in members:
        with lend(generator_from_seed(0)):
            estimator = posterior_nn(
                model,
                z_score_x="none",
                hidden_features=32,
                num_components=10,
                embedding_net=member.embedding,
            )(theta, x)
        head = member.net.state_dict()
        estimator.load_state_dict(
            {name: head.get(name, value) for name, value in estimator.state_dict().items()}
        )
        result.append(estimator.eval())
    return result


def main() -> None:
    """Time both ways; compare their ranks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("mdn", "maf"), default="mdn")
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--sbi-tests", type=int, default=4)
    parser.add_argument("--members", type=int, default=5)
    arguments = parser.parse_args()
    generator = generator_from_seed(0)
    prior = Prior(tuple("abcde"), (-1.0,) * LABELS, (1.0,) * LABELS)
    theta = WIDTHS[arguments.model] * prior.sample(arguments.tests, generator)
    x = torch.poisson(
        torch.rand(arguments.tests, *SHAPE, generator=generator), generator=generator
    )
    scaled = prior.to_unit(theta)
    with one_thread():
        members = make_members(arguments.model, arguments.members, scaled, x)
        posterior = EnsemblePosterior(members, prior)
        compute_coverage(posterior, theta[:2], x[:2].numpy(), generator, num_samples=NUM_SAMPLES)
        started = time.process_time()
        result = compute_coverage(posterior, theta, x.numpy(), generator, num_samples=NUM_SAMPLES)
        ours = (time.process_time() - started) / arguments.tests
        sbi_members = as_sbi_makes_them(members, arguments.model, scaled, x)
        ensemble = SbiEnsemble([DirectPosterior(e, prior.box) for e in sbi_members])
        part = slice(arguments.sbi_tests)
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ranks, _ = run_sbc(
                scaled[part],
                x[part],
                ensemble,
                num_posterior_samples=NUM_SAMPLES,
                reduce_fns=ensemble.log_prob,
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
        f"ranks of {arguments.sbi_tests} tests differ by at most {difference:.3f} "
        f"(Monte Carlo error {0.5 / NUM_SAMPLES**0.5:.3f})\n"
    )


if __name__ == "__main__":
    main()
