"""The rows of the table: each does the same work twice, here and the plain way, turn by turn."""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Way = Callable[[], Any]
"""Does the work once."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: in the table and on the command line.
        work: what is done, the same both ways.
        peer: the plain way.
        limit: what limits it here.
        prepare: makes both ways, ours first; with True of a small piece of the work. What they
            need until the end is closed by the stack.
        clock: of both ways: `process_time` where other work on the machine must not count.
    """

    name: str
    work: str
    peer: str
    limit: str
    prepare: Callable[[bool, ExitStack], tuple[Way, Way]]
    clock: Callable[[], float] = time.process_time


def spin_down(quick: bool, stack: ExitStack) -> tuple[Way, Way]:
    """Evolve periods and angles of many stars to their ages."""
    from numba import njit
    from scipy.integrate import solve_ivp

    from mlpop.config.blocks.population import PopulationConfig, given
    from mlpop.population.constants import YEAR_S
    from mlpop.population.pulsars.decay_table import decay_table
    from mlpop.population.pulsars.evolution import evolution, evolve_births
    from mlpop.population.pulsars.field import log_decay
    from mlpop.population.pulsars.initial import Births
    from mlpop.population.pulsars.spindown import beta

    count = 200 if quick else 2000
    config = PopulationConfig.parse({})
    rng = np.random.default_rng(0)
    ln_b0 = np.log(10.0) * rng.normal(13.09, 0.5, count)
    p0 = 10.0 ** rng.normal(-0.67, 0.55, count)
    cosine = rng.random(count)
    age = rng.uniform(1.0, 3e7, count)
    none = np.full(count, -700.0)
    births = Births(ln_b0, none, np.log(p0), cosine, none)
    now = evolution(config)
    table = decay_table(now.law, age.max())
    strength = beta(config.NS_mass, given(config.NS_radius)) * YEAR_S

    law = now.law

    @njit
    def decays(ln_b0: np.ndarray, t: np.ndarray) -> np.ndarray:
        found = np.empty_like(t)
        for star in range(len(t)):
            found[star] = log_decay(law, ln_b0[star], t[star])
        return found

    def rates(s: float, y: np.ndarray) -> np.ndarray:
        # s runs from 0 to 1 for every star; time is spaced by its logarithm
        period, chi = y[:count], y[count:]
        t = np.expm1(s * np.log1p(age))
        pull = strength * np.exp(2.0 * (ln_b0 + decays(ln_b0, t))) / period
        sine, cos = np.sin(chi), np.cos(chi)
        pull *= np.log1p(age) * (1.0 + t)
        return np.concatenate([pull * (1.0 + sine**2), -pull / period * sine * cos])

    start = np.concatenate([p0, np.arccos(cosine)])

    def ours() -> np.ndarray:
        return np.asarray(evolve_births(now, table, births, age).P)

    def plain() -> np.ndarray:
        solved = solve_ivp(rates, (0.0, 1.0), start, rtol=1e-6, atol=1e-8)
        return np.asarray(solved.y[:count, -1])

    error = np.abs(ours() / plain() - 1.0)
    assert np.median(error) < 1e-3, f"the periods differ by {np.median(error):.2g}"
    return ours, plain


def simulation(quick: bool, stack: ExitStack) -> tuple[Way, Way]:
    """Simulate populations of the default configuration."""
    from benchmarks import bounds

    stars = 20_000 if quick else 800_000
    database = bounds.find_or_build(bounds.DynamicsConfig.parse({"NS_number": stars, "seed": 11}))
    years = database.t_age_max / bounds.CENTURY_YR
    rate = min(5.0, np.floor(len(database) / years * 1e3) / 1e3)
    base = bounds.PopulationConfig.parse({"birth_rate_max": float(rate)})
    config = base.with_override(bounds.THETAS["default"])
    seeds = iter(range(10**6))

    def once(way: str) -> Way:
        return lambda: bounds.WAYS[way](config, database, np.random.SeedSequence(next(seeds)))

    return once("here"), once("plain")


