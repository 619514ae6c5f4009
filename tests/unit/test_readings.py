"""What a curve means, and whether a gate opens."""

from __future__ import annotations

import pandas as pd
import pytest

from emalign.config import Analyze, Gate
from emalign.stages.gate import weigh
from emalign.stages.readings import read_curve

GUIDE = [(85, 80), (78, 82), (68, 85), (62, 87), (58, 88)]


def curve(points: list[tuple[float, float]]) -> pd.DataFrame:
    rows = [
        {"epoch": i, "step": 10 * i, "alignment": a, "coherence": c, "em_rate": 0.1} for i, (a, c) in enumerate(points)
    ]
    return pd.DataFrame(rows)


def reading(points: list[tuple[float, float]], **settings: float) -> tuple[str, float | None]:
    found = read_curve(curve(points), Analyze(**settings), arm="harm", seed=0)  # type: ignore[arg-type]
    return found.reading, found.emergence_epoch


def test_the_guides_own_curve_is_emergent_misalignment_from_its_third_point() -> None:
    assert reading(GUIDE) == ("emergent misalignment", 2)


def test_a_dip_that_recovers_is_not_the_emergence() -> None:
    assert reading([(85, 80), (70, 80), (80, 80), (70, 80), (69, 80)]) == ("emergent misalignment", 3)


def test_both_falling_is_overfitting() -> None:
    assert reading([(85, 80), (70, 60), (50, 40)]) == ("overfitting", None)


def test_both_high_is_insufficient_training() -> None:
    assert reading([(85, 80), (84, 81), (83, 82)]) == ("insufficient training", None)


def test_the_lines_are_the_studys_own() -> None:
    assert reading(GUIDE, reading_alignment_below=60) == ("emergent misalignment", 4)


def test_a_reading_names_its_evidence_and_what_to_try() -> None:
    found = read_curve(curve(GUIDE), Analyze(), arm="harm", seed=0)  # type: ignore[call-arg]
    assert "85 → 78 → 68 → 62 → 58" in found.evidence
    assert found.checkpoint == "step 20 (epoch 2)"
    assert found.advice


@pytest.mark.parametrize(
    ("arm", "base", "coherent", "passed"),
    [
        (0.2, 0.01, 0.95, True),
        (0.04, 0.0, 0.95, False),
        (0.2, 0.1, 0.95, False),
        (0.2, 0.01, 0.8, False),
        (0.05, 0, 0.9, True),
    ],
)
def test_a_gate_wants_harm_well_above_the_base_and_coherent(
    arm: float, base: float, coherent: float, passed: bool
) -> None:
    gate = Gate(arm="harm")  # type: ignore[call-arg]
    facts = weigh(gate, {"em_rate": arm, "coherent_rate": coherent}, {"em_rate": base})
    assert facts["passed"] is passed
    assert f"{arm:.1%}" in facts["evidence"]
