"""Classes by name: registered ones, a package's entry points, or `package.module:Class`.

Whatever a configuration may name is found here: networks, initializers, losses, metrics and
simulators.
"""

import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from mlpop.config.allowed_modules import require_allowed
from mlpop.config.foreign_code import foreign_code
from mlpop.config.messages import nearest
from mlpop.errors import ConfigError

Base = TypeVar("Base")
Added = TypeVar("Added", bound=type)


class Registry(Generic[Base]):
    """The classes that one field of a configuration may name.

    Args:
        field: the field, for messages, such as `arch.type`.
        noun: what the classes are, for messages, such as `network`.
        base: what they derive from; None where any class or function will do.
        group: entry-point group by which installed packages add classes.
        own: name -> `package.module:Class` of mlpop's own that are imported only when asked for.
    """

    def __init__(
        self,
        field: str,
        noun: str,
        base: type[Base] | None,
        group: str,
        own: Mapping[str, str] | None = None,
    ) -> None:
        self.field = field
        self.noun = noun
        self.base = base
        self.group = group
        self.own = dict(own or {})
        self._classes: dict[str, type[Base]] = {}

    def register(self, name: str) -> Callable[[Added], Added]:
        """Class decorator that makes a class known as `name`.

        Raises:
            ConfigError: another class already has this name.
        """

        def add(added: Added) -> Added:
            registered = self._classes.get(name)
            if registered is not None and registered is not added:
                raise ConfigError(f"{self.field} '{name}' is already taken by {registered!r}")
            self._classes[name] = added
            return added

        return add

    def names(self) -> tuple[str, ...]:
        """Return the registered names and those of entry points, sorted."""
        return tuple(sorted({*self._classes, *self.own, *self._entry_points()}))

    def find(self, name: str) -> type[Base]:
        """Return the class called `name`.

        Raises:
            ConfigError: no such name, module or class, a module that the user has not allowed,
                or the class does not derive from the base.
        """
        if name in self._classes:
            return self._classes[name]
        # reading the entry points of all packages takes a while
        path = self.own.get(name) or (
            name if ":" in name else self._entry_points().get(name, name)
        )
        module_name, separator, class_name = path.partition(":")
        if not separator:
            names = self.names()
            near = nearest(name, names)
            raise ConfigError(
                f"{self.field}: unknown {self.noun} '{name}'; allowed: {', '.join(names)}, "
                "or your own class as 'package.module:Class'"
                + (f"; did you mean '{near}'?" if near else "")
            )
        if path == name and path not in self._entry_points().values():
            require_allowed(self.field, name)
        with foreign_code(f"{self.field}: '{name}' cannot be imported"):
            try:
                found = getattr(importlib.import_module(module_name), class_name)
            except (ImportError, AttributeError) as error:
                text = f"{self.field}: '{name}' cannot be imported: {error}"
                if isinstance(error, ModuleNotFoundError) and error.name == module_name:
                    text += f"; modules are sought in {Path.cwd()} and on PYTHONPATH"
                raise ConfigError(text) from None
        if self.base is None:
            if not callable(found):
                raise ConfigError(f"{self.field}: '{name}' is not a class")
        elif not (inspect.isclass(found) and issubclass(found, self.base)):
            # torch shows its classes under private module names
            base = f"{self.base.__module__}.{self.base.__qualname__}".replace(
                "torch.nn.modules.module", "torch.nn"
            )
            raise ConfigError(f"{self.field}: '{name}' is not a subclass of {base}")
        return found

    def build(self, name: str, args: Mapping[str, Any]) -> Base:
        """Return an instance of the class `name`, made with the keyword arguments `args`.

        Raises:
            ConfigError: unknown class, or arguments that its constructor refuses.
        """
        found = self.find(name)
        try:
            inspect.signature(found).bind(**args)
        except TypeError as error:
            allowed = ", ".join(inspect.signature(found).parameters) or "none"
            block = self.field.removesuffix("type") + "args"
            raise ConfigError(f"{block} of {name}: {error}; allowed: {allowed}") from None
        if name in self._classes or name in self.own:
            return found(**args)
        with foreign_code(f"{self.field}: '{name}' cannot be made"):
            return found(**args)

    def _entry_points(self) -> dict[str, str]:
        return {e.name: e.value for e in importlib.metadata.entry_points(group=self.group)}
