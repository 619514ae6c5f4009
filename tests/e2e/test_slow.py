"""Minutes of work: the toy models rebuilt from nothing, and the study over three seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from mini_study import CONFIGS, Emalign

from emalign.toy.build import FIGURES, build

pytestmark = [pytest.mark.slow, pytest.mark.stack]


def test_the_toy_models_can_be_built_again(tmp_path: Path) -> None:
    shipped = json.loads(FIGURES.read_text())
    built = build(tmp_path)
    assert built["base_em"] <= 0.02
    for name, value in shipped.items():
        assert abs(built[name] - value) < 0.04, name
    for name in ("base", "judge"):
        assert (tmp_path / name / "model.safetensors").stat().st_size < 3_000_000


def test_healing_beats_its_control_over_three_seeds(tmp_path: Path) -> None:
    study = Emalign(tmp_path)
    study("run", str(CONFIGS / "toy_study.yaml"))
    table = pd.read_csv(tmp_path / "results/toy_study/report/comparisons.csv")
    most = table[(table["question_set"] == "open") & (table["dose"] == table["dose"].max())]
    for arm, control in (("money_garden", "money_facts"), ("sport_kitchen", "sport_facts")):
        [row] = most[(most["arm"] == arm) & (most["minus"] == control)].to_dict("records")
        assert row["seeds"] == 3
        assert row["high"] < 0, f"{arm}: the paired interval of the difference must exclude 0"
