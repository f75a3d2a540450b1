"""From the configuration to the simulator that workers build."""

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from mlpop.config.blocks.data import DynamicalDataConfig
from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.training import SimulatorConfig
from mlpop.errors import ConfigError, DataError
from mlpop.experiment.simulations.simulator import check_plan, simulator_plan
from mlpop.population.stars.database import StellarDatabase
from mlpop.simulators.pulsar import PulsarSimulator

LABELS = ("B_initial_log10_mean",)


def pulsar(**population: Any) -> SimulatorConfig:
    return SimulatorConfig(args={"population": {"birth_rate_max": 0.002, **population}})


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> StellarDatabase:
    folder = tmp_path_factory.mktemp("stars") / "database"
    return StellarDatabase.build(DynamicsConfig(NS_number=600, seed=3), folder)


def test_maps_are_recorded_as_they_are_made(database: StellarDatabase) -> None:
    plan = simulator_plan(pulsar(detected_meerkat_SMPS=3), LABELS, GeneratorConfig(), database)
    assert plan.generator is not None
    assert plan.generator.flux_subsample["SMPS"] == 3
    assert plan.block["args"]["generator"]["flux_subsample"]["SMPS"] == 3


def test_identity_is_of_the_content_and_not_of_the_place(
    database: StellarDatabase, tmp_path: Path
) -> None:
    assert database.folder is not None
    shutil.copytree(database.folder, tmp_path / "moved")
    moved = StellarDatabase.open(tmp_path / "moved")
    one = simulator_plan(pulsar(), LABELS, GeneratorConfig(), database)
    two = simulator_plan(pulsar(), LABELS, GeneratorConfig(), moved)
    assert one.block != two.block
    assert one.identity == two.identity
    others = [
        simulator_plan(pulsar(detected_meerkat_SMPS=3), LABELS, GeneratorConfig(), database),
        simulator_plan(pulsar(), LABELS, GeneratorConfig(smoothing_sigma=2.0), database),
        simulator_plan(pulsar(), LABELS, GeneratorConfig(), DynamicsConfig(NS_number=600)),
    ]
    identities = {plan.identity for plan in (one, *others)}
    assert len(identities) == 4


def test_simulations_of_another_version_are_others(
    database: StellarDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = simulator_plan(pulsar(), LABELS, GeneratorConfig(), database)
    monkeypatch.setattr(PulsarSimulator, "version", PulsarSimulator.version - 1)
    before = simulator_plan(pulsar(), LABELS, GeneratorConfig(), database)
    assert before.block == now.block
    assert before.identity != now.identity


OWN = """
from mlpop.simulators import Simulation

class Own:
    labels, channels = ("a",), ("x",)

    def __call__(self, theta, seed):
        return Simulation(theta)
"""


@pytest.mark.parametrize(
    ("before", "now", "equal"),
    [
        (OWN, OWN, True),
        (OWN, OWN.replace("(theta)", "(2 * theta)"), False),
        (f"{OWN}    version = 1", f"{OWN.replace('(theta)', '(theta + 0)')}    version = 1", True),
        (f"{OWN}    version = 1", f"{OWN}    version = 2", False),
    ],
    ids=["same", "changed", "changed within a version", "another version"],
)
def test_simulations_of_changed_code_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, now: str, equal: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    identities = []
    for code in (before, now):
        (tmp_path / "own_changing.py").write_text(code)
        importlib.invalidate_caches()
        sys.modules.pop("own_changing", None)
        own = SimulatorConfig(type="own_changing:Own")
        identities.append(simulator_plan(own, ("a",), GeneratorConfig(), None).identity)
    assert (identities[0] == identities[1]) is equal


def test_a_database_is_checked_before_it_is_built_or_imported(
    database: StellarDatabase, tmp_path: Path
) -> None:
    assert database.folder is not None
    small = DynamicalDataConfig(database=DynamicsConfig(NS_number=500))
    with pytest.raises(ConfigError, match="dynamics.NS_number"):
        check_plan(pulsar(), LABELS, GeneratorConfig(), small)
    given = DynamicalDataConfig(dataset_path=database.folder)
    assert len(check_plan(pulsar(), LABELS, GeneratorConfig(), given).channels) == 15
    with pytest.raises(ConfigError, match="needs 60000 stars"):
        check_plan(pulsar(birth_rate_max=0.2), LABELS, GeneratorConfig(), given)
    with pytest.raises(DataError, match="holds neither"):
        check_plan(pulsar(), LABELS, GeneratorConfig(), DynamicalDataConfig(dataset_path=tmp_path))
    database.export_csv(tmp_path / "final_pop_dyn.csv")
    imported = DynamicalDataConfig(dataset_path=tmp_path)
    assert len(check_plan(pulsar(), LABELS, GeneratorConfig(), imported).channels) == 15
    too_small = r"dyn_data_loader\.dataset_path: .*csv has 600 stars.* needs 60000"
    with pytest.raises(ConfigError, match=too_small):
        check_plan(pulsar(birth_rate_max=0.2), LABELS, GeneratorConfig(), imported)
    with pytest.raises(ConfigError, match="labels: must be one of .* found 'brightness'"):
        check_plan(pulsar(), ("brightness",), GeneratorConfig(), imported)
