"""A stage: a function over the owed steps of one kind that share a base, each skipped, resumed and sealed alone.

    @stage("judge", needs=("generate",), version=1)
    def judge(works: Sequence[Work]) -> None: ...

The runner looks every step up in the store. What is sealed is returned, what was begun is reopened, and what is owed
goes to the function, which calls `work.seal(...)` for each step when it is whole.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emalign.config import Study
from emalign.errors import StageFailed
from emalign.rows import Row, digest
from emalign.store import Claim, Draft, Manifest, Sealed, Store

STAGES = ("data", "train", "merge", "generate", "judge", "gate", "analyze", "report")
# Stages that load models run in a process of their own: when it ends, all their memory is back.
HEAVY = frozenset({"data", "train", "merge", "generate", "judge"})
PACKAGES = ("emalign", "torch", "transformers", "trl", "peft", "unsloth", "unsloth_zoo", "bitsandbytes", "datasets",
            "huggingface_hub", "vllm", "openai", "numpy", "pandas")  # fmt: skip
BEAT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One unit of work of a study. `key` is its identity; `after` orders it without being part of what it is."""

    stage: str
    key: str
    arm: str
    seed: int | None
    dose: int | None
    label: str
    config: Mapping[str, Any]
    inputs: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    after: tuple[tuple[str, str], ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        return self.stage, self.key

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        return (*(place for places in self.inputs.values() for place in places), *self.after)


@dataclass(kw_only=True)
class Work:
    """One owed step, as a stage sees it: what to do, what it builds on, and where it writes."""

    step: Step
    study: Study
    store: Store
    inputs: Mapping[str, list[Sealed]]
    out: Draft
    started: str

    def only(self, role: str) -> Sealed:
        """The single input of a role."""
        assert len(self.inputs[role]) == 1, f"{self.step.label} has {len(self.inputs[role])} inputs as {role}"
        return self.inputs[role][0]

    def seal(
        self,
        *,
        rows: Mapping[str, Iterable[Row]] | None = None,
        facts: Mapping[str, Any] | None = None,
        tokens: int = 0,
    ) -> Sealed:
        """Finish this step: its files are hashed and the manifest written last."""
        step = self.step
        manifest = Manifest(
            stage=step.stage,
            version=stage_of(step.stage).version,
            key=step.key,
            name=step.label,
            config=dict(step.config),
            inputs={role: [key for _, key in places] for role, places in step.inputs.items()},
            facts=dict(facts or {}),
            seeds=[] if step.seed is None else [step.seed],
            versions=versions(),
            git=git_revision(),
            device=device(),
            started=self.started,
            ended=now(),
            tokens=tokens,
        )
        return self.out.seal(manifest, rows)


@dataclass(frozen=True)
class Stage:
    """A registered stage; bump `version` when its behaviour or a default changes."""

    name: str
    run: Callable[[Sequence[Work]], None]
    needs: tuple[str, ...]
    version: int


_REGISTERED: dict[str, Stage] = {}


def stage(name: str, *, needs: Sequence[str] = (), version: int) -> Callable[[Callable[[Sequence[Work]], None]], Any]:
    """Register the function of a stage under its name."""
    assert name in STAGES, f"{name} is not one of {STAGES}"

    def register(run: Callable[[Sequence[Work]], None]) -> Callable[[Sequence[Work]], None]:
        _REGISTERED[name] = Stage(name, run, tuple(needs), version)
        return run

    return register


def stage_of(name: str) -> Stage:
    """The stage of that name; importing its module loads no heavy library."""
    importlib.import_module(f"emalign.stages.{name}")
    return _REGISTERED[name]


def identity(name: str, config: Mapping[str, Any], inputs: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """The key of a step: stage, version, what changes the result, and the keys of what it builds on."""
    upstream = {role: [key for _, key in places] for role, places in inputs.items()}
    return digest([name, stage_of(name).version, dict(config), upstream])


def execute(name: str, steps: Sequence[Step], study: Study, store: Store) -> list[Step]:
    """Do what is owed of `steps`, all of one stage and with sealed inputs; returns the steps that were done now.

    Raises BusyError where another process works on one of them, and StageFailed where the stage left one unsealed.
    """
    owed = [step for step in steps if store.sealed(*step.place) is None]
    if not owed:
        return []
    with _claimed(store, owed):
        # Another process may have sealed some between the first look and the claim.
        owed = [step for step in owed if store.sealed(*step.place) is None]
        if owed:
            stage_of(name).run([_work(step, study, store) for step in owed])
    unsealed = [step.label for step in owed if store.sealed(*step.place) is None]
    if unsealed:
        raise StageFailed(f"{name} ended without finishing {', '.join(unsealed)}", do="run the same command again")
    return owed


def _work(step: Step, study: Study, store: Store) -> Work:
    inputs: dict[str, list[Sealed]] = {}
    for role, places in step.inputs.items():
        found = [store.sealed(*place) for place in places]
        inputs[role] = [sealed for sealed in found if sealed is not None]
        assert len(inputs[role]) == len(places), f"{step.label} was started before its {role} was sealed"
    return Work(step=step, study=study, store=store, inputs=inputs, out=store.draft(*step.place), started=now())


@contextlib.contextmanager
def _claimed(store: Store, steps: Sequence[Step]) -> Iterator[None]:
    """Hold the claims of all steps, and beat them while the stage runs."""
    claims: list[Claim] = []
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            for claim in claims:
                claim.beat()

    try:
        for step in steps:
            claims.append(store.claim(step.key))
        threading.Thread(target=beat, daemon=True, name="claims").start()
        yield
    finally:
        over.set()
        for claim in claims:
            claim.release()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of the packages that can change a result, read without importing them."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def git_revision() -> str | None:
    """Commit of the checkout this package runs from, None when it is installed without one."""
    if shutil.which("git") is None:
        return None
    here = Path(__file__).parent
    done = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def device() -> str:
    """Name of the first GPU, or "cpu"; asks the driver's own tool so that torch need not be imported."""
    if shutil.which("nvidia-smi") is None:
        return "cpu"
    ask = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip().split("\n")[0] or "cpu"
