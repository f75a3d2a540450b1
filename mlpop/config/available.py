"""Which documented options this version runs: one table, the only place to edit."""

from collections.abc import Mapping
from typing import Any, Literal

from mlpop.config.messages import show
from mlpop.config.sbi import SbiConfig
from mlpop.errors import ConfigError

AVAILABLE: Mapping[str, tuple[Any, ...]] = {
    "trainer.type": ("snpe",),
    "trainer.num_rounds": (1,),
    "trainer.truncated_prior": (False,),
    "trainer.plot_proposal": (False,),
    "density_estimator.type": ("mdn", "maf"),
    "compression_input.use_compression": (False,),
    "resume_training.resume": (False,),
}
"""Field path -> the values that run; fields that are not listed run with every valid value."""

COMMANDS = ("sbi",)
"""Commands that an SBI configuration launches in this version."""


def require_available(config: SbiConfig, command: Literal["sbi", "infer"] = "sbi") -> None:
    """Refuse what is valid and documented, but not in this version yet.

    Args:
        config: a valid configuration.
        command: the command that launches it.

    Raises:
        ConfigError: one line a field that asks for something not available.
    """
    lines = []
    if command not in COMMANDS:
        lines.append(_line("command", command, COMMANDS))
    for path, values in AVAILABLE.items():
        value = _value_at(config, path)
        if value not in values:
            lines.append(_line(path, value, values))
    if lines:
        raise ConfigError("\n".join(lines))


def _value_at(config: SbiConfig, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _line(path: str, value: Any, values: tuple[Any, ...]) -> str:
    allowed = ", ".join(_text(value) for value in values)
    return f"{path}: '{_text(value)}' is not available yet; available: {allowed}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else show(value)
