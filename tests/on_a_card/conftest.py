"""A second device, made of the CPU: what a GPU would refuse or draw differently, without one."""

import subprocess
import types
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).with_name("card.cpp")
TORCH = Path(torch.__file__).parent


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> torch.device:
    """A device `card:0` that computes what the CPU does; see `card.cpp`."""
    library = tmp_path_factory.mktemp("card") / "card.so"
    include = TORCH / "include"
    subprocess.run(
        [
            *("g++", "-std=c++20", "-shared", "-fPIC", str(SOURCE), "-o", str(library)),
            f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
            *(f"-I{include}", f"-I{include / 'torch/csrc/api/include'}"),
            *(f"-L{TORCH / 'lib'}", "-lc10", "-ltorch_cpu"),
        ],
        check=True,
    )
    torch.ops.load_library(str(library))
    torch.utils.rename_privateuse1_backend("card")
    torch._register_device_module("card", _module())
    torch.utils.generate_methods_for_privateuse1_backend()
    return torch.device("card:0")


def _module() -> types.ModuleType:
    """Return what torch asks about a device: as `torch.cuda` for the card."""
    module = types.ModuleType("torch.card")
    operations = torch.ops.card

    def seed(value: int) -> None:
        operations.seed(value)

    functions = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_rng_state": lambda device=0: operations.state(),
        "set_rng_state": lambda state, device=0: operations.set_state(state),
        "manual_seed": seed,
        "manual_seed_all": seed,
    }
    for name, function in functions.items():
        setattr(module, name, function)
    return module
