"""Public files pinned by sha256: taken from where they already lie, else fetched once and kept."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from emalign.errors import DataError

TIMEOUT_SECONDS = 30


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def kept_at(place: str) -> Path:
    """Where the fetched file `place` (FOLDER/NAME) is kept: under EMALIGN_CACHE, by default ~/.cache/emalign."""
    return Path(os.environ.get("EMALIGN_CACHE") or "~/.cache/emalign").expanduser() / place


def find(place: str, hashes: tuple[str, ...]) -> Path | None:
    """The file with one of `hashes` if it is on this machine, under EMALIGN_SHARED/data/em or kept; never fetches."""
    places = [kept_at(place)]
    if shared := os.environ.get("EMALIGN_SHARED"):
        places.insert(0, Path(shared).expanduser() / "data" / "em" / Path(place).name)
    return next((p for p in places if p.is_file() and sha256_of(p) in hashes), None)


def fetch(place: str, url: str, hashes: tuple[str, ...]) -> Path:
    """A local path to the bytes behind `url`, which must have one of the sha256 `hashes` (the first is the pinned one).

    Raises DataError when the file cannot be had (with the URL and where to put it by hand) or has other bytes.
    """
    assert hashes, f"{url} is not pinned"
    if found := find(place, hashes):
        return found
    target = kept_at(place)
    content = _download(url, target, hashes)
    got = hashlib.sha256(content).hexdigest()
    if got not in hashes:
        raise DataError(
            f"{url} does not hold the file that was pinned: its sha256 is {got}, expected {' or '.join(hashes)}",
            where=str(target),
            do=f"try again; if it stays so, the source has changed: put a copy with the expected sha256 at {target}",
        )
    _write(target, content)
    return target


def _download(url: str, target: Path, hashes: tuple[str, ...]) -> bytes:
    assert url.startswith(("https://", "http://")), f"not a web address: {url}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as reply:
            return reply.read()
    except urllib.error.HTTPError as error:
        reason = f"the server answered {error.code} {error.reason}"
    except (OSError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", "") or error) or type(error).__name__
    if target.is_file():
        reason += f"; the file at {target} has sha256 {sha256_of(target)}, expected {' or '.join(hashes)}"
    raise DataError(
        f"cannot fetch {url}: {reason}",
        where=str(target),
        do=f"check the network and try again, or download {url} by hand and put it at {target}",
    )


def _write(target: Path, content: bytes) -> None:
    """Write whole or not at all, so that a killed runtime never leaves half a file behind."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot keep a fetched file: {error}",
            where=str(target),
            do="set EMALIGN_CACHE to a folder that can be written to",
        ) from error
