"""Contradictions between the blocks of an SBI configuration.

Each check yields pairs of a field path and a message; the configuration lists all of them at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlpop.config.blocks.dynamics import DYNAMICS_LABELS
from mlpop.config.blocks.flux_subsample import with_census
from mlpop.config.blocks.generator import is_count
from mlpop.config.files.facts import ExperimentFacts
from mlpop.config.messages import nearest, show
from mlpop.errors import ConfigError

if TYPE_CHECKING:
    from mlpop.config.files.sbi import SbiConfig

Contradiction = tuple[str, str]

YEARS_PER_CENTURY = 100


def contradictions(config: SbiConfig) -> Iterator[Contradiction]:
    """Yield (field path, message) for every contradiction between blocks of `config`."""
    yield from _filters(config)
    yield from _maps(config)
    yield from _labels(config)
    yield from _swept(config)
    yield from _training_data(config)
    yield from _test_data(config)
    yield from _observed(config)
    yield from _database(config)
    yield from _census(config)
    yield from _methods(config)
    yield from _resume(config)
    yield from _compute(config)


def _filters(config: SbiConfig) -> Iterator[Contradiction]:
    columns = config.training_data_loader.filter_inputs
    path = "training_data_loader.filter_inputs"
    counts = config.training_data_loader.filter_counts
    if config.arch is None:
        if counts is not None:
            where = "training_data_loader.filter_counts"
            yield where, "must be null when arch is null: choose all numbers by filter_inputs"
        return
    compression = config.compression_input
    if counts is not None and compression.use_compression and compression.rescale == "sample":
        yield (
            "compression_input.rescale",
            "must be 'component' or 'none' with training_data_loader.filter_counts: 'sample' "
            "would scale counts by what the maps hold",
        )
    channels = config.arch.args.input_shape[0]
    if columns is None:
        yield path, f"is required: name the {channels} channels of arch.args.input_shape"
    elif len(columns) != channels:
        yield (
            path,
            f"must have one entry a channel of arch.args.input_shape ({channels}), "
            f"found {len(columns)}",
        )


def _maps(config: SbiConfig) -> Iterator[Contradiction]:
    facts = ExperimentFacts(config)
    if not facts.makes_maps or config.arch is None or facts.selects_unseen:
        return
    path = "training_data_loader.filter_inputs"
    channels = facts.channels
    for i, entry in enumerate(config.training_data_loader.filter_inputs or ()):
        if isinstance(entry, int) and entry >= len(channels):
            yield (
                f"{path}[{i}]",
                f"must be below {len(channels)}, the number of maps, found {entry}",
            )
        elif isinstance(entry, str) and entry not in channels:
            near = nearest(entry, channels)
            hint = f"did you mean {near!r}?" if near else f"allowed: {', '.join(channels)}"
            yield f"{path}[{i}]", f"is no map that is simulated, found {show(entry)}; {hint}"
        elif is_count(entry if isinstance(entry, str) else channels[entry]):
            yield f"{path}[{i}]", f"is a number and no map: move {show(entry)} to filter_counts"
    yield from _counts(facts)
    map_shapes = {name: facts.shape_of(name) for name in facts.selected}
    if len({shape for shape, _ in map_shapes.values()}) > 1:
        shapes = ", ".join(f"{name} {list(shape)}" for name, (shape, _) in map_shapes.items())
        yield path, f"must select maps of one shape, found {shapes}"
        return
    _, height, width = config.arch.args.input_shape
    for shape, source in list(map_shapes.values())[:1]:
        if (height, width) != shape:
            yield (
                "arch.args.input_shape",
                f"must be {[config.arch.args.input_shape[0], *shape]} for the maps that are "
                f"simulated ({source}), found {list(config.arch.args.input_shape)}",
            )


def _counts(facts: ExperimentFacts) -> Iterator[Contradiction]:
    """Counts that are chosen and not simulated."""
    made = [name for name in facts.channels if is_count(name)]
    hint = f"allowed: {', '.join(made)}" if made else "set generator.counts to true"
    for i, entry in enumerate(facts.config.training_data_loader.filter_counts or ()):
        name = entry
        if isinstance(entry, int):
            name = facts.channels[entry] if entry < len(facts.channels) else ""
        if name not in made:
            yield (
                f"training_data_loader.filter_counts[{i}]",
                f"is no count that is simulated, found {show(entry)}; {hint}",
            )


def _labels(config: SbiConfig) -> Iterator[Contradiction]:
    labels = config.prior_ranges.labels
    columns = config.training_data_loader.filter_labels
    path = "training_data_loader.filter_labels"
    if columns is None:
        return
    if len(columns) != len(labels):
        yield (
            path,
            f"must have one entry a label of prior_ranges.labels ({len(labels)}), "
            f"found {len(columns)}",
        )
    elif isinstance(columns[0], str) and columns != labels:
        yield path, f"must be prior_ranges.labels {list(labels)}, found {list(columns)}"
    inputs = config.training_data_loader.columns or ()
    for i, column in enumerate(columns):
        if column in inputs:
            yield f"{path}[{i}]", f"must not be an input column too, found {show(column)}"


def _swept(config: SbiConfig) -> Iterator[Contradiction]:
    """Labels that the pulsar simulator cannot vary, or not over their whole prior range."""
    if not ExperimentFacts(config).makes_maps:
        return
    prior, population = config.prior_ranges, config.simulator.pulsar.population
    for i, label in enumerate(prior.labels):
        if label in DYNAMICS_LABELS:
            if config.dyn_data_loader.dataset_path is not None:
                yield (
                    "dyn_data_loader.dataset_path",
                    f"must be null to infer '{label}', which changes the stars: give "
                    "dyn_data_loader.database, of which every simulation makes its own",
                )
            elif label not in (allowed := config.dyn_data_loader.stars.sweepable()):
                yield (
                    f"prior_ranges.labels[{i}]",
                    f"'{label}' has no effect with dyn_data_loader.database.kick_model "
                    f"'{config.dyn_data_loader.stars.kick_model}'; allowed: "
                    + ", ".join(sorted(allowed)),
                )
            continue
        try:
            population.require_sweepable([label])
        except ConfigError as error:
            yield f"prior_ranges.labels[{i}]", str(error).removeprefix("labels: ")
            continue
        reach = prior.reach(i)
        if reach is None:
            continue
        width = reach[1] - reach[0]
        for name, edge, inwards in (("low", reach[0], 1e-9), ("high", reach[1], -1e-9)):
            try:
                population.with_override({label: edge + inwards * width})
            except ConfigError as error:
                reason = str(error).split(": ")[-1].split(", found")[0]
                if prior.distribution(label).takes_edges:
                    yield f"prior_ranges.{name}[{i}]", f"{label} {reason}, found {edge}"
                else:
                    yield (
                        f"prior_ranges.distributions.{label}",
                        f"reaches {edge:.12g}, but {label} {reason}; 'truncated_normal' has edges",
                    )


def _training_data(config: SbiConfig) -> Iterator[Contradiction]:
    data = config.training_data_loader
    block = "training_data_loader"
    if not data.simulate and data.dataset_path_round_0 is None:
        yield f"{block}.dataset_path_round_0", "is required unless simulate is true"
    if data.simulate and data.dataset_path_round_0 is not None:
        yield f"{block}.dataset_path_round_0", "must be null when simulate is true"
    if not data.simulate and data.scaling != "none" and data.statistic_path is None:
        yield f"{block}.statistic_path", f"is required when {data.scaling} is true"
    if data.simulate and data.statistic_path is not None:
        yield (
            f"{block}.statistic_path",
            "must be null when simulate is true: statistics are those of the simulated set",
        )
    if (data.simulate or config.trainer.num_rounds > 1) and data.num_sim < 2:
        yield f"{block}.num_sim", "must be at least 2: one to train on, one to validate, found 1"


def _test_data(config: SbiConfig) -> Iterator[Contradiction]:
    data = config.test_data_loader
    path = "test_data_loader.dataset_path_round_0"
    if data.testing and not data.simulate and data.dataset_path_round_0 is None:
        yield path, "is required when testing is true, unless simulate is true"
    if data.simulate and data.dataset_path_round_0 is not None:
        yield path, "must be null when simulate is true"


def _observed(config: SbiConfig) -> Iterator[Contradiction]:
    observed, trained = config.observed_sample, config.training_data_loader.filter_inputs
    path = "observed_sample.filter_inputs"
    if observed.filter_inputs is not None and observed.filter_inputs != trained:
        found = list(observed.filter_inputs)
        expected = "null (all)" if trained is None else str(list(trained))
        same_kind = trained is not None and type(found[0]) is type(trained[0])
        if same_kind or trained is None:
            yield path, f"must be training_data_loader.filter_inputs {expected}, found {found}"
        elif trained is not None and len(found) != len(trained):
            yield (
                path,
                f"must have as many entries as training_data_loader.filter_inputs "
                f"({len(trained)}), found {len(found)}",
            )
    if observed.synthetic is not None:
        yield from _truth(config, observed.synthetic.theta)


def _truth(config: SbiConfig, theta: dict[str, float]) -> Iterator[Contradiction]:
    prior = config.prior_ranges
    path = "observed_sample.synthetic.theta"
    for label in theta:
        if label not in prior.labels:
            near = nearest(label, prior.labels)
            hint = f"; did you mean '{near}'?" if near else ""
            yield f"{path}.{label}", f"is not one of prior_ranges.labels{hint}"
    for i, label in enumerate(prior.labels):
        reach = prior.reach(i)
        if label not in theta:
            yield f"{path}.{label}", "is required: it is one of prior_ranges.labels"
        elif reach is not None and not reach[0] <= theta[label] < reach[1]:
            yield (
                f"{path}.{label}",
                f"must lie in the prior range [{reach[0]}, {reach[1]}), found {theta[label]}",
            )


def _database(config: SbiConfig) -> Iterator[Contradiction]:
    if not ExperimentFacts(config).makes_maps:
        return
    data = config.dyn_data_loader
    if data.dataset_path is None and data.database is None:
        yield (
            "dyn_data_loader",
            "must have dataset_path or database: pulsar populations are simulated from it",
        )
    elif data.database is not None:
        rate = config.simulator.pulsar.population.birth_rate_max
        needed = math.ceil(rate * data.database.t_age_max / YEARS_PER_CENTURY)
        if data.database.NS_number < needed:
            yield (
                "dyn_data_loader.database.NS_number",
                f"must be at least {needed}, the stars born in t_age_max at "
                f"simulator.args.population.birth_rate_max = {rate:g} per century (or lower "
                f"that), found {data.database.NS_number}",
            )


def _census(config: SbiConfig) -> Iterator[Contradiction]:
    if config.simulator.draws_stars:
        try:
            with_census(config.generator, config.simulator.pulsar.population)
        except ConfigError as error:
            yield "generator.flux_subsample", str(error)


def _methods(config: SbiConfig) -> Iterator[Contradiction]:
    trainer, method = config.trainer, config.trainer.method
    compression = config.compression_input
    if method.estimator != "posterior" and config.mcmc_sampler.type == "nuts":
        yield (
            "mcmc_sampler.type",
            "'nuts' is not there: mlpop moves the chains of all observations together, and the "
            "trajectories of NUTS all end at another length; take 'hmc', which follows the same "
            "gradients, or 'slice_np_vectorized'",
        )
    if method.needs_vectors and config.arch is not None and not compression.use_compression:
        yield (
            "compression_input.use_compression",
            f"must be true when trainer.type is '{trainer.type}' and x is a map: it needs vectors",
        )
    uses_cnn = compression.use_compression and compression.compression_type == "cnn"
    if uses_cnn and compression.fit and config.arch is None:
        yield (
            "compression_input.compression_type",
            "must be 'pca' with fit when arch is null: there is no network to train as compressor",
        )
    trains = not compression.use_compression or (uses_cnn and compression.fit)
    if trainer.embedding_weight_decay and (config.arch is None or not trains):
        yield (
            "trainer.embedding_weight_decay",
            "means nothing without an embedding network that is trained (arch is null, or x is "
            "compressed by a PCA or by a given network): expected 0, found "
            f"{trainer.embedding_weight_decay}",
        )
    corrects = trainer.loss(trainer.num_rounds - 1) == "atomic"
    data = config.training_data_loader
    simulated = data.simulate or (trainer.num_rounds > 1 and not trainer.append_simulations)
    reason = trainer.too_few_to_compare(max(2, data.num_sim))
    if reason and ((method.compares and simulated) or corrects):
        yield "trainer.validation_fraction", reason
    if (method.compares or corrects) and trainer.batch_size < 2:
        why = "the posterior proposes theta" if corrects else f"trainer.type is '{trainer.type}'"
        yield (
            "trainer.batch_size",
            f"must be at least 2 when {why}: the loss compares the simulations of a batch, found "
            f"{trainer.batch_size}",
        )


def _resume(config: SbiConfig) -> Iterator[Contradiction]:
    resume, rounds = config.resume_training, config.trainer.num_rounds
    if resume.resume and resume.last_round is not None and resume.last_round > rounds - 1:
        yield (
            "resume_training.last_round",
            f"must be at most {rounds - 1} for trainer.num_rounds = {rounds} (there is nothing "
            f"to resume), found {resume.last_round}",
        )


def _compute(config: SbiConfig) -> Iterator[Contradiction]:
    if config.compute.cluster != "local" and not config.enable_dask:
        yield "compute.cluster", f"is {config.compute.cluster!r}, which needs enable_dask true"
