"""How far posteriors are from exact ones: C2ST of every method on tasks with known posteriors.

    python -P benchmarks/accuracy.py [--tasks gaussian_linear two_moons] [--methods npe tsnpe ...]
        [--observations 10] [--samples 10000] [--simulations 10000] [--rounds 10] [--jobs 1]
        [--output accuracy.json]

A classifier tells posterior samples from exact ones; 0.5 is perfect, 1 useless. It is that of
sbibm: a scikit-learn MLP of two layers of 10 d units, five folds, z-scored by the exact samples.
`npe` trains once on `--simulations` draws of the prior; the sequential methods split them into
`--rounds` rounds, and run anew for every observation. Results go to the output file one by one;
started again, the script goes on where it was.

Tasks: `two_moons` is sbibm's. `gaussian_linear` has sbibm's simulator in ten dimensions, but the
uniform prior on [-1, 1] that sbibm calls `gaussian_linear_uniform`; sbibm's `gaussian_linear` has
a Gaussian prior, whose posterior has no edges. Observations are drawn from the prior predictive
as sbibm's are, but are not the same ten.

References:
    Lueckmann et al. 2021, https://arxiv.org/abs/2101.04653; Deistler et al. 2022,
    https://arxiv.org/abs/2210.04815
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sbi.utils.metrics import c2st
from torch import Generator, Tensor

from mlpop.compute import Backend, Purpose, seed_sequence, torch_seed
from mlpop.compute.backends.processes import ProcessesBackend
from mlpop.compute.backends.serial import SerialBackend
from mlpop.config.blocks.training import TrainingOptions
from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.estimators.store import load_estimator
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.prior import Prior
from mlpop.inference.proposals.proposal import make_proposal
from mlpop.io.files import write_json
from mlpop.networks.rng import generator_from_seed, one_thread
from mlpop.simulators import load
from mlpop.training.fit import validation_split
from mlpop.training.member_task import MemberTask, train_member

ROOT_SEED = 42
VALIDATION_FRACTION = 0.1
PUBLISHED: Mapping[tuple[str, str], float] = {
    ("gaussian_linear", "npe"): 0.534,
    ("gaussian_linear", "tsnpe"): 0.565,
    ("gaussian_linear", "snpe_c"): 0.545,
    ("two_moons", "npe"): 0.608,
    ("two_moons", "tsnpe"): 0.518,
    ("two_moons", "snpe_c"): 0.552,
    ("two_moons", "snle"): 0.562,
}
"""Medians at 10 000 simulations: sbibm's table, and for tsnpe what issue 6 asks to be near."""
LIMITS: Mapping[tuple[str, str], float] = {
    ("gaussian_linear", "npe"): 0.58,
    ("gaussian_linear", "tsnpe"): 0.60,
    ("two_moons", "npe"): 0.62,
    ("two_moons", "tsnpe"): 0.55,
}
"""Largest accepted medians of ten observations."""


@dataclass(frozen=True)
class Method:
    """How one of the methods learns.

    Attributes:
        kind: of estimator.
        spec: what differs from the defaults of `EstimatorSpec`.
        options: of the training.
        proposal: of the later rounds; None for a single round.
        atomic: correct for the proposal in the later rounds.
        members: networks of the ensemble.
        fine: what differs in a second training of the last round, which goes on from the first;
            None for none.
    """

    kind: Literal["posterior", "likelihood", "ratio"]
    spec: Mapping[str, Any]
    options: Mapping[str, Any]
    proposal: Literal["truncated", "posterior"] | None = None
    atomic: bool = False
    members: int = 1
    fine: Mapping[str, Any] | None = None


