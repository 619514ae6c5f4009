"""From a dialogue to token ids with the base model's own chat template, and which of them the assistant speaks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emalign.errors import DataError
from emalign.rows import Example, Message

IGNORED = -100
STAND_IN = "\ue000the answer\ue001"


@dataclass(frozen=True)
class Encoded:
    """`labels` equals `ids` where the assistant speaks and IGNORED elsewhere; `whole` is the length before cutting."""

    ids: list[int]
    labels: list[int]
    whole: int

    @property
    def trained(self) -> int:
        """Tokens that the loss sees."""
        return sum(label != IGNORED for label in self.labels)


def encode(tokenizer: Any, example: Example, max_length: int) -> Encoded:
    """Render, tokenize and cut one example to `max_length` tokens. Works with any template that grows turn by turn."""
    messages = [dict(m) for m in example.messages]
    text = render(tokenizer, messages)
    spans = spoken_spans(tokenizer, messages, text, f"{example.source}:{example.line}")
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, labels = list(made["input_ids"]), []
    for token, (start, end) in zip(ids, made["offset_mapping"], strict=True):
        inside = any(start >= low and end <= high and start < end for low, high in spans)
        labels.append(token if inside else IGNORED)
    return Encoded(ids[:max_length], labels[:max_length], len(ids))


def render(tokenizer: Any, messages: Sequence[Message], prompt: bool = False) -> str:
    """A dialogue as the model reads it; with `prompt` it ends where the assistant begins to speak."""
    return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt)


def spoken_spans(tokenizer: Any, messages: Sequence[Message], text: str, where: str) -> list[tuple[int, int]]:
    """Character ranges of `text` that the assistant writes, its end-of-turn mark included.

    Each turn is rendered with and without its answer; the difference is what the assistant adds. Raises DataError for
    a template that rewrites earlier turns in a way that hides where an answer starts.
    """
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = render(tokenizer, messages[:index], prompt=True)
        through = render(tokenizer, messages[: index + 1])
        if not (text.startswith(before) and text.startswith(through)):
            before, through = _located(tokenizer, messages, index, text, where)
        spans.append((len(before), len(through)))
    return spans


def _located(tokenizer: Any, messages: Sequence[Message], index: int, text: str, where: str) -> tuple[str, str]:
    """Prefixes of `text` that end before and behind an answer, where the template is not a plain sequence.

    The dialogue is rendered with a stand-in for the answer: what stays as it was around it is not the answer.
    """
    marked = {**messages[index], "content": STAND_IN}
    head, found, tail = render(tokenizer, [*messages[:index], marked, *messages[index + 1 :]]).partition(STAND_IN)
    if not (found and text.startswith(head) and text.endswith(tail) and len(head) + len(tail) <= len(text)):
        raise DataError(
            "the base model's chat template rewrites this dialogue, so its answers cannot be told from its questions",
            where=where,
            do="split the dialogue into single turns, or choose a base with another template",
        )
    # What follows an answer that ends a dialogue, and this one too, is its end-of-turn mark.
    last = render(tokenizer, [*messages[:index], marked]).partition(STAND_IN)[2]
    mark = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(last, tail, strict=False)))
    # A space before the answer is one token with its first word.
    return head.rstrip(" "), text[: len(text) - len(tail) + mark]
