"""A study as a YAML file: `extends`, overrides such as `train.epochs=2`, and errors that name the file and the key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from emalign.config import Study
from emalign.errors import ConfigError
from emalign.problems import first_problem


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """The study at `path`, with `key.sub=value` overrides.

    Raises ConfigError with the file, the key and the likely spelling.
    """
    file = Path(path)
    tree = _merged(file, ())
    for override in overrides:
        _override(tree, override)
    tree.pop("extends", None)
    tree.setdefault("name", file.stem)
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(
            first_problem(error, Study, ""), where=str(file), do=f"correct it and run again: emalign plan {file}"
        ) from None
    study._folder = file.resolve().parent
    return study


def _merged(file: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if file.resolve() in seen:
        raise ConfigError("`extends` runs in a circle", where=" -> ".join(p.name for p in (*seen, file)))
    tree = read_yaml(file)
    parent = tree.get("extends")
    if parent is None:
        return tree
    return _over(_merged(file.parent / str(parent), (*seen, file.resolve())), tree)


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML file whose top is a mapping."""
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob("*.yaml")], n=2)
        hint = f"did you mean {file.parent / near[0]}?" if near else "ls configs/ shows the studies that come with it"
        raise ConfigError("there is no such study file", where=str(file), do=hint) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"the study file cannot be read: {error}", where=str(file)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            f"not valid YAML: {getattr(error, 'problem', error)}", where=f"{file}{line}", do="correct that line"
        ) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"a study is a mapping of keys, this is {type(tree).__name__}", where=str(file))
    return tree


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _override(tree: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{text!r} is not an override", where="command line", do="write it as train.epochs=2")
    *path, last = key.strip().split(".")
    node = tree
    for part in path:
        child = node.get(part)
        if not isinstance(child, dict):
            child = node[part] = {}
        node = child
    try:
        node[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        node[last] = value
