"""What no machine can hold is refused by name, before anything is simulated."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ConfigError
from mlpop.experiment.inputs.checks import check_inputs
from mlpop.experiment.inputs.memory import check_memory

Vectors = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("field", "value", "most"),
    [
        ("training_data_loader.num_sim", 10**12, 10**9),
        ("test_data_loader.num_sim", 10**12, 10**9),
        ("trainer.num_rounds", 10**12, 10**4),
        ("trainer.size_ensemble", 10**12, 10**4),
        ("trainer.num_posterior_samples", 10**12, 10**7),
        ("density_estimator.args.hidden_features", 10**6, 10**4),
        ("density_estimator.args.num_components", 10**12, 10**4),
        ("mcmc_sampler.num_chains", 10**12, 10**4),
        ("n_processes", 10**12, 10**4),
    ],
)
def test_counts_beyond_reason(
    field: str, value: int, most: int, vectors: Vectors, tmp_path: Path
) -> None:
    values = vectors(tmp_path, **{field.replace(".", "__"): value})
    with pytest.raises(ConfigError, match=rf"{field}: must be at most {most},"):
        SbiConfig.parse(values)


def test_training_set_that_no_machine_holds(vectors: Vectors, tmp_path: Path) -> None:
    config = SbiConfig.parse(vectors(tmp_path, training_data_loader__num_sim=10**9))
    with pytest.raises(ConfigError, match=r"training_data_loader\.num_sim: 1000000000 .* GiB"):
        check_inputs(config)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("appended", [False, True])
def test_what_is_said_to_fit_fits(
    appended: bool, vectors: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=10**6))
    shape = (12,)

    def config(num_sim: int) -> SbiConfig:
        changes: dict[str, Any] = {
            f"trainer__{name}": appended for name in ("append_simulations", "truncated_prior")
        }
        changes["trainer__num_rounds"] = 2
        return SbiConfig.parse(vectors(tmp_path, training_data_loader__num_sim=num_sim, **changes))

    too_large = config(10**5)
    with pytest.raises(ConfigError) as refused:
        check_memory(too_large, shape)
    most = int(str(refused.value).partition("at most ")[2].partition(",")[0])
    # 12 numbers of x and 2 of theta, twice: 4 bytes each, three copies
    assert most == 10**6 // (16 * 4 * 3 * (2 if appended else 1))
    check_memory(config(most), shape)
    with pytest.raises(ConfigError, match=f"at most {most},"):
        check_memory(config(most + 1), shape)


def test_maps_lie_on_disk(
    vectors: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1e6 simulations of 6 maps of 32 x 32 are trained on in a machine of 1.5 GiB."""
    memory = SimpleNamespace(total=3 * 2**29)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    config = SbiConfig.parse(vectors(tmp_path, training_data_loader__num_sim=10**6))
    check_memory(config, (6, 32, 32))
    with pytest.raises(ConfigError, match="take at most"):
        check_memory(config, (6 * 32 * 32,))
