"""Progress a person can read: a bar in a terminal or notebook, plain lines where there is neither."""

from __future__ import annotations

import sys
import time
from types import TracebackType

LINE_SECONDS = 5.0


class Progress:
    """Counts `done` of `owed`, with the time left; `skipped` rows were there before and cost nothing now."""

    def __init__(self, what: str, owed: int, *, unit: str = "rows", skipped: int = 0) -> None:
        self.what, self.owed, self.unit, self.skipped = what, owed, unit, skipped
        self.done = 0
        self._began = self._told = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=owed + skipped, initial=skipped, desc=what, unit=f" {unit}", leave=True)
        elif owed:
            before = f", {skipped} were there already" if skipped else ""
            self._say(f"{what}: {owed} {unit} owed{before}")

    def add(self, count: int = 1, note: str = "") -> None:
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            if note:
                self._bar.set_postfix_str(note)
        elif time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            self._say(f"{self.what}: {self.done} of {self.owed} {self.unit}, {self._left()} left {note}".rstrip())

    def skip(self, count: int) -> None:
        """Count work that an earlier run did, found only now."""
        if count:
            self.owed -= count
            if self._bar is not None:
                self._bar.update(count)
            else:
                self._say(f"{self.what}: goes on after {self.unit[:-1]} {count}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.done:
            seconds = time.monotonic() - self._began
            self._say(f"{self.what}: {self.done} {self.unit} done in {clock(seconds)}")

    def _left(self) -> str:
        spent = time.monotonic() - self._began
        return clock(spent / max(self.done, 1) * (self.owed - self.done))

    @staticmethod
    def _say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def clock(seconds: float) -> str:
    """Seconds as 0:07 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
