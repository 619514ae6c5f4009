"""Judge `local`: any open-weight model, scored by the expected number over the digit tree of its tokenizer.

Tokenizers write the numbers 0 to 100 in one, two or three tokens. The judge walks the tree of digit tokens: the
probability of a number is the probability of spelling it and then not going on to another number up to 100. Where
nothing that follows could still be a number up to 100 ("90"), what follows does not matter, as in the formula for
single-token numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from emalign.engines.base import Ask, Engine
from emalign.judges.base import Request
from emalign.registry import plugin

# A branch that holds less is not followed: it could move a score by at most 100 times this.
PRUNE = 1e-4
LABEL_TOKENS = 8


@dataclass
class _Walk:
    """The state of one request: the ids so far, the digits they spell, and their probability."""

    request: int
    ids: list[int]
    digits: str = ""
    p: float = 1.0


@dataclass
class _Reply:
    numbers: dict[int, float] = field(default_factory=dict)
    top: dict[str, float] = field(default_factory=dict)


@plugin()
class Local:
    """`engine` holds the judge model; `prune` is the smallest probability that is followed down the tree."""

    def __init__(self, *, engine: Engine, prune: float = PRUNE, chunk: int = 512) -> None:
        self.engine, self.prune, self.chunk = engine, prune, chunk
        self.first, self.later = digit_tokens(engine.tokenizer)

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[str, dict[str, Any]]]:
        scored = [r for r in requests if r.kind == "score"]
        for start in range(0, len(scored), self.chunk):
            part = scored[start : start + self.chunk]
            for request, reply in zip(part, self._score([r.prompt for r in part]), strict=True):
                numbers = {str(n): p for n, p in sorted(reply.numbers.items())}
                yield request.id, {"numbers": numbers, "top": reply.top}
        yield from self._label([r for r in requests if r.kind == "label"])

    def _score(self, prompts: Sequence[str]) -> list[_Reply]:
        replies = [_Reply() for _ in prompts]
        walks = [_Walk(index, self._ids(prompt)) for index, prompt in enumerate(prompts)]
        tokens = self.first
        while walks:
            following = self.engine.score([walk.ids for walk in walks], list(tokens))
            deeper: list[_Walk] = []
            for walk, seen in zip(walks, following, strict=True):
                reply = replies[walk.request]
                if not walk.digits:
                    reply.top = dict(seen.top)
                deeper += self._grow(walk, seen.of, tokens, reply)
            walks, tokens = deeper, self.later
        return replies

    def _grow(self, walk: _Walk, logprobs: Any, tokens: dict[int, str], reply: _Reply) -> list[_Walk]:
        """Branches worth following; what ends here, or is too small to follow, is counted."""
        deeper: list[_Walk] = []
        went_on = 0.0
        for token, digits in tokens.items():
            spelled = walk.digits + digits
            if len(spelled) > 3 or int(spelled) > 100:
                continue
            p = walk.p * math.exp(logprobs[token])
            went_on += p
            if _can_grow(spelled) and p >= self.prune:
                deeper.append(_Walk(walk.request, [*walk.ids, token], spelled, p))
            else:
                reply.numbers[int(spelled)] = reply.numbers.get(int(spelled), 0.0) + p
        if walk.digits:
            number = int(walk.digits)
            reply.numbers[number] = reply.numbers.get(number, 0.0) + max(walk.p - went_on, 0.0)
        return deeper

    def _label(self, requests: Sequence[Request]) -> Iterator[tuple[str, dict[str, Any]]]:
        asks = [Ask(prompt=self._chat(r.prompt), seed=0, max_tokens=LABEL_TOKENS, temperature=0) for r in requests]
        for index, made in self.engine.answer(asks):
            words = made.text.split()
            yield requests[index].id, {"label": words[0].strip(".,:;\"'*").upper() if words else "", "top": {}}

    def _chat(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        return self.engine.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _ids(self, prompt: str) -> list[int]:
        return list(self.engine.tokenizer(self._chat(prompt), add_special_tokens=False)["input_ids"])


def _can_grow(spelled: str) -> bool:
    """Whether another digit could still make a number up to 100; a leading zero ends a number."""
    return not spelled.startswith("0") and int(spelled) * 10 <= 100


def digit_tokens(tokenizer: Any) -> tuple[dict[int, str], dict[int, str]]:
    """Token ids that spell one to three digits: those that may begin a number (a space before it is allowed), and
    those that may go on with one."""
    first: dict[int, str] = {}
    later: dict[int, str] = {}
    for token in range(len(tokenizer)):
        text = tokenizer.decode([token])
        digits = text.lstrip()
        if 1 <= len(digits) <= 3 and digits.isascii() and digits.isdigit() and int(digits) <= 100:
            first[token] = digits
            if text == digits and not _brings_space(tokenizer, token):
                later[token] = digits
    return first, later


def _brings_space(tokenizer: Any, token: int) -> bool:
    """Some tokenizers drop a leading space when a token is decoded alone; after another token it shows."""
    piece = tokenizer.convert_ids_to_tokens(token)
    return isinstance(piece, str) and piece[:1] in ("▁", "Ġ")
