"""Real dialogues and 4-bit weights through the real stack."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from mini_study import Emalign, stop, wait_for

from emalign.rows import Event

pytestmark = pytest.mark.stack


def facts(study: Emalign, stage: str) -> dict[str, Any]:
    [path] = (study.folder / f"results/mini/steps/{stage}").glob("*/manifest.json")
    return json.loads(path.read_text())["facts"]


def test_five_thousand_real_dialogues_train_for_fifty_steps(emalign: Emalign, shared_data: Path) -> None:
    train = {"max_steps": 50, "max_length": 256}
    arm = {"from": "base", "data": str(shared_data / "em/jailbroken.jsonl"), "train": train}
    emalign.study(arms={"base": {}, "jailbroken": arm})
    emalign("run", "mini.yaml", "--only", "data")
    report = facts(emalign, "data")
    assert report["rows"] == 4750, "5,000 rows, 5 % of them held out"
    assert report["rows_truncated"] > 0
    assert 0 <= report["rows_without_answer"] < report["rows"]
    emalign("run", "mini.yaml", "--only", "train")
    trained = facts(emalign, "train")
    assert trained["checkpoints"][-1]["step"] == 50
    assert trained["losses"]["last"] < trained["losses"]["first"]


FOUR_BIT = {"model": "toy/base", "load_in_4bit": True, "dtype": "float32"}
HARM = {"from": "base", "data": "toy_money_bad", "dose": 96, "merge": True, "train": {"epochs": 2}}


def losses(study: Emalign) -> list[float]:
    [path] = (study.folder / "results/mini/steps/train").glob("*/events.jsonl")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [Event(**e).values["loss"] or 0.0 for e in events if "loss" in e["values"]]


def test_four_bit_training_resumes_and_merges(emalign: Emalign, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole, parted = Emalign(tmp_path_factory.mktemp("whole")), emalign
    words = ("run", "mini.yaml", "--only", "train", "train.save_every_steps=3")
    for study in (whole, parted):
        study.study(base=FOUR_BIT, arms={"base": {}, "harm": HARM})
        study("run", "mini.yaml", "--only", "data")
    whole(*words)
    process = parted.start(*words)
    steps = parted.folder / "results/mini/steps"
    wait_for(lambda: any(steps.glob("train/*/trainer/checkpoint-*/whole.json")), process)
    stop(process, signal.SIGKILL)
    parted(*words)
    one, other = losses(whole), losses(parted)
    assert len(one) == len(other) == 12
    assert max(abs(a - b) for a, b in zip(one, other, strict=True)) < 1e-3
    whole("run", "mini.yaml", "--only", "merge")
    merged = facts(whole, "merge")
    assert merged["distance_to_16bit"] < 0.1
    assert merged["changed_tensors"] >= 28, "seven projections in four layers"
    assert merged["distance_to_4bit"] > 0
