"""Errors a person can act on: what happened, where, what to type next."""

from __future__ import annotations


class EmalignError(Exception):
    """A fault of input or surroundings, shown without a traceback.

    `what` happened, `where` (a file and line, a config key, a step), and `do`: what to type next.
    """

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        self.what, self.where, self.do = what, where, do
        lines = [what]
        if where:
            lines.append(f"  where: {where}")
        if do:
            lines.append(f"  do:    {do}")
        super().__init__("\n".join(lines))


class ConfigError(EmalignError, ValueError):
    """A study file or override that cannot be read as a study."""


class DataError(EmalignError, ValueError):
    """A row, file or question that breaks its format."""


class StoreError(EmalignError, OSError):
    """The store cannot be read or written as it must."""


class DamagedError(StoreError):
    """A sealed artifact no longer matches its manifest."""


class BusyError(EmalignError, RuntimeError):
    """Another process holds the claim on this step."""


class MissingLibrary(EmalignError, ImportError):
    """A plug-in needs a library that is not installed; `do` holds the exact command."""


class StageFailed(EmalignError, RuntimeError):
    """A stage process ended without sealing what it owed."""