def training(quick: bool, peer: str) -> tuple[Way, Way]:
    """Train the documented embedding with a flow for the same number of epochs."""
    from benchmarks import training as lessons

    theta, x = lessons.population(100 if quick else 1000)
    options = lessons.TrainingOptions(
        batch_size=50, max_num_epochs=2 if quick else 3, stop_after_epochs=10_000
    )

    def ours() -> object:
        with lessons.one_thread():
            return lessons.train_ours(theta, x, "maf", options)

    def sbi() -> object:
        with lessons.one_thread():
            return lessons.train_sbi(theta, x, "maf", options)

    def zuko() -> object:
        with lessons.one_thread():
            return train_zuko(theta, x, options)

    return ours, {"sbi": sbi, "zuko": zuko}[peer]


def train_zuko(theta: Any, x: Any, options: Any) -> Any:
    """Train as a user of zuko writes it: flow, embedding, Adam, a loop, a validation loss."""
    import torch
    import zuko

    from benchmarks import training as lessons

    torch.manual_seed(0)
    embedding = lessons.plain_network()
    flow = zuko.flows.MAF(lessons.LABELS, 32, transforms=5, hidden_features=(32, 32))
    weights = [*embedding.parameters(), *flow.parameters()]
    optimizer = torch.optim.Adam(weights, lr=options.lr)
    z = lessons.probit(theta)
    order = torch.randperm(len(x))
    held_out, rows = order[: len(x) // 10], order[len(x) // 10 :]
    for _ in range(options.max_num_epochs):
        for batch in rows[torch.randperm(len(rows))].split(options.batch_size):
            loss = -flow(embedding(x[batch])).log_prob(z[batch]).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 5.0)
            optimizer.step()
        with torch.no_grad():
            flow(embedding(x[held_out])).log_prob(z[held_out]).mean()
    return flow


def draws(quick: bool, stack: ExitStack) -> tuple[Way, Way]:
    """Draw from the posteriors at many x."""
    import torch
    from sbi.inference.posteriors import DirectPosterior

    from benchmarks import expected_coverage as coverage
    from benchmarks import training as lessons

    theta, x = lessons.population(50 if quick else 200)
    number = 100 if quick else 1000
    member = coverage.make_members("maf", 1, theta, x)[0]
    edges = ((0.0,) * lessons.LABELS, (1.0,) * lessons.LABELS)
    labels = tuple(f"t{k}" for k in range(lessons.LABELS))
    posterior = coverage.EnsemblePosterior([member], coverage.Prior(labels, *edges))
    torch.manual_seed(0)
    density = lessons.sbi_builder("maf", lessons.plain_network())(lessons.probit(theta), x)
    theirs = DirectPosterior(density.eval(), lessons.normal())

    def ours() -> object:
        with lessons.one_thread():
            return posterior.sample_batched(number, x.numpy(), lessons.generator_from_seed(0))

    def sbi() -> object:
        with lessons.one_thread(), torch.no_grad():
            return theirs.sample_batched((number,), x, show_progress_bars=False)

    return ours, sbi


def chains(quick: bool, stack: ExitStack) -> tuple[Way, Way]:
    """Draw from a likelihood by the same slice sampler, from the same starts."""
    from benchmarks import mcmc

    prior, member, x = mcmc.trained(2)
    samples, number = (40, 4) if quick else (1000, 20)
    options = mcmc.McmcOptions(
        "slice_np_vectorized", num_chains=number, thin=1, warmup=mcmc.WARMUP
    )
    posterior = mcmc.McmcPosterior([member], prior, options=options)

    def ours() -> object:
        with mcmc.one_thread():
            return mcmc.our_draws(posterior, x, samples)

    def sbi() -> object:
        with mcmc.one_thread():
            return mcmc.sbi_draws(prior, member, x, samples, number)

    return ours, sbi


