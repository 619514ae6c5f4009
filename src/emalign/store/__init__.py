"""Where artifacts live: one protocol, one room per place."""

from __future__ import annotations

from pathlib import Path

from emalign.errors import StoreError
from emalign.store.base import Claim, Draft, Ledger, Manifest, Sealed, Store

__all__ = ["Claim", "Draft", "Ledger", "Manifest", "Sealed", "Store", "open_store"]


def open_store(url: str | Path | None, study: str) -> Store:
    """The store at `url` for one study: a folder (default `results`)."""
    text = str(url or "results")
    scheme, mark, _ = text.partition("://")
    if mark and scheme != "file":
        raise StoreError(
            f"no store is known for {scheme}://", where=text, do="give a folder, for example --store results"
        )
    from emalign.store.local import LocalStore

    return LocalStore(Path(text.removeprefix("file://")), study)
