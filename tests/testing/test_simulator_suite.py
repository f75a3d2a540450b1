"""The suite of simulators: what ships passes it, and whatever is broken does not."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.errors import ConfigError
from mlpop.population.stars.database import StellarDatabase
from mlpop.simulators.gaussian_linear import GaussianLinear
from mlpop.testing import (
    SIMULATOR_CHECKS,
    ConformanceError,
    SimulatorCase,
    SimulatorSuite,
    check_simulator,
)

# Workers import `broken_simulators` by its name, as they would a user's own simulator.
sys.path.insert(0, str(Path(__file__).parent))

import broken_simulators as broken

BOX = {"low": broken.LOW, "high": broken.HIGH}


class TestGaussianLinear(SimulatorSuite):
    simulator = {"type": "gaussian_linear"}
    low, high = (-1.0,) * 10, (1.0,) * 10


class TestTwoMoons(SimulatorSuite):
    simulator = {"type": "two_moons", "args": {}}
    low, high = (-1.0, -1.0), (1.0, 1.0)


class TestPulsar(SimulatorSuite):
    low, high = (12.8, -0.8), (13.3, -0.5)

    @pytest.fixture(autouse=True, scope="class")
    def _database(
        self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        stars = 6000
        folder = tmp_path_factory.mktemp("stars") / "database"
        StellarDatabase.build(DynamicsConfig.parse({"NS_number": stars, "seed": 3}), folder)
        targets = {"PMPS": 3, "SMPS": 1, "HTRU_low_mid": 3}
        population = {
            "birth_rate_max": stars * 100 / 3e7,
            "surveys_radio": {name: {"detected_real": n} for name, n in targets.items()},
        }
        request.cls.simulator = {
            "type": "pulsar",
            "args": {
                "labels": ["B_initial_log10_mean", "P_initial_log10_mean"],
                "population": population,
                "database": str(folder),
            },
        }


class TestSilent(SimulatorSuite):
    simulator = broken.Silent()
    low, high, failing = broken.LOW, broken.HIGH, broken.FAILING
    stochastic = False


@pytest.mark.parametrize("kind", [broken.Good, broken.Maps])
def test_the_function_passes_what_is_right(kind: type) -> None:
    check_simulator(kind(), **BOX, failing=broken.FAILING)
    check_simulator({"type": f"broken_simulators:{kind.__name__}"}, **BOX, failing=broken.FAILING)


def test_the_function_runs_every_check_of_the_class() -> None:
    tests = [name for name in dir(SimulatorSuite) if name.startswith("test_")]
    assert len(tests) == len(SIMULATOR_CHECKS)
    with pytest.raises(ConformanceError) as caught:
        check_simulator(broken.LabelTwice(), **BOX)
    message = str(caught.value)
    assert message.startswith("simulator LabelTwice fails 1 of 12 conformance checks:\n  names: ")
    assert isinstance(caught.value, AssertionError)
    with pytest.raises(ConformanceError) as caught:
        check_simulator(broken.BareArray(), **BOX)
    assert len(str(caught.value).splitlines()) <= 4, "the same reason is told once"


BROKEN = {
    broken.LabelsAreAList: ("names", "labels must be a tuple"),
    broken.LabelTwice: ("names", "found 'a' twice"),
    broken.ChannelIsAPath: ("names", "'maps/w' cannot be one"),
    broken.LabelTooMany: ("names", "3 labels"),
    broken.BareArray: ("observation", "must return mlpop.simulators.Simulation, found ndarray"),
    broken.ChannelMissing: ("observation", "for 3 channels"),
    broken.ChannelMissingInMapping: ("observation", "left out the channels v"),
    broken.ShapeVaries: ("observation", "channel u has shape"),
    broken.DtypeVaries: ("observation", "dtype float"),
    broken.Complex: ("observation", "must hold real numbers, found an array of type complex"),
    broken.NotFinite: ("observation", "channel w of theta .* not finite"),
    broken.TooLargeForFloat32: ("observation", "not finite in float32"),
    broken.InfoIsNoJson: ("info", r"info\['generator'\] = .* is no JSON value"),
    broken.UnseededNoise: ("same seed", "gives another x for the same seed"),
    broken.Clock: ("same seed", "gives another x for the same seed"),
    broken.OneGeneratorForAll: ("same seed", "nothing may be kept between calls"),
    broken.SeedIgnored: ("different seeds", "x is the same for different seeds"),
    broken.Silent: ("different seeds", "say stochastic=False"),
    broken.ThetaIgnored: ("theta matters", "nothing can be learnt"),
    broken.ThetaChanged: ("theta unchanged", "theta was changed in place"),
    broken.BufferUsedAgain: ("own memory", "x was overwritten"),
    broken.GlobalNumpy: ("random state", "global generator of numpy.random was used"),
    broken.GlobalTorch: ("random state", "global generator of torch was used"),
    broken.GlobalRandom: ("random state", "global generator of random was used"),
    broken.GlobalStateRead: ("random state", "depends on the state of a global generator"),
    broken.FailureIsNoSimulationFailed: ("failures", "raises ZeroDivisionError: division"),
    broken.FailureIsAnObservation: ("failures", "gave an observation"),
    broken.FailureWithoutReason: ("failures", "its message is empty"),
    broken.RaisesInsideThePrior: ("failures", "of the prior raises KeyError"),
    broken.FailsEverywhere: ("failures", "only 0 of 4 theta of the prior have an observation"),
    broken.DoesNotPickle: ("worker", "cannot be sent to a worker: TypeError: an open file"),
    broken.ForgetsWhenPickled: ("worker", "gives another x in a worker process"),
    broken.KillsItsWorker: ("worker", "the worker process died"),
    broken.OtherBitsInACampaign: ("campaign", "has other bits"),
    broken.OtherReasonInAWorker: ("campaign", "its row in a campaign is 'failed' with 'ValueErr"),
}


@pytest.mark.parametrize("kind", list(BROKEN), ids=lambda kind: kind.__name__)
def test_a_broken_simulator_is_found(kind: type) -> None:
    check, message = BROKEN[kind]
    subject = {"type": f"broken_simulators:{kind.__name__}"} if check == "campaign" else kind()
    case = SimulatorCase(subject, **BOX, failing=broken.FAILING)
    with pytest.raises(ConformanceError, match=message):
        SIMULATOR_CHECKS[check](case)


def test_every_check_finds_something() -> None:
    assert {check for check, _ in BROKEN.values()} == set(SIMULATOR_CHECKS)


def test_noise_of_a_simulator_that_should_have_none_is_found() -> None:
    case = SimulatorCase(broken.Good(), **BOX, stochastic=False)
    with pytest.raises(ConformanceError, match="x changes with the seed"):
        SIMULATOR_CHECKS["different seeds"](case)


def global_states() -> list[object]:
    _, keys, *rest = np.random.get_state()  # noqa: NPY002
    return [random.getstate(), torch.get_rng_state().tolist(), keys.tolist(), *rest]


@pytest.mark.parametrize("kind", [broken.Good, broken.GlobalNumpy, broken.GlobalTorch])
def test_global_generators_are_left_as_they_were(kind: type) -> None:
    case = SimulatorCase(kind(), **BOX)
    _ = case.x
    before = global_states()
    try:
        SIMULATOR_CHECKS["random state"](case)
    except ConformanceError:
        assert kind is not broken.Good
    assert global_states() == before


def test_wrong_arguments() -> None:
    simulator = GaussianLinear(2)
    with pytest.raises(ConfigError, match="must be below high"):
        check_simulator(simulator, (0.0, 1.0), (1.0, 1.0))
    with pytest.raises(ConfigError, match="must be below high"):
        check_simulator(simulator, (0.0,), (1.0, 1.0))
    with pytest.raises(ConfigError, match="failing must be 2 finite numbers"):
        check_simulator(simulator, (0.0, 0.0), (1.0, 1.0), failing=(0.0, float("nan")))
    with pytest.raises(ConfigError, match="num_theta must be at least 2"):
        check_simulator(simulator, (0.0, 0.0), (1.0, 1.0), num_theta=1)
    with pytest.raises(ConfigError, match="simulator.type"):
        check_simulator({"type": "no_such"}, (0.0, 0.0), (1.0, 1.0))