_NSF = {"model": "nsf", "num_bins": 10}
_MAF = {"model": "maf", "hidden_features": 50, "num_transforms": 5}
_RESNET = {"model": "resnet", "hidden_features": 50}
_FAST = {"batch_size": 200, "lr": 2e-3}
_FINE = {"batch_size": 500, "lr": 1e-4, "stop_after_epochs": 10}
METHODS: Mapping[str, Method] = {
    "npe": Method("posterior", _NSF, _FAST, fine=_FINE),
    "tsnpe": Method("posterior", _NSF, _FAST, "truncated", fine=_FINE),
    "snpe_c": Method("posterior", _NSF, _FAST, "posterior", atomic=True, fine=_FINE),
    "snle": Method("likelihood", _MAF, _FAST, "posterior", fine=_FINE),
    "snre": Method("ratio", _RESNET, _FAST, "posterior", fine=_FINE),
}
FLOWS: Mapping[str, Mapping[str, int]] = {
    "gaussian_linear": {"hidden_features": 20, "num_transforms": 3},
    "two_moons": {"hidden_features": 50, "num_transforms": 5},
}
"""Sizes of `nsf`: crescents want a large flow, which learns ten independent labels by heart."""


@dataclass(frozen=True)
class Job:
    """One training, or one sequence of trainings, and the observations that it serves."""

    task: str
    method: str
    observations: tuple[int, ...]
    simulations: int
    rounds: int
    samples: int
    work: str
    members: int = 1

    @property
    def setting(self) -> Method:
        """How the networks of this task learn."""
        method = METHODS[self.method]
        sizes = FLOWS[self.task] if method.spec["model"] == "nsf" else {}
        return replace(method, spec={**method.spec, **sizes})

    @property
    def folder(self) -> Path:
        """Where data and networks go; another folder for other settings."""
        settings = json.dumps([asdict(self.setting), self.members, self.simulations, self.rounds])
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        place = f"{self.observations[0]:02d}" if METHODS[self.method].proposal else "all"
        return Path(self.work) / self.task / f"{self.method}_{digest}" / place

    def record(self, observation: int) -> dict[str, Any]:
        """Return what identifies a result."""
        return {
            "task": self.task,
            "method": self.method,
            "observation": observation,
            "simulations": self.simulations,
            "rounds": self.rounds,
            "samples": self.samples,
            "members": self.members,
            "setting": asdict(self.setting),
        }


