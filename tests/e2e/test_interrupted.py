"""Stopped anywhere, a study goes on where it was, and ends with the bytes of one that never stopped."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from mini_study import Emalign, stop, wait_for

pytestmark = pytest.mark.stack

Look = Callable[[Path], dict[str, str]]


def without(study: Emalign, *stages: str) -> Path:
    """Forget stages of a finished study, their claims and their judge's ledger, so that they are owed again."""
    root = study.folder / "results/mini"
    for stage in stages:
        shutil.rmtree(root / "steps" / stage)
    if "judge" in stages:
        shutil.rmtree(root / "ledger")
    return root / "steps"


def scores(judged: Path) -> dict[str, float]:
    """Answer and metric -> score, over all judged steps."""
    lines = [json.loads(line) for path in judged.glob("*/rows.jsonl") for line in path.read_text().splitlines()]
    return {f"{v['answer_id']} {v['metric']}": v["score"] for v in lines}


def same(one: Emalign, other: Emalign, sealed: Look, *stages: str) -> bool:
    a, b = ({k: v for k, v in sealed(m.folder / "results").items() if k.startswith(stages)} for m in (one, other))
    return bool(a) and a == b


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def test_training_goes_on_to_the_same_adapter(number: int, mini: Emalign, copied: Emalign, sealed: Look) -> None:
    steps = without(copied, "train")
    words = ("run", "mini.yaml", "--only", "train", "train.save_every_steps=3")
    process = copied.start(*words)
    wait_for(lambda: any(steps.glob("train/*/trainer/checkpoint-*/whole.json")), process)
    said = stop(process, number)
    if number == signal.SIGINT:
        assert "run the same command again" in said
        assert "Traceback" not in said
    assert not list(steps.glob("train/*/manifest.json"))
    again = copied(*words)
    assert "goes on after step" in again.stderr
    copied(*words)
    for sealed_one in steps.glob("train/*/checkpoints"):
        twin = mini.folder / "results" / sealed_one.relative_to(copied.folder / "results")
        last = sorted(p.name for p in twin.iterdir())[-1]
        weights = [(p / last / "adapter_model.safetensors").read_bytes() for p in (sealed_one, twin)]
        assert weights[0] == weights[1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def test_generation_goes_on_row_by_row(number: int, mini: Emalign, copied: Emalign, sealed: Look) -> None:
    steps = without(copied, "generate")
    words = ("run", "mini.yaml", "--only", "generate", "evaluate.batch=1")
    process = copied.start(*words)
    wait_for(lambda: any(steps.glob("generate/*/segments/*.jsonl")), process)
    said = stop(process, number)
    assert "Traceback" not in said
    again = copied(*words)
    assert "were there already" in again.stderr
    assert same(mini, copied, sealed, "generate")


def test_judging_asks_nothing_twice(mini: Emalign, copied: Emalign, sealed: Look) -> None:
    without(copied, "judge")
    ledger = copied.folder / "results/mini/ledger"
    words = ("run", "mini.yaml", "--only", "judge", "judge.batch=1")
    process = copied.start(*words)
    wait_for(lambda: any(p.stat().st_size for p in ledger.glob("*.jsonl")), process)
    stop(process, signal.SIGKILL)
    [path] = ledger.glob("*.jsonl")
    with path.open("a") as torn:
        torn.write('{"request": "half a li')
    kept = path.read_text().count("\n")
    again = copied(*words)
    assert f"{kept} were there already" in again.stderr
    one, other = (scores(m.folder / "results/mini/steps/judge") for m in (mini, copied))
    assert one.keys() == other.keys()
    assert max(abs(one[k] - other[k]) for k in one) < 1e-3, "another batch size, so not the same bytes"


def test_a_damaged_artifact_is_named_with_what_to_type(copied: Emalign) -> None:
    [rows, *_] = sorted((copied.folder / "results/mini/steps/generate").glob("*/rows.jsonl"))
    rows.write_bytes(rows.read_bytes()[:-20])
    said = copied("run", "mini.yaml", code=1).stderr
    assert "rows.jsonl" in said
    assert "rm -r" in said
    assert "Traceback" not in said
    shutil.rmtree(rows.parent)
    copied("run", "mini.yaml")


def test_two_processes_do_not_do_one_step_twice(copied: Emalign) -> None:
    without(copied, "generate")
    first = copied.start("run", "mini.yaml", "--only", "generate", "evaluate.batch=1")
    wait_for(lambda: any((copied.folder / "results/mini/claims").glob("*.json")), first)
    said = copied("run", "mini.yaml", "--only", "generate", code=1).stderr
    assert "is working on this step" in said
    first.communicate(timeout=300)
    assert first.returncode == 0
