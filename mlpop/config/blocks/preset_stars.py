"""What a preset of the population says of the stars, and in a sentence of all that it fixes."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from mlpop.config.blocks.dynamics import KICK_PARAMETERS, DynamicsConfig
from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.blocks.presets import PRESET_STARS, PRESETS
from mlpop.config.reference import Translation

YEARS_PER_CENTURY = 100.0
_ARMS = ("radial_model", "spiral_arms", "arm_number")


def preset_stars(preset: str, birth_rate_max: float, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the block of a stellar database with what a preset says and `given` does not.

    Where it says nothing of `NS_number`, there are as many stars as `birth_rate_max` asks for.
    """
    published = PRESET_STARS.get(preset)
    if published is None:
        return dict(given)
    unused = set(_ARMS) if given.get("sample_edm") else set()
    if given.get("kick_model", published["kick_model"]) != published["kick_model"]:
        unused |= set(KICK_PARAMETERS[str(published["kick_model"])])
    filled = {k: v for k, v in published.items() if k not in unused} | dict(given)
    age = filled["t_age_max"]
    if "NS_number" not in filled and isinstance(age, int | float):
        filled["NS_number"] = max(1, math.ceil(birth_rate_max * age / YEARS_PER_CENTURY))
    return filled


def fill_stars(translation: Translation) -> None:
    """Let the preset of a pulsar simulator fill `dyn_data_loader.database` of a raw file."""
    simulator = _inner(translation.values, "simulator") or {}
    population = _inner(simulator, "args", "population")
    if population is None or simulator.get("type", "pulsar") != "pulsar":
        return
    preset, rate = population.get("preset"), population.get("birth_rate_max", 5.0)
    loader = translation.values.get("dyn_data_loader", {})
    if preset not in PRESET_STARS or not isinstance(loader, Mapping):
        return
    database = {} if loader.get("database") is None else loader["database"]
    good = isinstance(database, Mapping) and type(rate) in (int, float) and rate > 0
    if loader.get("dataset_path") or not good:
        return
    stars = preset_stars(str(preset), float(rate), database)
    translation.values["dyn_data_loader"] = {**loader, "database": stars}


def preset_sentence(
    population: PopulationConfig, stars: DynamicsConfig | None, labels: Collection[str] = ()
) -> str:
    """Say what the preset of a population fixes, and what the configuration changes of it.

    Args:
        population: what the preset is of.
        stars: those of the stellar database; None where they are not made here.
        labels: of theta, which are free.
    """
    name = population.preset
    blocks = [(population.model_dump(), PRESETS[name])]
    if stars is not None:
        blocks.append((stars.model_dump(), PRESET_STARS.get(name, {})))
    fixed, changed = [], []
    for found, preset in blocks:
        for field, published in preset.items():
            if field in labels:
                continue
            said = f"{field} {_show(found[field])}"
            if found[field] == published:
                fixed.append(said)
            else:
                changed.append(f"{said} (preset: {_show(published)})")
    other = ", ".join(changed) or "nothing of it"
    return (
        f"preset {name} fixes {', '.join(fixed) or 'nothing'}; the configuration changes {other}"
    )


def _show(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {target['detected_real']}" for key, target in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _inner(values: Any, *names: str) -> Mapping[str, Any] | None:
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else None
