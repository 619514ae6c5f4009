"""Claims in a folder: one living process works on a step at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from emalign.errors import BusyError
from emalign.rows import canonical
from emalign.store.files import disk

STALE_SECONDS = 180.0
_HELD: set[Path] = set()


class LocalClaim:
    """A claim file made with O_EXCL; taken over when its process is gone or has not beaten for a while."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mine = {"pid": os.getpid(), "host": socket.gethostname(), "born": _born(os.getpid())}
        with disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path.parent):
                if not self._create():
                    self._take_over_or_refuse()
                _HELD.add(path)

    def _create(self) -> bool:
        try:
            with self.path.open("x", encoding="utf-8") as out:
                out.write(canonical(self._mine))
        except FileExistsError:
            return False
        return True

    def _take_over_or_refuse(self) -> None:
        try:
            holder = json.loads(self.path.read_text(encoding="utf-8"))
            age = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            holder, age = {}, STALE_SECONDS + 1
        except json.JSONDecodeError:
            holder, age = {}, time.time() - self.path.stat().st_mtime
        here = holder.get("host") == self._mine["host"]
        gone = here and not _alive(holder)
        left = holder == self._mine and self.path not in _HELD
        if age < STALE_SECONDS and not gone and not left:
            raise BusyError(
                f"process {holder.get('pid')} on {holder.get('host')} is working on this step",
                where=str(self.path),
                do="wait for it or stop it; a claim without a sign of life ends after three minutes",
            )
        self.path.unlink(missing_ok=True)
        if not self._create():
            raise BusyError("another process took this step first", where=str(self.path), do="run the command again")

    def beat(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path)

    def release(self) -> None:
        """Give the claim back, unless another process has taken it over."""
        _HELD.discard(self.path)
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError), _alone(self.path.parent):
            if json.loads(self.path.read_text(encoding="utf-8")) == self._mine:
                self.path.unlink()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Look at a claim and take it in one go: two processes that find the same dead holder must not both follow it."""
    with (folder / ".lock").open("a") as lock:
        # Network and FUSE folders may know no locks; there the race stays, as small as it is.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _alive(holder: dict[str, object]) -> bool:
    pid = holder.get("pid")
    return isinstance(pid, int) and _born(pid) is not None and _born(pid) == holder.get("born")


def _born(pid: int) -> str | None:
    """The kernel's start time of a process, so that a reused pid is not taken for its predecessor; None if gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return None if state == "Z" else fields[18]
    except (OSError, IndexError):
        return _signalled(pid)


def _signalled(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "alive"
    return "alive"
