"""Stage data: nested doses, what is reported, and rows that may not be stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emalign import datasets
from emalign.errors import DataError
from emalign.rows import Example
from emalign.run import Run
from emalign.stage import Step, _work
from emalign.stages.data import Reference, drawn, restored

CONFIG = """
extends: {toy}
name: small
arms:
  base: {{}}
  harm: {{from: base, data: toy_money_bad, dose: {dose}}}
"""


@pytest.fixture
def small(tmp_path: Path) -> Any:
    def make(dose: str = "[8, 32]") -> Run:
        toy = Path(__file__).resolve().parents[2] / "configs/toy.yaml"
        (tmp_path / "small.yaml").write_text(CONFIG.format(toy=toy, dose=dose))
        return Run(tmp_path / "small.yaml", store=tmp_path / "results")

    return make


def steps(run: Run) -> list[Step]:
    return run.plan().of("data")


def test_doses_are_nested_and_share_their_held_out_rows(small: Any) -> None:
    run = small()
    (less, held), (more, held_too) = (drawn(run.study, step) for step in steps(run))
    assert (len(less), len(more)) == (8, 32)
    assert more[:8] == less
    assert held == held_too
    assert not {row.line for row in held} & {row.line for row in more}


def test_too_large_a_dose_says_what_there_is(small: Any) -> None:
    run = small("5000")
    with pytest.raises(DataError, match="toy_money_bad has 2000"):
        drawn(run.study, steps(run)[0])


def test_what_the_tokenizer_makes_of_it_is_reported(small: Any) -> None:
    run = small()
    run.only("data")
    sealed = run.store.sealed(*steps(run)[1].place)
    facts = sealed.manifest.facts
    assert facts["rows"] == 32
    assert facts["rows_truncated"] == 0
    assert 0 < facts["trained_tokens"] < facts["tokens"]
    assert [row.messages[0]["role"] for row in sealed.rows(Example, "train.jsonl")] == ["user"] * 32


def test_protected_rows_are_sealed_without_a_word_of_theirs_and_found_again(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = datasets.card
    monkeypatch.setattr(datasets, "card", lambda name: real(name).model_copy(update={"protected": True}))
    run = small()
    run.only("data")
    step = steps(run)[0]
    sealed = run.store.sealed(*step.place)
    train, _ = drawn(run.study, step)
    for path in Path(run.store.url).rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not any(message["content"] in text for row in train for message in row.messages), path
    assert [row.example_id for row in sealed.rows(Reference, "train.jsonl")] == [row.id for row in train]
    [train_step] = [s for s in run.plan().of("train") if ("data", step.key) in s.needs]
    assert restored(_work(train_step, run.study, run.store), "train.jsonl") == train
