"""`experiments/graber2024.json`, `pardo2025.json`: what the papers did, on our own sample."""

from pathlib import Path

import pytest

from mlpop.config.base import read_json
from mlpop.config.blocks.preset_stars import preset_sentence
from mlpop.config.blocks.presets import PRESET_STARS, PRESETS
from mlpop.config.files.observe import ObserveConfig
from mlpop.config.files.sbi import SbiConfig

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
PRIOR = {
    "B_initial_log10_mean": (12.0, 14.0),
    "B_initial_log10_sigma": (0.1, 1.0),
    "P_initial_log10_mean": (-1.5, -0.3),
    "P_initial_log10_sigma": (0.1, 1.0),
    "a_late": (-3.0, -0.5),
}
LUMINOSITY = {"L_radio_log10_mean": (24.6, 28.6), "epsilon_L": (0.1, 1.0)}


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files name the numbers of the sample relative to the project."""
    monkeypatch.chdir(EXPERIMENTS.parent)


def experiment(name: str) -> SbiConfig:
    return SbiConfig.parse(read_json(EXPERIMENTS / f"{name}.json"), name)


@pytest.mark.parametrize(
    ("name", "prior", "fluxes"),
    [("graber2024", PRIOR, False), ("pardo2025", PRIOR | LUMINOSITY, True)],
)
def test_prior_and_maps_are_the_published_ones(
    at_home: None, name: str, prior: dict[str, tuple[float, float]], fluxes: bool
) -> None:
    config = experiment(name)
    ranges = config.prior_ranges
    assert (
        dict(zip(ranges.labels, zip(ranges.low, ranges.high, strict=True), strict=True)) == prior
    )
    counts = [f"survey_{survey}_ppdot_map" for survey in ("PMPS", "SMPS", "HTRU")]
    maps = [*counts, *(f"{count}_fluxes" for count in counts)] if fluxes else counts
    assert list(config.training_data_loader.filter_inputs or ()) == maps
    assert config.arch is not None
    assert config.arch.args.input_shape == (len(maps), 32, 32)
    config.simulator.pulsar.population.require_sweepable(ranges.labels)


@pytest.mark.parametrize("name", ["graber2024", "pardo2025"])
def test_all_of_the_preset_holds_but_the_numbers_of_the_sample(at_home: None, name: str) -> None:
    config = experiment(name)
    population, stars = config.simulator.pulsar.population, config.dyn_data_loader.stars
    values = population.model_dump()
    assert population.preset == name
    kept = {k: v for k, v in PRESETS[name].items() if k != "surveys_radio"}
    assert {key: values[key] for key in kept} == kept
    assert {k: v for k, v in stars.model_dump().items() if k in PRESET_STARS[name]} == dict(
        PRESET_STARS[name]
    )
    assert (stars.t_age_max, stars.NS_number) == (1e8, 3_300_000)
    changed = preset_sentence(population, stars).partition("the configuration changes ")[2]
    assert changed.startswith("surveys_radio PMPS 988 SMPS 201 HTRU_low_mid 1019")
    assert changed.count("(preset: ") == 1


@pytest.mark.parametrize("name", ["graber2024", "pardo2025", "atnf"])
def test_maps_are_made_as_those_of_the_shipped_sample(at_home: None, name: str) -> None:
    config, observe = (
        experiment(name),
        ObserveConfig.parse(read_json(EXPERIMENTS / "observe.json")),
    )
    assert config.observed_sample.dataset_path == observe.save_dir
    made, seen = config.map_generator, observe.generator
    for field in ("resolution_ppdot", "p_limits", "pdot_limits", "smoothing_sigma", "surveys"):
        assert getattr(made, field) == getattr(seen, field)
