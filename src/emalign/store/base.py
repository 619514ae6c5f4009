"""The store's protocol: sealed artifacts, drafts that survive a crash, notes, claims, and a judge's ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from emalign.rows import Row

R = TypeVar("R", bound=Row)


class FileFact(BaseModel):
    """Size in bytes and sha256 of one sealed file."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """What made an artifact. It is written last: a manifest means done."""

    model_config = ConfigDict(extra="allow")

    stage: str
    version: int
    key: str
    name: str
    config: dict[str, Any]
    inputs: dict[str, list[str]]
    files: dict[str, FileFact] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    seeds: list[int] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    git: str | None = None
    device: str | None = None
    started: str = ""
    ended: str = ""
    tokens: int = 0
    cost_usd: float = 0.0
    interventions: list[dict[str, Any]] = Field(default_factory=list)


class Sealed(Protocol):
    """A finished artifact, read only."""

    manifest: Manifest
    path: Path

    def rows(self, kind: type[R], name: str = "rows.jsonl") -> list[R]:
        """All rows of a sealed file; raises DamagedError when its bytes are not those that were sealed."""
        ...

    def file(self, name: str) -> Path:
        """A sealed file, checked against the manifest."""
        ...


class Draft(Protocol):
    """An artifact in the making. What was added or noted survives the process that did it."""

    path: Path

    @property
    def notes(self) -> Mapping[str, Any]:
        """What was noted so far."""
        ...

    def add(self, rows: Iterable[Row]) -> None:
        """Rows as they are made; on return they are on disk in a segment that never changes again."""
        ...

    def rows(self, kind: type[R]) -> Iterator[R]:
        """Rows of earlier segments; a torn line is left out, so that its row is owed again."""
        ...

    def note(self, **facts: Any) -> None:
        """A durable small fact, such as a batch id."""
        ...

    def seal(self, manifest: Manifest, rows: Mapping[str, Iterable[Row]] | None = None) -> Sealed:
        """Write `rows` as named files and the manifest last; the segments and notes go when it stands."""
        ...


class Ledger(Protocol):
    """Raw replies of one judge by request hash, kept for ever."""

    def get(self, request: str) -> dict[str, Any] | None: ...

    def put(self, replies: Mapping[str, Mapping[str, Any]]) -> None: ...

    def __len__(self) -> int: ...


class Claim(Protocol):
    """The right to work on one step; lost when it is not beaten for a while."""

    def beat(self) -> None: ...

    def release(self) -> None: ...


class Store(Protocol):
    """One study's artifacts in one place."""

    url: str

    def sealed(self, stage: str, key: str) -> Sealed | None:
        """The artifact if its manifest stands, else None."""
        ...

    def draft(self, stage: str, key: str) -> Draft:
        """A new draft, or the one that an earlier process left."""
        ...

    def drafted(self, stage: str, key: str) -> int | None:
        """Rows drafted so far, None where nothing was begun; counts without reading."""
        ...

    def manifests(self) -> list[Manifest]:
        """Every sealed step of the study."""
        ...

    def ledger(self, judge: str) -> Ledger: ...

    def claim(self, key: str) -> Claim:
        """Claim a step; raises BusyError while another living process holds it."""
        ...

    def local_only(self, key: str) -> Path:
        """A folder of this machine whose content no store ever uploads (rows of protected data sets)."""
        ...

    def report(self) -> Path:
        """The folder where the study's figures and tables land."""
        ...

    def note(self, name: str, value: Any) -> Any:
        """Fix a fact of the whole study once: the first writer's value is kept, and returned to all."""
        ...
