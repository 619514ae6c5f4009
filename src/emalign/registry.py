"""Plug-ins: the name is the module's name, imported when it is looked up.

A plug-in is one file `src/emalign/KIND/NAME.py` holding one factory marked `@plugin(...)`. Looking one up imports
that file and nothing else; its keyword arguments are checked against the factory's signature.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

from emalign.errors import ConfigError, MissingLibrary

F = TypeVar("F", bound=Callable[..., Any])

KINDS = ("engines", "judges", "checks", "detectors", "behavior", "plots")


def plugin(*, requires: dict[str, str] | None = None) -> Callable[[F], F]:
    """Mark the one factory of a plug-in module; `requires` maps an import name to the command that installs it."""

    def mark(factory: F) -> F:
        factory.__emalign_requires__ = dict(requires or {})  # type: ignore[attr-defined]
        return factory

    return mark


def names(kind: str) -> list[str]:
    """Names of all plug-ins of a kind, without importing any."""
    package = importlib.util.find_spec(f"emalign.{kind}")
    assert package is not None and package.submodule_search_locations is not None, f"no plug-in folder {kind!r}"
    found = pkgutil.iter_modules(package.submodule_search_locations)
    return sorted(m.name for m in found if not m.ispkg and not m.name.startswith("_") and m.name not in NOT_PLUGINS)


# Modules that share a plug-in folder without being plug-ins: contracts and pure maths.
NOT_PLUGINS = {"base", "scores", "style"}


def require(kind: str, name: str) -> None:
    """Raise ConfigError, with the nearest names, unless there is such a plug-in; imports nothing."""
    known = names(kind)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(f"there is no {kind} plug-in named {name!r}", where=f"emalign.{kind}", do=hint)


def lookup(kind: str, name: str) -> Callable[..., Any]:
    """The factory of plug-in `name`.

    Raises ConfigError for an unknown name (with the nearest ones) and MissingLibrary where a needed library is absent.
    """
    require(kind, name)
    module = importlib.import_module(f"emalign.{kind}.{name}")
    factories = [
        value
        for value in vars(module).values()
        if hasattr(value, "__emalign_requires__") and value.__module__ == module.__name__
    ]
    assert len(factories) == 1, f"{module.__name__} must mark exactly one factory with @plugin, has {len(factories)}"
    factory = factories[0]
    for library, command in factory.__emalign_requires__.items():
        if importlib.util.find_spec(library) is None:
            raise MissingLibrary(f"{kind[:-1]} {name!r} needs the library {library}", where=module.__name__, do=command)
    return factory


def check_arguments(kind: str, name: str, arguments: dict[str, Any]) -> None:
    """Raise ConfigError when `arguments` do not fit the plug-in's factory."""
    parameters = inspect.signature(lookup(kind, name)).parameters
    options = [p.name for p in parameters.values() if p.kind is not p.VAR_KEYWORD]
    for key in arguments:
        if key not in options and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            near = difflib.get_close_matches(key, options, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes: {', '.join(options)}"
            raise ConfigError(f"{kind[:-1]} {name!r} has no option {key!r}", where=f"emalign.{kind}.{name}", do=hint)
