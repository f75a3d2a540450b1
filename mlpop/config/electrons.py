"""Which NE2025 is installed: the package that holds it is optional."""

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

from mlpop.errors import ConfigError

PACKAGE = "mwprop"
_SWITCH = "which_model.inp"
"""A file that the package writes when it is imported; no part of a model."""


def ne2025_source() -> dict[str, str]:
    """Return version of the package and SHA-256 [hex] of its parameter files.

    Users may edit these files, as its documentation proposes; another digest is another model.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        version = importlib.metadata.version(PACKAGE)
        spec = importlib.util.find_spec(f"{PACKAGE}.nemod")
    except (importlib.metadata.PackageNotFoundError, ModuleNotFoundError):
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"ed_model: 'ne2025' needs the package {PACKAGE}, which is not installed: "
            "pip install 'mlpop[ne2025]', or take 'ymw16'"
        )
    digest = hashlib.sha256()
    for path in sorted((Path(spec.origin).parent / "params").iterdir()):
        if path.is_file() and path.name != _SWITCH:
            digest.update(path.name.encode() + path.read_bytes())
    return {PACKAGE: version, "parameters": digest.hexdigest()}
