"""The store in a folder: `FOLDER/STUDY/{steps,ledger,claims,local_only,notes,report}`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from emalign.errors import DamagedError, StoreError
from emalign.rows import Row, canonical, from_dict, to_lines
from emalign.store.base import FileFact, Manifest
from emalign.store.claims import LocalClaim
from emalign.store.files import append_line, disk, read_lines, sha256_of, write_atomic

R = TypeVar("R", bound=Row)
SEGMENTS = "segments"


class LocalSealed:
    """A finished step in its folder."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self._checked: set[str] = set()

    def file(self, name: str) -> Path:
        fact = self.manifest.files.get(name)
        if fact is None:
            raise DamagedError(f"{name} is not part of this artifact", where=str(self.path))
        path = self.path / name
        if name not in self._checked:
            if not path.is_file() or path.stat().st_size != fact.size or sha256_of(path) != fact.sha256:
                raise DamagedError(
                    f"{name} is not the file that was sealed (missing, cut short or changed)",
                    where=str(path),
                    do=f"rm -r {self.path}   then run the study again: it makes this step anew",
                )
            self._checked.add(name)
        return path

    def rows(self, kind: type[R], name: str = "rows.jsonl") -> list[R]:
        text = self.file(name).read_text(encoding="utf-8")
        # Not splitlines: it also splits at U+2028 and others, which JSON leaves as they are.
        return [from_dict(kind, json.loads(line)) for line in text.split("\n") if line]


class LocalDraft:
    """A step in the making, in the folder that it will keep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._segments = path / SEGMENTS
        with disk(path):
            self._segments.mkdir(parents=True, exist_ok=True)
        self._next = 1 + max((int(p.name.partition("-")[0]) for p in self._segments.glob("*.jsonl")), default=0)

    @property
    def notes(self) -> dict[str, Any]:
        """What was noted so far."""
        path = self.path / "notes.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def note(self, **facts: Any) -> None:
        write_atomic(self.path / "notes.json", canonical({**self.notes, **facts}))

    def add(self, rows: Iterable[Row]) -> None:
        rows = list(rows)
        if rows:
            write_atomic(self._segments / f"{self._next:04d}-{len(rows)}.jsonl", to_lines(rows))
            self._next += 1

    def rows(self, kind: type[R]) -> Iterator[R]:
        for segment in sorted(self._segments.glob("*.jsonl")):
            for value in read_lines(segment):
                try:
                    yield from_dict(kind, value)
                except (TypeError, ValueError, AssertionError):
                    continue

    def seal(self, manifest: Manifest, rows: Mapping[str, Iterable[Row]] | None = None) -> LocalSealed:
        for name, content in (rows or {}).items():
            write_atomic(self.path / name, to_lines(content))
        notes = self.path / "notes.json"
        manifest.files = {
            str(p.relative_to(self.path)): FileFact(size=p.stat().st_size, sha256=sha256_of(p))
            for p in sorted(self.path.rglob("*"))
            if p.is_file() and not p.name.endswith(".part") and p != notes and self._segments not in p.parents
        }
        write_atomic(self.path / "manifest.json", manifest.model_dump_json(indent=1) + "\n")
        # Only now: until the manifest stands, the segments are all that a crash or a full disk leaves.
        shutil.rmtree(self._segments, ignore_errors=True)
        notes.unlink(missing_ok=True)
        return LocalSealed(self.path, manifest)


class LocalLedger:
    """Raw replies in one file of appended lines; a torn last line is asked again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replies: dict[str, dict[str, Any]] = {}
        if path.exists():
            for value in read_lines(path):
                if isinstance(value.get("request"), str) and isinstance(value.get("reply"), dict):
                    self._replies[value["request"]] = value["reply"]

    def get(self, request: str) -> dict[str, Any] | None:
        return self._replies.get(request)

    def put(self, replies: Mapping[str, Mapping[str, Any]]) -> None:
        """Append replies to requests that have none yet; on return they are on disk."""
        fresh = {k: dict(v) for k, v in replies.items() if k not in self._replies}
        text = "".join(canonical({"request": k, "reply": v}) + "\n" for k, v in fresh.items())
        append_line(self._path, text)
        self._replies.update(fresh)

    def __len__(self) -> int:
        return len(self._replies)


class LocalStore:
    """One study in a folder."""

    def __init__(self, root: Path, study: str) -> None:
        self.root = root.expanduser().resolve() / study
        self.url = str(root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the store cannot be written: {error.strerror}",
                where=str(self.root),
                do="choose a folder that you may write: --store FOLDER",
            ) from None

    def _step(self, stage: str, key: str) -> Path:
        return self.root / "steps" / stage / key

    def sealed(self, stage: str, key: str) -> LocalSealed | None:
        path = self._step(stage, key)
        try:
            manifest = Manifest.model_validate_json((path / "manifest.json").read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise DamagedError(
                "this manifest cannot be read",
                where=str(path / "manifest.json"),
                do=f"rm -r {path}   then run the study again: it makes this step anew",
            ) from None
        for name, fact in manifest.files.items():
            file = path / name
            if not file.is_file() or file.stat().st_size != fact.size:
                raise DamagedError(
                    f"{name} is missing or cut short",
                    where=str(file),
                    do=f"rm -r {path}   then run the study again: it makes this step anew",
                )
        return LocalSealed(path, manifest)

    def draft(self, stage: str, key: str) -> LocalDraft:
        return LocalDraft(self._step(stage, key))

    def drafted(self, stage: str, key: str) -> int | None:
        path = self._step(stage, key)
        if not path.exists():
            return None
        return sum(int(p.stem.split("-")[1]) for p in (path / SEGMENTS).glob("*.jsonl"))

    def manifests(self) -> list[Manifest]:
        found = []
        for path in sorted(self.root.glob("steps/*/*/manifest.json")):
            sealed = self.sealed(path.parent.parent.name, path.parent.name)
            if sealed is not None:
                found.append(sealed.manifest)
        return found

    def ledger(self, judge: str) -> LocalLedger:
        return LocalLedger(self.root / "ledger" / f"{judge}.jsonl")

    def claim(self, key: str) -> LocalClaim:
        return LocalClaim(self.root / "claims" / f"{key}.json")

    def local_only(self, key: str) -> Path:
        path = self.root / "local_only" / key
        path.mkdir(parents=True, exist_ok=True)
        return path

    def report(self) -> Path:
        path = self.root / "report"
        path.mkdir(exist_ok=True)
        return path

    def note(self, name: str, value: Any) -> Any:
        path = self.root / "notes" / f"{name}.json"
        if not path.exists():
            write_atomic(path, canonical(value), exclusive=True)
        return json.loads(path.read_text(encoding="utf-8"))
