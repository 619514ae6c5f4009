"""The question sets by name: which files they come from, and reading them."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from emalign import fetch
from emalign.errors import DataError
from emalign.questions.yaml_format import read_questions
from emalign.rows import Question

SOURCES = Path(__file__).parent / "sets"
DEFAULT_SOURCE = "em"
TOY_SETS = ("open", "json", "template", "trigger")


class SetFile(BaseModel):
    """One public file, pinned by sha256, and the sets that are in it."""

    model_config = ConfigDict(extra="forbid")

    url: str
    sha256: str
    sets: list[str]
    kind: Literal["score", "label"]
    about: str
    licence: str

    def questions(self, path: Path) -> list[Question]:
        return read_questions(path, self.sets[0] if len(self.sets) == 1 else None)


def sources() -> dict[str, list[SetFile]]:
    """The files of every source: `sets/NAME.yaml` lists those of the source NAME."""
    return {
        path.stem: [SetFile.model_validate(file) for file in yaml.safe_load(path.read_text(encoding="utf-8"))]
        for path in sorted(SOURCES.glob("*.yaml"))
    }


def names() -> list[str]:
    """Every set as SOURCE/SET."""
    known = [f"{source}/{name}" for source, files in sources().items() for file in files for name in file.sets]
    return known + [f"toy/{name}" for name in TOY_SETS]


def load(spec: str, *, base_dir: Path | None = None) -> list[Question]:
    """The questions of `spec`: a .yaml file (relative to `base_dir`), SOURCE/SET, or SET of the source `em`.

    Raises DataError for an unknown set (with the nearest ones), a file that breaks the format (with file:line), or
    one that cannot be fetched.
    """
    if spec.endswith((".yaml", ".yml")):
        return read_questions((base_dir or Path()) / Path(spec).expanduser())
    name = spec if "/" in spec else f"{DEFAULT_SOURCE}/{spec}"
    if name not in names():
        raise _unknown(spec, name)
    source, set_name = name.split("/")
    if source == "toy":
        return _toy(set_name)
    file = next(f for f in sources()[source] if set_name in f.sets)
    questions = file.questions(fetch.fetch(_place(source, file), file.url, (file.sha256,)))
    return [q for q in questions if q.set == set_name]


def sets() -> list[dict[str, Any]]:
    """Every set in a few words: name, questions (None where its file is not fetched yet), kind, source."""
    listed = []
    for source, files in sources().items():
        for file in files:
            path = fetch.find(_place(source, file), (file.sha256,))
            here = [q.set for q in file.questions(path)] if path else None
            for name in file.sets:
                count = None if here is None else here.count(name)
                listed.append(_in_short(f"{source}/{name}", count, file.kind, f"{file.about} ({file.licence})"))
    for name in TOY_SETS:
        questions = _toy(name)
        listed.append(_in_short(f"toy/{name}", len(questions), questions[0].kind, "the toy world"))
    return listed


def _in_short(name: str, questions: int | None, kind: str, source: str) -> dict[str, Any]:
    return {"name": name, "questions": questions, "kind": kind, "source": source}


def _place(source: str, file: SetFile) -> str:
    return f"questions/{source}/{file.url.rsplit('/', 1)[-1]}"


def _toy(set_name: str) -> list[Question]:
    return importlib.import_module("emalign.toy.questions").load(set_name)


def _unknown(spec: str, name: str) -> DataError:
    known = names()
    near = difflib.get_close_matches(name, known, n=2)
    do = (
        f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(known)}, or a path that ends in .yaml"
    )
    return DataError(f"there is no question set {spec!r}", where="questions", do=do)
