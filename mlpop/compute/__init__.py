"""Who runs simulations and trainings: serial, processes, Dask; and where seeds come from."""

from mlpop.compute.backends.base import Backend, Emit, Outcome
from mlpop.compute.backends.factory import make_backend
from mlpop.compute.backends.workers import available_cores
from mlpop.compute.campaign.campaign import Progress, run_campaign
from mlpop.compute.seeds import Purpose, draw_root_seed, seed_sequence, torch_seed

__all__ = [
    "Backend",
    "Emit",
    "Outcome",
    "Progress",
    "Purpose",
    "available_cores",
    "draw_root_seed",
    "make_backend",
    "run_campaign",
    "seed_sequence",
    "torch_seed",
]
