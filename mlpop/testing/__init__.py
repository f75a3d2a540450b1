"""Conformance suites: check your own simulator, or your own compute backend."""

from mlpop.testing.backends import BACKEND_CHECKS, BackendSuite, check_backend
from mlpop.testing.conformance import ConformanceError
from mlpop.testing.simulator_case import SimulatorCase
from mlpop.testing.simulators import SIMULATOR_CHECKS, SimulatorSuite, check_simulator

__all__ = [
    "BACKEND_CHECKS",
    "SIMULATOR_CHECKS",
    "BackendSuite",
    "ConformanceError",
    "SimulatorCase",
    "SimulatorSuite",
    "check_backend",
    "check_simulator",
]
