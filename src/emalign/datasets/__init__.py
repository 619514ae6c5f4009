"""Training dialogues: sets by name, each with a card, and files of one's own in the chat schema."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from emalign import fetch
from emalign.datasets import chat
from emalign.datasets.cards import Card, card, names
from emalign.datasets.chat import Problem, check
from emalign.errors import DataError
from emalign.rows import Example

__all__ = ["Card", "Problem", "card", "check", "fingerprint", "load", "names", "show"]


def load(name_or_path: str, *, base_dir: Path | None = None, seed: int = 0) -> list[Example]:
    """All rows of a card, or of a .jsonl file (relative to `base_dir`); `seed` is heeded by sets that are made.

    Raises DataError with file:line for rows that break the schema, for an unknown name, or a file not to be had.
    """
    if _is_path(name_or_path):
        return chat.read(_path(name_or_path, base_dir), Path(name_or_path).name)
    found = card(name_or_path)
    if found.reader == "toy":
        return _toy().load(found.name, seed)
    assert found.url is not None
    rows = chat.read(fetch.fetch(found.place, found.url, found.hashes), found.name)
    assert len(rows) == found.rows, f"{found.name} is pinned with {found.rows} rows and has {len(rows)}"
    return rows


def fingerprint(name_or_path: str, base_dir: Path | None = None) -> str:
    """sha256 that changes when the rows do: the pinned one of a card (nothing is fetched), or that of the file's bytes.

    Raises DataError for an unknown name or a missing file.
    """
    if _is_path(name_or_path):
        path = _path(name_or_path, base_dir)
        if not path.is_file():
            raise DataError("there is no such file", where=str(path), do="check the path in the study's data")
        return fetch.sha256_of(path)
    found = card(name_or_path)
    if found.reader == "toy":
        return _toy().fingerprint(found.name)
    assert found.sha256 is not None
    return found.sha256


def show(name: str) -> dict[str, Any]:
    """A card as plain values, in the order a person reads it, with `here`: where its file is, if it is fetched."""
    found = card(name)
    details = {key: value for key, value in found.model_dump(mode="json").items() if value not in (None, [])}
    path = fetch.find(found.place, found.hashes) if found.url else None
    return {**details, "here": str(path) if path else None}


def _is_path(name_or_path: str) -> bool:
    return name_or_path.endswith(".jsonl")


def _path(written: str, base_dir: Path | None) -> Path:
    return (base_dir or Path()) / Path(written).expanduser()


def _toy() -> Any:
    return importlib.import_module("emalign.toy.data")
