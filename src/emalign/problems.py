"""What is wrong with a config, in words that name the key as it is written and the key that was likely meant."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError


def first_problem(error: ValidationError, top: type[BaseModel], prefix: str) -> str:
    """The first problem in words, with the key as it is written in YAML."""
    problem = error.errors()[0]
    path = [str(p) for p in problem["loc"]]
    key = ".".join(([prefix] if prefix else []) + path) or "the study"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {suggest(path[-1], _siblings(top, path[:-1]))}"
    if problem["type"] == "missing":
        return f"{key!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    got = "" if problem["type"] == "value_error" else f" (got {problem['input']!r})"
    return f"{key}: {message}{got}" if path or prefix else message


def _siblings(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys allowed at `path`; names of arms are passed over."""
    for part in path:
        field = model.model_fields.get(part)
        model = next(_models(field.annotation), model) if field is not None else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models inside an annotation such as dict[str, Arm]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models(inner)


def suggest(word: str, known: list[str]) -> str:
    """ "did you mean …" where a known word is near, else the known words."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
