"""Checkpoints of a training run: when they are due, which are whole, and how an interrupted run leaves one behind."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emalign.config import Train
from emalign.errors import StageFailed
from emalign.progress import Progress
from emalign.store.files import sha256_of, write_atomic

WHOLE = "whole.json"
RESUMABLE = (
    *("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"),
    *("adapter_model.safetensors", "adapter_config.json"),
)
KEEP_RESUMABLE = 2


@dataclass(frozen=True)
class Schedule:
    """Optimizer steps of a run and those at which a checkpoint is planned: per epoch, and the last."""

    steps: int
    steps_per_epoch: int
    planned: frozenset[int]

    @classmethod
    def of(cls, rows: int, train: Train) -> Schedule:
        """Steps as the Trainer counts them: a smaller last batch of an epoch is a step."""
        per_epoch = math.ceil(
            math.ceil(rows / train.per_device_batch) / (train.effective_batch // train.per_device_batch)
        )
        steps = train.max_steps or math.ceil(train.epochs * per_epoch)
        parts = train.checkpoints_per_epoch
        marks = {round(per_epoch * i / parts) for i in range(1, math.ceil(steps / per_epoch) * parts + 1)}
        return cls(steps, per_epoch, frozenset({m for m in marks if 0 < m < steps} | {steps}))


class Checkpoints:
    """Decides when the Trainer saves, marks what is whole, and turns the first Ctrl-C into a checkpoint."""

    def __init__(self, folder: Path, schedule: Schedule, train: Train, progress: Progress) -> None:
        self.folder, self.schedule, self.train, self.progress = folder, schedule, train, progress
        self.stopped = False
        self._saved = time.monotonic()

    def resumable(self) -> Path | None:
        """The checkpoint to go on from. Later ones, that were never finished, go: no step of this run may find them."""
        found = newest_whole(self.folder)
        for path in self.folder.glob("checkpoint-*"):
            if found is None or _step_of(path) > _step_of(found):
                shutil.rmtree(path)
        return found

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due after `step`: planned, every so many steps or minutes, or asked for."""
        every, minutes = self.train.save_every_steps, self.train.save_every_minutes
        late = minutes is not None and time.monotonic() - self._saved > 60 * minutes
        return step in self.schedule.planned or bool(every and step % every == 0) or late or self.stopped

    def saved(self, step: int) -> None:
        """Mark the newest checkpoint as whole, last of all, and drop optimizer states that are no longer needed."""
        path = self.folder / f"checkpoint-{step}"
        facts = {n: {"size": (path / n).stat().st_size, "sha256": sha256_of(path / n)} for n in RESUMABLE}
        write_atomic(path / WHOLE, json.dumps(facts))
        self._saved = time.monotonic()
        older = sorted(self.folder.glob("checkpoint-*"), key=_step_of)[:-KEEP_RESUMABLE]
        for old in older:
            (old / WHOLE).unlink(missing_ok=True)
            (old / "optimizer.pt").unlink(missing_ok=True)
            if _step_of(old) not in self.schedule.planned and not self._kept(old):
                shutil.rmtree(old)

    def _kept(self, path: Path) -> bool:
        """Checkpoints every N steps are numbered and stay; those that only the clock asked for go."""
        every = self.train.save_every_steps
        return bool(every and _step_of(path) % every == 0)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM ends the run after a checkpoint, a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: object) -> None:
            if self.stopped:
                raise KeyboardInterrupt
            self.stopped = True

        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def raise_if_stopped(self, label: str) -> None:
        if self.stopped:
            found = newest_whole(self.folder)
            raise StageFailed(
                f"{label} was stopped; it goes on from step {_step_of(found) if found else 0}",
                do="run the same command again",
            )

    def callback(self) -> Any:
        """The Trainer callback that carries these decisions."""
        from transformers import TrainerCallback

        keeper = self

        class Callback(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                keeper.progress.skip(state.global_step)

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                keeper.progress.add(1, _loss(state))
                control.should_save = keeper.due(state.global_step)
                control.should_training_stop |= keeper.stopped

            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                keeper.saved(state.global_step)

        return Callback()


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))


def _loss(state: Any) -> str:
    last = next((h["loss"] for h in reversed(state.log_history) if "loss" in h), None)
    return "" if last is None else f"loss {last:.3f}"


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint whose files all have the bytes that were saved; half-written ones are passed over."""
    for path in sorted(folder.glob("checkpoint-*"), key=_step_of, reverse=True):
        if _is_whole(path):
            return path
    return None


def _is_whole(path: Path) -> bool:
    try:
        facts = json.loads((path / WHOLE).read_text(encoding="utf-8"))
        return set(facts) == set(RESUMABLE) and all(
            (path / name).stat().st_size == fact["size"] and sha256_of(path / name) == fact["sha256"]
            for name, fact in facts.items()
        )
    except (OSError, ValueError, TypeError, KeyError):
        return False
