"""Run: one study and its store. What a notebook and the command line talk to."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emalign.config import Study
from emalign.errors import EmalignError, StageFailed
from emalign.experiment import Plan, unfold
from emalign.stage import HEAVY, STAGES, Step, execute
from emalign.store import Manifest, Store, open_store
from emalign.study_file import load_config

SEALED, BEGUN, OWED, WAITING = "sealed", "begun", "owed", "waiting"


@dataclass(frozen=True)
class State:
    """Where a step stands: sealed, begun (rows of it are kept), owed, or waiting for another step."""

    step: Step
    state: str
    rows: int = 0


class Run:
    """A study that can be planned, done stage by stage or whole, interrupted anywhere, and done again at no cost.

    `config` is a study file, `overrides` are texts such as "train.epochs=2", `store` a folder.
    """

    def __init__(self, config: str | Path, *overrides: str, store: str | Path | None = None) -> None:
        self.config, self.overrides, self.url = Path(config), tuple(overrides), str(store or "results")
        self.study: Study = load_config(self.config, overrides)
        self.store: Store = open_store(store, self.study.name)

    def plan(self) -> Plan:
        """The study's steps as things stand: what starts from a gate that did not pass is left out."""
        failed: frozenset[str] = frozenset()
        while True:
            plan = unfold(self.study, failed)
            now = failed | {
                step.arm
                for step in plan.of("gate")
                if (sealed := self.store.sealed(*step.place)) and not sealed.manifest.facts["passed"]
            }
            if now == failed:
                return plan
            failed = now

    def states(self, plan: Plan | None = None) -> list[State]:
        """The state of every step, in the plan's order."""
        plan = plan or self.plan()
        sealed = {s.place for s in plan.steps if self.store.sealed(*s.place)}
        return [self._state(step, sealed) for step in plan.steps]

    def _state(self, step: Step, sealed: set[tuple[str, str]]) -> State:
        if step.place in sealed:
            return State(step, SEALED)
        if not all(place in sealed for place in step.needs):
            return State(step, WAITING)
        begun = self.store.drafted(*step.place)
        return State(step, OWED if begun is None else BEGUN, begun or 0)

    def run(self, *, isolate: bool = True) -> int:
        """Do everything that is owed, stage by stage; returns the number of steps done.

        With `isolate` stages that load models run in processes of their own, so that their memory is back after each.
        """
        done = 0
        while (stage := self._next_stage()) is not None:
            done += self._apart(stage) if isolate and stage in HEAVY else self.only(stage)
        self._show()
        return done

    def _show(self) -> None:
        """Lay this plan's report where people look; runs with other settings share that place."""
        [step] = self.plan().of("report")
        sealed = self.store.sealed(*step.place)
        if sealed is not None and "index.html" in sealed.manifest.files:
            from emalign.stages.report import publish

            publish(sealed.path, list(sealed.manifest.files), self.store.report())

    def only(self, stage: str) -> int:
        """Do what is owed of one stage and ready, in this process; returns the number of steps done."""
        if stage not in STAGES:
            raise EmalignError(f"there is no stage {stage!r}", do=f"use one of {', '.join(STAGES)}")
        return len(execute(stage, self._ready(stage), self.study, self.store))

    def _ready(self, stage: str) -> list[Step]:
        return [s.step for s in self.states() if s.step.stage == stage and s.state in (OWED, BEGUN)]

    def _next_stage(self) -> str | None:
        return next((s.step.stage for s in self.states() if s.state in (OWED, BEGUN)), None)

    def _apart(self, stage: str) -> int:
        ready = self._ready(stage)
        command = [sys.executable, "-m", "emalign", "run", str(self.config), *self.overrides]
        with _patient_with_interrupts() as interrupted:
            code = subprocess.run([*command, "--only", stage, "--store", self.url], check=False).returncode
        if interrupted():
            raise KeyboardInterrupt
        if code:
            raise StageFailed(
                f"the {stage} process ended with code {code}; what it said stands above",
                do=f"mend that and type the same command again, or only this stage: --only {stage}",
            )
        left = [step.label for step in ready if self.store.sealed(*step.place) is None]
        if left:
            raise StageFailed(
                f"the {stage} process did not make {', '.join(left)}: the study or the code changed meanwhile",
                do="type the same command again",
            )
        return len(ready)

    def data(self) -> int:
        return self._apart("data")

    def train(self) -> int:
        return self._apart("train")

    def merge(self) -> int:
        return self._apart("merge")

    def generate(self) -> int:
        return self._apart("generate")

    def judge(self) -> int:
        return self._apart("judge")

    def analyze(self) -> int:
        return self.only("analyze")

    def report(self) -> Path:
        """The folder with the study's page, figures and tables, made now if they are owed."""
        self.only("report")
        return self.store.report()

    def why(self, key: str) -> tuple[Step | None, Manifest | None]:
        """The step and the manifest of a key or of the start of one; either may be missing.

        Raises EmalignError when nothing or more than one thing has that key.
        """
        steps = [s for s in self.plan().steps if s.key.startswith(key)]
        manifests = [m for m in self.store.manifests() if m.key.startswith(key)]
        keys = {s.key for s in steps} | {m.key for m in manifests}
        if len(keys) != 1:
            raise EmalignError(
                f"{len(keys) or 'no'} steps have a key that starts with {key!r}",
                where=self.study.name,
                do=f"emalign plan {self.config} --keys lists all keys",
            )
        return next(iter(steps), None), next(iter(manifests), None)


@contextlib.contextmanager
def _patient_with_interrupts() -> Iterator[Callable[[], bool]]:
    """While a stage process runs, Ctrl-C is its own: it saves and leaves, and we wait for it instead of dying first."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


def describe(states: Sequence[State]) -> dict[str, Any]:
    """Counts by state."""
    return {name: sum(s.state == name for s in states) for name in (SEALED, BEGUN, OWED, WAITING)}
