"""From the configuration to the simulator that workers build."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mlpop.config.generator import GeneratorConfig
from mlpop.config.training import SimulatorConfig
from mlpop.errors import ConfigError
from mlpop.experiment.supply import SimulatorPlan
from mlpop.population.stars import StellarDatabase
from mlpop.simulators import load


def simulator_plan(
    simulator: SimulatorConfig,
    labels: tuple[str, ...],
    generator: GeneratorConfig,
    stars: StellarDatabase | None,
) -> SimulatorPlan:
    """Complete the `simulator` block with what only the launch knows, and try to build it.

    Args:
        simulator: the block.
        labels: names of theta.
        generator: how maps are made.
        stars: the stellar database; None where the simulator needs none.

    Raises:
        ConfigError: the simulator is unknown, refuses its arguments, or has other labels.
    """
    args: dict[str, Any] = dict(simulator.args)
    content: dict[str, Any] = {"type": simulator.type, "args": simulator.args}
    if simulator.type == "pulsar":
        assert stars is not None
        if stars.folder is None:
            raise ConfigError("the stellar database must lie on disk for workers to share it")
        args |= {
            "labels": list(labels),
            "generator": generator.model_dump(mode="json"),
            "database": str(stars.folder.resolve()),
        }
        content |= {"stars": stars.digest, "generator": generator.model_dump(mode="json")}
    block = {"type": simulator.type, "args": args}
    built = load(simulator.type, args)
    if tuple(built.labels) != tuple(labels):
        raise ConfigError(
            f"prior_ranges.labels: {list(labels)} must be the labels of the simulator "
            f"'{simulator.type}' in their order, {list(built.labels)}"
        )
    return SimulatorPlan(
        block=block,
        labels=tuple(labels),
        channels=tuple(built.channels),
        identity=_digest(content),
        generator=generator if simulator.type == "pulsar" else None,
    )


def needs_stars(simulator: SimulatorConfig) -> bool:
    """Tell whether the simulator draws from a stellar database."""
    return simulator.type == "pulsar"


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