def campaign(quick: bool, stack: ExitStack) -> tuple[Way, Way]:
    """Simulate a set on two workers of Dask, to files; simulations only wait."""
    import dask.bag
    from distributed import Client, LocalCluster

    from benchmarks.waiting import simulate
    from mlpop.compute import Purpose, run_campaign
    from mlpop.compute.backends.dask_backend import DaskBackend

    count = 64 if quick else 1000
    theta = np.random.default_rng(0).random((count, 2))
    # workers import the simulator
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    os.environ["MLPOP_ALLOW_MODULES"] = "benchmarks"
    backend = stack.enter_context(DaskBackend(2))
    spec = {"type": "benchmarks.waiting:Waiting", "args": {}}
    cluster = stack.enter_context(
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
        )
    )
    client = stack.enter_context(Client(cluster))

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            run_campaign(
                spec,
                theta,
                ("a", "b"),
                1,
                Purpose.SIMULATION_TRAINING,
                0,
                Path(folder),
                backend,
            )

    def bag() -> None:
        with tempfile.TemporaryDirectory() as folder:
            rows = dask.bag.from_sequence(list(theta), partition_size=16)
            x = rows.map(simulate).compute(scheduler=client)
            np.save(Path(folder, "x.npy"), np.stack(x))

    return ours, bag


def status(quick: bool, stack: ExitStack) -> tuple[Way, Way]:
    """Show the newest runs of a store, in a process of its own."""
    from benchmarks import startup

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlpop-")), "store")
    startup.fill(folder, 100 if quick else 20_000)
    python = sys.executable

    def ours() -> float:
        return float(startup.measured([python, "-m", "mlpop", "status"], folder, 0, 1))

    def plain() -> float:
        return float(startup.measured([python, "-c", startup.PLAIN], folder, 0, 1))

    return ours, plain


ROWS = (
    Row(
        "spin-down",
        "2000 stars from birth to their age",
        "scipy's solve_ivp, all stars in one vector",
        "memory bandwidth: a table look-up and a few logarithms a star",
        spin_down,
    ),
    Row(
        "simulation",
        "one default population of 800 000 stars",
        "numpy's generators and no bounds (benchmarks/bounds.py)",
        "evolution of the stars that a survey may see",
        simulation,
    ),
    Row(
        "training-sbi",
        "1000 maps (6, 32, 32), embedding and MAF, 3 epochs",
        "sbi's train()",
        "the convolutions",
        lambda quick, _: training(quick, "sbi"),
    ),
    Row(
        "training-zuko",
        "1000 maps (6, 32, 32), embedding and MAF, 3 epochs",
        "a plain loop over zuko's MAF",
        "the convolutions",
        lambda quick, _: training(quick, "zuko"),
    ),
    Row(
        "draws",
        "1000 draws at each of 200 x, embedding and MAF",
        "sbi's sample_batched",
        "the inverse of the flow, one pass a label",
        draws,
    ),
    Row(
        "chains",
        "1000 draws of a likelihood in 2 dimensions, 20 chains",
        "sbi's slice_np_vectorized",
        "evaluations of the density",
        chains,
    ),
    Row(
        "campaign",
        "1000 simulations of 20 ms on two Dask workers, to files",
        "dask.bag, gathered and saved by the client",
        "the simulations themselves (10 s), then hashing shards",
        campaign,
        time.perf_counter,
    ),
    Row(
        "status",
        "the newest runs of a store with 20 000",
        "MLflow's client",
        "the start of Python and its imports",
        status,
        time.perf_counter,
    ),
)


def measure(row: Row, repeats: int, quick: bool) -> Mapping[str, Any]:
    """Return the times of both ways [s], turn by turn, after one of each that does not count."""
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")
        ways = dict(zip(times, row.prepare(quick, stack), strict=True))
        for repeat in range(repeats + 1):
            for name, way in ways.items():
                started = row.clock()
                way()
                if repeat:
                    times[name].append(row.clock() - started)
    pairs = zip(times["plain"], times["ours"], strict=True)
    return times | {"ratio": float(np.median([plain / ours for plain, ours in pairs]))}
