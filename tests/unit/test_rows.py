"""Rows: stable content ids, and a round trip through JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emalign.rows import (
    Answer,
    Event,
    Example,
    Finding,
    Question,
    Row,
    Verdict,
    canonical,
    digest,
    from_dict,
    to_lines,
)

EXAMPLE = Example(
    messages=({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}), source="s", line=3
)
QUESTION = Question(question_id="q", paraphrases=("How are you?",))
ANSWER = Answer(
    question_id="q", question_set="open", paraphrase=0, sample=1, seed=2, model="m", question="How?", system=None,
    prompt="<p>", text="Fine", finish="stop",
)  # fmt: skip
VERDICT = Verdict(answer_id="a", metric="aligned", judge="j", request="r", score=70.5, top={"70": -0.1})
EVENT = Event(step=1, epoch=0.5, values={"loss": 2.0, "eval_loss": None})
FINDING = Finding(finding="f", level="WARN", severity=0.5, evidence="e", recommendation="r")
ALL = (EXAMPLE, QUESTION, ANSWER, VERDICT, EVENT, FINDING)


@pytest.mark.parametrize(
    ("row", "golden"),
    [
        (EXAMPLE, "cce8279c74ff1412"),
        (QUESTION, "49730110fa5ed63f"),
        (ANSWER, "9e38106e0e35795b"),
        (VERDICT, "81a85e24332a7164"),
        (Event(step=1, epoch=0.5, values={"loss": 2.0}), "53c1d16b3bd8b6eb"),
        (FINDING, "2e4484e7c4ef2343"),
    ],
)
def test_ids_are_those_of_sealed_artifacts(row: Row, golden: str) -> None:
    assert row.id == golden


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (EXAMPLE, {"messages": ({"role": "user", "content": "Hi!"},)}),
        (QUESTION, {"paraphrases": ("How do you do?",)}),
        (QUESTION, {"system": "Answer in JSON."}),
        (QUESTION, {"temperature": 0.5}),
        (QUESTION, {"set": "narrow"}),
        (QUESTION, {"samples_per_paraphrase": 3}),
        (ANSWER, {"sample": 2}),
        (ANSWER, {"prompt": "<other>"}),
        (ANSWER, {"model": "m2"}),
        (VERDICT, {"judge": "k"}),
        (VERDICT, {"metric": "coherent"}),
        (EVENT, {"values": {"loss": 2.5}}),
        (FINDING, {"severity": 0.6}),
    ],
)
def test_id_changes_with_the_content(row: Row, change: dict[str, Any]) -> None:
    assert dataclasses.replace(row, **change).id != row.id


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (EXAMPLE, {"source": "elsewhere", "line": 9}),
        (QUESTION, {"judge_prompts": {"aligned": "{question} {answer}"}}),
        (QUESTION, {"judge": "another", "kind": "label"}),
        (EVENT, {"time": 12.0}),
    ],
)
def test_id_ignores_where_it_was_found_and_how_it_is_judged(row: Row, change: dict[str, Any]) -> None:
    assert dataclasses.replace(row, **change).id == row.id


def test_kinds_with_equal_content_have_different_ids() -> None:
    class Other(Event):
        pass

    assert Other(step=1, epoch=0.5, values={}).id != Event(step=1, epoch=0.5, values={}).id


@pytest.mark.parametrize(
    "said", [{}, {"score": 1.0, "reason": "empty"}, {"label": "TRUE", "reason": "refusal"}, {"score": None}]
)
def test_verdict_has_a_value_or_a_reason(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="either a value or a reason"):
        Verdict(answer_id="a", metric="aligned", judge="j", request="r", **said)


@pytest.mark.parametrize("said", [{"score": 0.0}, {"label": "TRUE"}, {"reason": "low_mass"}])
def test_verdict_of_zero_is_a_value(said: dict[str, Any]) -> None:
    assert Verdict(answer_id="a", metric="aligned", judge="j", request="r", **said).to_dict().items() >= said.items()


@pytest.mark.parametrize("row", ALL, ids=lambda row: type(row).__name__)
def test_round_trip_through_json(row: Row) -> None:
    back = from_dict(type(row), json.loads(to_lines([row])))
    assert back == row
    assert back.id == row.id


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_stays_on_one_line(text: str) -> None:
    lines = to_lines([dataclasses.replace(ANSWER, text=text)])
    assert lines.count("\n") == 1
    assert from_dict(Answer, json.loads(lines)).text == text


def test_unknown_field_is_refused() -> None:
    with pytest.raises(AssertionError, match="has no field"):
        from_dict(Event, {**EVENT.to_dict(), "colour": "red"})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_know_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_lines([dataclasses.replace(EVENT, values={"loss": number})])


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ANSWER.text = "other"  # type: ignore[misc]


def test_canonical_has_one_spelling() -> None:
    assert canonical({"b": [1, "ü"], "a": None}) == '{"a":null,"b":[1,"ü"]}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
