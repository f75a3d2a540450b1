"""Simulators: theta and a seed to an observation."""

from mlpop.simulators.base import REGISTERED, Simulation, Simulator, in_detail, load

__all__ = ["REGISTERED", "Simulation", "Simulator", "in_detail", "load"]