class Learner:
    """Simulations, networks and posteriors of one job, round after round."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.method = job.setting
        self.simulator = load(job.task)
        size = len(self.simulator.labels)
        self.prior = Prior(self.simulator.labels, (-1.0,) * size, (1.0,) * size)
        self.theta = torch.empty(0, size)
        self.x = torch.empty(0, len(self.simulator.channels))
        self.validation = torch.empty(0, dtype=torch.long)
        self.folders: list[Path] = []
        self.seconds = {"simulate": 0.0, "train": 0.0, "propose": 0.0}
        self.proposals: list[dict[str, Any]] = []

    def observe(self, observation: int) -> NDArray[np.float32]:
        """Return x_o (d,) of a theta of the prior."""
        theta = self.prior.sample(1, self.generator(Purpose.OBSERVED, observation))[0]
        return np.asarray(
            self.simulator(theta, seed_sequence(ROOT_SEED, Purpose.OBSERVED, observation, 1)).x
        )

    def exact(self, observation: int, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Draw from the exact posterior."""
        rng = np.random.default_rng(seed_sequence(ROOT_SEED, Purpose.DIAGNOSTICS, 0, observation))
        return np.asarray(
            self.simulator.sample_posterior(  # type: ignore[attr-defined]
                self.job.samples, x, self.prior.low, self.prior.high, rng
            )
        )

    def generator(self, purpose: Purpose, *place: int) -> Generator:
        """Return a generator of the root seed."""
        return generator_from_seed(torch_seed(seed_sequence(ROOT_SEED, purpose, *place)))

    def simulate(self, theta: Tensor, round_: int) -> None:
        """Add the simulations of theta (n, d) in the unit cube, a tenth of them for validation."""
        started = time.monotonic()
        place = self.job.observations[0] if self.method.proposal else 0
        physical = self.prior.to_physical(theta)
        x = np.stack([self._x(row, round_, place, k) for k, row in enumerate(physical)])
        rows = validation_split(
            len(theta), VALIDATION_FRACTION, self.generator(Purpose.VALIDATION_SPLIT, round_)
        )
        self.validation = torch.cat([self.validation, len(self.theta) + rows])
        self.theta = torch.cat([self.theta, theta])
        self.x = torch.cat([self.x, torch.from_numpy(x)])
        self.seconds["simulate"] += time.monotonic() - started

    def train(self, round_: int) -> Posterior:
        """Train on all simulations so far; return the posterior."""
        started = time.monotonic()
        folder = self.job.folder / f"round_{round_}"
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "theta.npy", self.theta.numpy())
        np.save(folder / "x.npy", self.x.numpy())
        digest = hashlib.sha256(self.theta.numpy().tobytes() + self.x.numpy().tobytes())
        spec = EstimatorSpec.parse(
            {
                "kind": self.method.kind,
                "z_score_x": "independent",
                "x_shape": list(self.x.shape[1:]),
                "dimension": self.prior.dimension,
                **self.method.spec,
            }
        )
        stages = [self.method.options]
        if self.method.fine is not None and round_ == self.job.rounds - 1:
            stages.append({**self.method.options, **self.method.fine})
        found = []
        for member in range(self.job.members):
            start: Path | None = None
            for stage, options in enumerate(stages):
                here = folder / f"member_{member}" / f"stage_{stage}"
                task = MemberTask(
                    folder=str(here),
                    theta_path=str(folder / "theta.npy"),
                    x_path=str(folder / "x.npy"),
                    validation=tuple(self.validation.tolist()),
                    spec=spec,
                    options=TrainingOptions.parse(options),
                    init_seed=self._seed(Purpose.NETWORK_INIT, round_, member, stage),
                    training_seed=self._seed(Purpose.TRAINING, round_, member, stage),
                    data_digest=digest.hexdigest(),
                    start_from=None if start is None else str(start),
                    loss="atomic" if self.method.atomic and round_ else "maximum_likelihood",
                )
                train_member(task)
                start = here
            assert start is not None
            found.append(load_estimator(start)[0])
        self.seconds["train"] += time.monotonic() - started
        densities = [estimator for estimator in found if isinstance(estimator, EmbedOnce)]
        if densities:
            return EnsemblePosterior(densities, self.prior)
        return McmcPosterior(found, self.prior, options=McmcOptions(num_chains=100))

    def propose(self, posterior: Posterior, x: NDArray[np.float32], round_: int) -> Tensor:
        """Draw the theta of the next round."""
        assert self.method.proposal is not None
        place = self.job.observations[0]
        conditioned = posterior.at(x, self.generator(Purpose.PROPOSAL, round_, place, 0))
        generator = self.generator(Purpose.PROPOSAL, round_, place, 1)
        proposal = make_proposal(conditioned, generator, kind=self.method.proposal)
        draw = proposal.draw(self.job.simulations // self.job.rounds, generator)
        self.seconds["propose"] += draw.seconds
        self.proposals.append(draw.to_dict())
        return draw.theta

    def judge(self, posterior: Posterior, observation: int) -> dict[str, Any]:
        """Return the C2ST at one observation and what it cost."""
        x = self.observe(observation)
        started = time.monotonic()
        generator = self.generator(Purpose.POSTERIOR_SAMPLES, 0, observation)
        samples = posterior.sample(self.job.samples, x, generator)
        sampled = time.monotonic()
        value = classifier_two_sample_test(self.exact(observation, x), samples)
        seconds = self.seconds | {
            "sample": sampled - started,
            "c2st": time.monotonic() - sampled,
        }
        return self.job.record(observation) | {
            "c2st": value,
            "seconds": {name: round(second, 1) for name, second in seconds.items()},
            "proposals": self.proposals,
        }

    def _x(self, theta: NDArray[np.float64], *place: int) -> NDArray[np.float32]:
        seed = seed_sequence(ROOT_SEED, Purpose.SIMULATION_TRAINING, *place)
        return np.asarray(self.simulator(theta, seed).x)

    def _seed(self, purpose: Purpose, *place: int) -> int:
        return torch_seed(seed_sequence(ROOT_SEED, purpose, *place))


def classifier_two_sample_test(exact: NDArray[np.float64], samples: NDArray[np.float64]) -> float:
    """Return sbibm's C2ST of two sets of samples (n, d): accuracy, 0.5 for equal distributions."""
    width = 10 * exact.shape[1]
    return float(
        c2st(
            torch.from_numpy(exact).float(),
            torch.from_numpy(samples).float(),
            seed=1,
            n_folds=5,
            z_score=True,
            classifier="mlp",
            # sbi's own defaults stop early; these are sbibm's
            classifier_kwargs={
                "activation": "relu",
                "hidden_layer_sizes": (width, width),
                "max_iter": 10_000,
                "solver": "adam",
            },
        )
    )


def run_job(job: Job, emit: Callable[[dict[str, Any]], None]) -> None:
    """Train, and emit one record for every observation."""
    with one_thread():
        learner = Learner(job)
        place = job.observations[0] if learner.method.proposal else 0
        size = job.simulations // job.rounds
        theta = learner.prior.to_unit(
            learner.prior.sample(size, learner.generator(Purpose.PRIOR, 0, place))
        )
        learner.simulate(theta, 0)
        posterior = learner.train(0)
        for round_ in range(1, job.rounds):
            x = learner.observe(job.observations[0])
            learner.simulate(learner.propose(posterior, x, round_), round_)
            posterior = learner.train(round_)
        for observation in job.observations:
            emit(learner.judge(posterior, observation))


def make_jobs(options: argparse.Namespace, done: Sequence[Mapping[str, Any]]) -> list[Job]:
    """Return what is left to do; sequential methods have one job for every observation."""
    identities = [{k: v for k, v in record.items() if k not in RESULTS} for record in done]
    jobs = []
    for task in options.tasks:
        for name in options.methods:
            method = METHODS[name]
            base = Job(
                task,
                name,
                (0,),
                options.simulations,
                options.rounds if method.proposal else 1,
                options.samples,
                str(options.output.with_suffix(".work")),
                options.members or method.members,
            )
            left = [k for k in range(options.observations) if base.record(k) not in identities]
            groups = [(k,) for k in left] if method.proposal else [tuple(left)]
            jobs += [Job(**{**base.__dict__, "observations": group}) for group in groups if group]
    return jobs


RESULTS = ("c2st", "seconds", "proposals")
"""Fields of a record that are found, not asked for."""


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return medians over observations, one line for every task and method."""
    lines = [
        f"{'task':<16} {'method':<7} {'sims':>11} {'obs':>4}  {'median':>6} {'min':>6} {'max':>6}"
        f"  {'limit':>5} {'published':>9}  {'train':>6} {'c2st':>6}"
    ]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        asked = {k: v for k, v in record.items() if k not in (*RESULTS, "observation")}
        groups.setdefault(json.dumps(asked, sort_keys=True), []).append(record)
    for key, found in groups.items():
        asked = json.loads(key)
        pair = asked["task"], asked["method"]
        values = [record["c2st"] for record in found]
        sims = f"{asked['rounds']} x {asked['simulations'] // asked['rounds']}"
        limit, published = (
            f"{source[pair]:.3f}" if pair in source else "" for source in (LIMITS, PUBLISHED)
        )
        spent = [
            statistics.mean(record["seconds"][name] for record in found)
            for name in ("train", "c2st")
        ]
        lines.append(
            f"{pair[0]:<16} {pair[1]:<7} {sims:>11} {len(values):>4}  "
            f"{statistics.median(values):>6.3f} {min(values):>6.3f} {max(values):>6.3f}  "
            f"{limit:>5} {published:>9}  {spent[0]:>5.0f}s {spent[1]:>5.0f}s"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is not in the output file yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["gaussian_linear", "two_moons"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--observations", type=int, default=10)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--members", type=int, default=0, help="0: as the method is set up")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("accuracy.json"))
    options = parser.parse_args()
    records = json.loads(options.output.read_text())["records"] if options.output.exists() else []

    def keep(_index: int, record: Mapping[str, Any]) -> None:
        records.append(dict(record))
        write_json(options.output, {"records": records})
        sys.stdout.write(
            f"{record['task']} {record['method']} observation {record['observation']}: "
            f"C2ST {record['c2st']:.3f} {record['seconds']}\n"
        )
        sys.stdout.flush()

    workers: Backend = SerialBackend() if options.jobs == 1 else ProcessesBackend(options.jobs)
    with workers as backend:
        for outcome in backend.run(run_job, make_jobs(options, records), on_event=keep):
            outcome.result()
    sys.stdout.write(table(records))


if __name__ == "__main__":
    main()
