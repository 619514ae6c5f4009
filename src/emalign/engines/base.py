"""The engine's protocol: `answer` rows and `score` texts, over one base and any number of adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One text to continue. `prompt` is sent exactly as it stands; `adapter` is a folder, None for the base."""

    prompt: str
    seed: int
    adapter: Path | None = None
    max_tokens: int = 600
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the model added, without special tokens; `finish` is "stop" or "length", `tokens` how many it made."""

    text: str
    finish: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class NextToken:
    """The distribution after a text: log-probabilities of the tokens asked for, and of the most probable ones.

    `of` maps a token id to its natural log-probability, `top` the token's text, the 20 most probable.
    """

    of: Mapping[int, float]
    top: Mapping[str, float]


class Engine(Protocol):
    """A loaded base model. Results for a row do not depend on the rows beside it."""

    tokenizer: Any

    def served(self) -> dict[str, Any]:
        """How it is served: engine, precision, 4-bit or not. Numbers made in two ways are never compared."""
        ...

    def answer(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Completion]]:
        """(index, completion) as rows finish, in any order; every row's sampling follows its own seed."""
        ...

    def score(self, texts: Sequence[Sequence[int]], tokens: Sequence[int]) -> list[NextToken]:
        """For every text (token ids) the next token's log-probabilities, under the base model."""
        ...

    def close(self) -> None:
        """Let go of the model's memory."""
        ...
