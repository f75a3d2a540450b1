"""mlpop: how are pulsars born? Simulation-based inference, tracked in MLflow."""

__version__ = "0.1.0"
