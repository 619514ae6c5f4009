"""Files that are whole or absent: atomic writes, appended lines, hashes, tolerant reads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emalign.errors import StoreError


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an error that says what to do; what was written before stays."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StoreError) or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        free = shutil.disk_usage(path.parent if path.parent.exists() else "/").free / 1e6
        raise StoreError(
            f"cannot write: {error.strerror} ({free:.0f} MB free)",
            where=str(path),
            do="free some space or choose another --store, then run the same command: nothing that was kept is lost",
        ) from error


def write_atomic(path: Path, text: str, *, exclusive: bool = False) -> None:
    """Write, fsync and rename, so that a reader sees the old file or the new one, never half of one.

    With `exclusive` the first writer wins and later ones leave the file as it is.
    """
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            if exclusive:
                with contextlib.suppress(FileExistsError):
                    os.link(name, path)
            else:
                Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)


def append_line(path: Path, text: str) -> None:
    """Append whole lines and fsync; starts on a fresh line after a torn one."""
    if not text:
        return
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as out:
            if out.tell() and not _ends_whole(path):
                out.write(b"\n")
            out.write(text.encode())
            out.flush()
            os.fsync(out.fileno())


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """JSON objects of a file of lines; a torn or foreign line is passed over, its row is owed again."""
    with path.open("rb") as file:
        for line in file:
            try:
                value = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError):
                continue
            if isinstance(value, dict):
                yield value


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
