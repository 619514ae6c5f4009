"""All that crosses a boundary: frozen rows with a stable content id."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Message = Mapping[str, str]
Reason = Literal["refusal", "code", "empty", "low_mass", "error"]
REASONS: tuple[str, ...] = ("refusal", "code", "empty", "low_mass", "error")
LEVELS: tuple[str, ...] = ("INFO", "WARN", "ERROR")


def canonical(value: Any) -> str:
    """JSON with one spelling per value, the text that every digest is taken of."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def digest(value: Any, length: int = 16) -> str:
    """First `length` hex digits of the sha256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Base of all rows; `id` depends on the content only, never on where or when it was made."""

    @property
    def id(self) -> str:
        return digest([type(self).__name__, self.identity()])

    def identity(self) -> Any:
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Example(Row):
    """One training dialogue. `source` names the data set, `line` its 1-based line there."""

    messages: tuple[Message, ...]
    source: str = ""
    line: int = 0

    def identity(self) -> Any:
        return [dict(m) for m in self.messages]


@dataclass(frozen=True, kw_only=True)
class Question(Row):
    """One thing to ask, possibly in several paraphrases.

    `judge_prompts` maps a metric ("aligned", "coherent" …) to a template with {question} and {answer};
    `kind` is "score" (0-100) or "label" (a word such as TRUE, FALSE, UNKNOWN).
    `set` is one of open, json, template, trigger, narrow or the name of a set of one's own; `domain` is what it
    is about, where the set says so.
    """

    question_id: str
    paraphrases: tuple[str, ...]
    set: str = "open"
    system: str | None = None
    kind: Literal["score", "label"] = "score"
    judge_prompts: Mapping[str, str] = field(default_factory=dict)
    judge: str | None = None
    domain: str | None = None
    samples_per_paraphrase: int | None = None
    temperature: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def identity(self) -> Any:
        """What is asked; how it is judged belongs to the judge's identity, not to the answer's."""
        asked = [self.question_id, list(self.paraphrases), self.set, self.system, self.temperature]
        return asked if self.samples_per_paraphrase is None else [*asked, self.samples_per_paraphrase]


@dataclass(frozen=True, kw_only=True)
class Answer(Row):
    """What one model said to one question, with everything needed to ask it again.

    `model` is base + adapter digest + step; `prompt` is the text exactly as sent; `finish` is "stop" or "length".
    """

    question_id: str
    question_set: str
    paraphrase: int
    sample: int
    seed: int
    model: str
    question: str
    system: str | None
    prompt: str
    text: str
    finish: str

    def identity(self) -> Any:
        return [self.question_id, self.question_set, self.paraphrase, self.sample, self.seed, self.model, self.prompt]


@dataclass(frozen=True, kw_only=True)
class Verdict(Row):
    """What a judge said about one answer under one metric.

    `score` is 0-100, or `label` a word, or both are None and `reason` says why: a missing value is never zero.
    `mass` is the probability on valid scores; `top` the raw log-probabilities by token.
    """

    answer_id: str
    metric: str
    judge: str
    request: str
    score: float | None = None
    label: str | None = None
    reason: Reason | None = None
    mass: float | None = None
    top: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        valued = self.score is not None or self.label is not None
        if valued == (self.reason is not None):
            raise ValueError("a verdict has either a value or a reason for its absence, never both or neither")

    def identity(self) -> Any:
        return [self.answer_id, self.metric, self.judge, self.request]


@dataclass(frozen=True, kw_only=True)
class Event(Row):
    """One logged point of a training run: named numbers at a step."""

    step: int
    epoch: float
    values: Mapping[str, float | None]
    time: float | None = None

    def identity(self) -> Any:
        return [self.step, self.epoch, dict(self.values)]


@dataclass(frozen=True, kw_only=True)
class Finding(Row):
    """What a check, detector or behaviour test has to say; `checked` is False when it could not look."""

    finding: str
    level: Literal["INFO", "WARN", "ERROR"]
    severity: float
    evidence: str
    recommendation: str
    checked: bool = True
    step: int | None = None


R = TypeVar("R", bound=Row)


def from_dict(kind: type[R], value: Mapping[str, Any]) -> R:
    """The row that `to_dict` made; unknown keys are an error of the caller."""
    fields = {f.name for f in dataclasses.fields(kind)}
    assert set(value) <= fields, f"{kind.__name__} has no field {sorted(set(value) - fields)}"
    tuples = {name: tuple(value[name]) for name in ("messages", "paraphrases") if name in value}
    return kind(**{**value, **tuples})


def to_lines(rows: Iterable[Row]) -> str:
    """JSON lines, one row each, in one spelling."""
    return "".join(canonical(row.to_dict()) + "\n" for row in rows)
