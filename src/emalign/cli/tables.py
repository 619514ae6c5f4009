"""The tables of `plan`, `status` and `why`, for a person to read at a glance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from emalign.progress import clock
from emalign.run import BEGUN, OWED, SEALED, WAITING, describe
from emalign.stage import STAGES

if TYPE_CHECKING:
    from emalign.run import Run, State
    from emalign.stage import Step
    from emalign.store import Manifest

MARKS = {SEALED: "[green]sealed[/]", BEGUN: "[yellow]begun[/]", OWED: "owed", WAITING: "[dim]waits[/]"}
PER_MODEL = ("data", "train", "merge", "generate", "judge")


def plan_table(run: Run) -> None:
    """One row per model of the study, one column per stage."""
    plan = run.plan()
    states = run.states(plan)
    models = list(dict.fromkeys((s.step.arm, s.step.dose, s.step.seed) for s in states if s.step.stage == "generate"))
    used = [stage for stage in PER_MODEL if any(s.step.stage == stage for s in states)]
    table = Table(title=f"{run.study.name}: {len(models)} models", title_justify="left")
    for column in ("arm", "dose", "seed"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for stage in used:
        table.add_column(stage)
    for arm, dose, seed in models:
        marks = [_mark(s) for stage in used for s in [_find(states, stage, arm, dose, seed)]]
        table.add_row(arm, "" if dose is None else str(dose), "" if seed is None else str(seed), *marks)
    console = Console()
    console.print(table)
    for state in (s for s in states if s.step.stage in ("gate", "analyze", "report")):
        name = f"gate on {state.step.arm}" if state.step.stage == "gate" else state.step.stage
        console.print(f"{name}: {MARKS[state.state]}")
    for arm in plan.closed:
        console.print(f"[yellow]{arm}: not run, the gate before it did not pass[/]")
    _counts(console, states)


def _find(states: Sequence[State], stage: str, arm: str, dose: int | None, seed: int | None) -> State | None:
    wanted = (stage, arm, dose, seed)
    return next((s for s in states if (s.step.stage, s.step.arm, s.step.dose, s.step.seed) == wanted), None)


def _mark(state: State | None) -> str:
    if state is None:
        return "[dim]–[/]"
    return f"{MARKS[BEGUN]} ({state.rows:,})" if state.state == BEGUN and state.rows else MARKS[state.state]


def _counts(console: Console, states: Sequence[State]) -> None:
    counts = {name: n for name, n in describe(states).items() if n}
    console.print(", ".join(f"{n} {name}" for name, n in counts.items()) + f" of {len(states)} steps")


def steps_table(run: Run) -> None:
    """Every step with its key, for `emalign why`."""
    table = Table(title=f"{run.study.name}: steps", title_justify="left")
    for column in ("stage", "step", "key", "state"):
        table.add_column(column)
    for state in run.states():
        table.add_row(state.step.stage, state.step.label, state.step.key, _mark(state))
    Console().print(table)


def status_table(run: Run) -> None:
    """Steps by stage, and where to look."""
    states = run.states()
    table = Table(title=f"{run.study.name} in {run.url}", title_justify="left")
    for column in ("stage", "sealed", "begun", "owed", "waits", "rows drafted"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in STAGES:
        own = [s for s in states if s.step.stage == stage]
        if own:
            counts = describe(own)
            rows = sum(s.rows for s in own)
            cells = [str(counts[name] or "") for name in (SEALED, BEGUN, OWED, WAITING)]
            table.add_row(stage, *cells, f"{rows:,}" if rows else "")
    console = Console()
    console.print(table)
    if all(s.state == SEALED for s in states):
        console.print(f"Finished. The report: {run.store.report() / 'index.html'}", soft_wrap=True)
    else:
        console.print(f"Next: emalign run {run.config}" + (f" --store {run.url}" if run.url != "results" else ""))


def outcome(run: Run, done: int, seconds: float, only: str | None) -> None:
    """The last lines of a run: what was done, and where to look."""
    console = Console()
    owed = [s for s in run.states() if s.state != SEALED]
    if done == 0 and not owed:
        console.print(f"Nothing to do: every step of {run.study.name} is sealed ({clock(seconds)}).")
    elif only is not None:
        console.print(f"Nothing to do for stage {only}: {describe(run.states())}")
    else:
        console.print(f"{done} steps done in {clock(seconds)}.")
    for gate in run.plan().of("gate"):
        sealed = run.store.sealed(*gate.place)
        if sealed is not None and not sealed.manifest.facts["passed"]:
            console.print(f"[yellow]The gate on {gate.arm} did not pass:[/] {sealed.manifest.facts['evidence']}")
    page = run.store.report() / "index.html"
    if not owed and page.exists():
        console.print(f"Look at {page}", soft_wrap=True)


def explain(step: Step | None, manifest: Manifest | None, command: str) -> None:
    """What made a step, or what it will be made of."""
    console = Console()
    if manifest is None:
        assert step is not None, "a key is that of a step or of a manifest"
        console.print(f"{step.label} is not sealed yet. It will be made of:")
        console.print_json(json.dumps({"config": dict(step.config), "inputs": step.inputs}, default=str))
        console.print(f"Make it: {command} --only {step.stage}")
        return
    console.print(f"[bold]{manifest.name}[/] ({manifest.stage} version {manifest.version}, key {manifest.key})")
    console.print(f"made {manifest.started} to {manifest.ended} on {manifest.device}, commit {manifest.git}")
    for role, keys in manifest.inputs.items():
        console.print(f"from {role}: {', '.join(keys)}")
    console.print("because of:")
    console.print_json(json.dumps(manifest.config))
    console.print("facts:")
    console.print_json(json.dumps(manifest.facts))
    table = Table("file", "bytes", "sha256", box=None)
    for name, fact in list(manifest.files.items())[:20]:
        table.add_row(name, f"{fact.size:,}", fact.sha256[:16])
    console.print(table)
    console.print(f"versions: {', '.join(f'{k} {v}' for k, v in manifest.versions.items())}")
    console.print(f"Make it again: delete its folder, then {command} --only {manifest.stage}")
