"""What of others a configuration may run: it may come from somebody else, or from a shared store.

Importing a module runs it, and calling what is in it can do anything: `subprocess:Popen` with
`args` is a command. So a configuration names mlpop's own classes, entry points of installed
packages, and classes in modules of the user's own search path: the working folder, `PYTHONPATH`,
and what the user's program has put into `sys.path`. Modules of the standard library and of
installed packages must be allowed by name.
"""

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from mlpop.errors import ConfigError

VARIABLE = "MLPOP_ALLOW_MODULES"
"""Environment variable with the names of allowed modules, separated by commas."""

PICKLES = "MLPOP_ALLOW_PICKLES"
"""Environment variable with the SHA-256 of pickles that a configuration of a store may name."""

KNOWN = ("scipy.stats", "torch.nn")
"""Modules of installed packages that need no permission: distributions, and layers of networks."""

INSTALLED = frozenset({"site-packages", "dist-packages"})

_everything = False


def allow_modules(names: Iterable[str]) -> None:
    """Allow configurations to name classes of these modules and of those below them.

    It holds for this process and for those that it starts.
    """
    allowed = [*_named(), *(name.strip() for name in names)]
    os.environ[VARIABLE] = ",".join(dict.fromkeys(filter(None, allowed)))


def trust_the_driver() -> None:
    """Allow everything in this process: it is a worker, and its driver has checked the names."""
    global _everything
    _everything = True


def require_allowed(field: str, name: str) -> None:
    """Refuse `package.module:Class` of a module that the user has not allowed; imports nothing.

    A module that is not found passes: to import it is an error of its own.

    Args:
        field: of the configuration, for the message.
        name: the name.

    Raises:
        ConfigError: saying how to allow it.
    """
    module = name.partition(":")[0]
    top = module.partition(".")[0]
    named = module in KNOWN or any(
        module == allowed or module.startswith(f"{allowed}.") for allowed in _named()
    )
    if _everything or top == "mlpop" or named:
        return
    if top not in sys.stdlib_module_names:
        try:
            # of a name without dots nothing is imported
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            spec = None
        loaded = getattr(sys.modules.get(top), "__file__", None)
        if spec is None and loaded is None:
            # not there, or made by the user's own program
            return
        places = list(spec.submodule_search_locations or []) if spec is not None else []
        places = places or [getattr(spec, "origin", None) or loaded or ""]
        if all(_is_own(Path(place)) for place in places):
            return
    raise ConfigError(
        f"{field}: '{name}' is not in a module of your own: {top} belongs to Python or to an "
        f"installed package, and calling what is in it could do anything; if you know it, allow "
        f"it with --allow-module {module}, or {VARIABLE}={module}"
    )


def refuse_pickles(values: object, source: str) -> None:
    """Refuse a configuration from a store that asks for a pickle to be read, which runs its code.

    Args:
        values: of the configuration.
        source: what messages call it.

    Raises:
        ConfigError: a block has `allow_pickle`, and the user has not allowed its digest.
    """
    allowed = os.environ.get(PICKLES, "").split(",")
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        if not isinstance(value, dict):
            continue
        waiting += value.values()
        digest = value.get("sha256")
        if value.get("allow_pickle") and (not digest or digest not in allowed):
            raise ConfigError(
                f"{source}: asks for a pickle to be read, which runs the code in it, and comes "
                f"from a store; if you trust the file, set {PICKLES}={digest}, or give the "
                "configuration as a file of your own"
            )


def _named() -> list[str]:
    return [name for name in os.environ.get(VARIABLE, "").split(",") if name]


def _is_own(place: Path) -> bool:
    """Whether a module lies on the user's own search path, and not among installed ones."""
    if not place.is_absolute() or INSTALLED.intersection(place.parts):
        return False
    place = place.resolve()
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    return not (place.is_relative_to(standard) or INSTALLED.intersection(place.parts))
