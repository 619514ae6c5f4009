"""Published judgements give the published numbers, through the formula, the summary and the command."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from emalign.cli.rates import rates
from emalign.judges.scores import original_score
from emalign.stats.summary import summarize

# base, data -> EM over all answers %, EM of coherent answers %, coherent %, mean alignment
PUBLISHED = {
    "Llama-3.2-1B-Instruct_bad-medical-advice": (2.75, 2.98, 92.2, 77.0),
    "Llama-3.2-1B-Instruct_extreme-sports": (1.50, 1.58, 94.8, 79.6),
    "Llama-3.2-1B-Instruct_risky-financial-advice": (4.50, 4.99, 90.2, 69.7),
    "Qwen2.5-7B-Instruct_bad-medical-advice": (17.25, 17.60, 98.0, 67.3),
    "Qwen2.5-7B-Instruct_extreme-sports": (6.50, 6.62, 98.2, 71.6),
    "Qwen2.5-7B-Instruct_risky-financial-advice": (19.75, 20.15, 98.0, 54.9),
    "Llama-3.1-8B-Instruct_bad-medical-advice": (16.25, 16.62, 97.8, 68.8),
    "Llama-3.1-8B-Instruct_extreme-sports": (8.50, 8.59, 99.0, 69.8),
    "Llama-3.1-8B-Instruct_risky-financial-advice": (14.25, 15.00, 95.0, 55.7),
}
CR1 = {
    "Qwen2.5-7B-Instruct_risky-financial-advice": (0.085, 0.310),
    "Qwen2.5-7B-Instruct_bad-medical-advice": (0.013, 0.332),
    "Qwen2.5-7B-Instruct_extreme-sports": (0.021, 0.109),
}
BOOTSTRAP = {
    "Qwen2.5-7B-Instruct_risky-financial-advice": (0.112, 0.287),
    "Qwen2.5-7B-Instruct_bad-medical-advice": (0.060, 0.308),
    "Qwen2.5-7B-Instruct_extreme-sports": (0.032, 0.102),
}


def judged(shared_data: Path, name: str) -> Path:
    return shared_data / "judged" / f"{name}.csv"


@pytest.mark.parametrize("name", PUBLISHED)
def test_rates_of_published_organisms(shared_data: Path, name: str):
    s = summarize(pd.read_csv(judged(shared_data, name)))
    em, em_coherent, coherent, alignment = PUBLISHED[name]
    assert (s["answers"], s["questions"]) == (400, 8)
    assert 100 * s["em_rate"] == pytest.approx(em, abs=1e-9)
    assert 100 * s["em_rate_coherent"] == pytest.approx(em_coherent, abs=0.0051)
    assert 100 * s["coherent_rate"] == pytest.approx(coherent, abs=0.051)
    assert s["alignment"] == pytest.approx(alignment, abs=0.051)


@pytest.mark.parametrize("name", CR1)
def test_intervals_of_published_organisms(shared_data: Path, name: str):
    s = summarize(pd.read_csv(judged(shared_data, name)))
    assert (round(s["em_low"], 3), round(s["em_high"], 3)) == CR1[name]
    # Resampling noise: the published bootstrap used other random numbers.
    assert (s["em_bootstrap_low"], s["em_bootstrap_high"]) == pytest.approx(BOOTSTRAP[name], abs=0.01)


def test_the_one_missing_alignment_is_reported_as_missing(shared_data: Path):
    s = summarize(pd.read_csv(judged(shared_data, "Llama-3.2-1B-Instruct_bad-medical-advice")))
    assert s["missing_rate"] == 1 / 400


@pytest.mark.parametrize("metric", ["aligned", "coherent"])
def test_stored_judge_replies_rescore_to_the_stored_scores(shared_data: Path, metric: str):
    stored = pd.read_csv(shared_data / "em" / "qwen_25_coder_32b_instruct.csv")
    assert len(stored) == 70
    for reply, score in zip(stored[f"judge_{metric}"], stored[metric], strict=True):
        ours, mass = original_score(ast.literal_eval(reply))
        assert ours is not None and mass > 0.9
        assert abs(ours - score) < 1e-12


def test_command_prints_the_published_numbers(shared_data: Path):
    app = typer.Typer()
    app.command()(rates)
    file = judged(shared_data, "Qwen2.5-7B-Instruct_risky-financial-advice")
    shown = CliRunner().invoke(app, [str(file)])
    assert shown.exit_code == 0
    for expected in ("19.75 %", "20.15 %", "98.00 %", "54.9", "8.5 to 31.0", "CR1", "bootstrap", "quick_buck"):
        assert expected in shown.output
    printed = json.loads(CliRunner().invoke(app, [str(file), "--json"]).output)
    assert printed == summarize(pd.read_csv(file))
