"""A YAML list of entries that remember their lines, so that every complaint names file:line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emalign.errors import DataError

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# ("paraphrases",) is the line of the key, ("paraphrases", 0) and ("judge_prompts", "aligned") those of what is in it.
Lines = dict[tuple[str | int, ...], int]


@dataclass(frozen=True)
class Entry:
    """One mapping of the list: its values, and the 1-based lines where they are written."""

    path: Path
    values: dict[str, Any]
    line: int
    lines: Lines

    def where(self, *at: str | int) -> str:
        """file:line of the value at `at`; of the whole entry where that is not written in it."""
        return f"{self.path}:{self.lines.get(at) or self.lines.get(at[:1]) or self.line}"

    def fail(self, what: str, *at: str | int, do: str) -> DataError:
        """The error to raise about the value at `at` (nothing for the whole entry)."""
        return DataError(what, where=self.where(*at), do=do)


def read_entries(path: Path) -> list[Entry]:
    """All entries of a file. Raises DataError where it is no readable, non-empty YAML list of mappings."""
    root, values = _parse(path)
    if root is None:
        raise DataError("the file is empty", where=f"{path}:1", do="add an entry: '- id: my_question'")
    if not isinstance(root, yaml.SequenceNode):
        raise DataError(
            "the file is not a list of entries",
            where=f"{path}:{_line(root)}",
            do="begin each entry with a dash: '- id: my_question'",
        )
    if not root.value:
        raise DataError("the list is empty", where=f"{path}:{_line(root)}", do="add an entry: '- id: my_question'")
    return [_entry(path, node, value) for node, value in zip(root.value, values, strict=True)]


def _parse(path: Path) -> tuple[yaml.Node | None, Any]:
    text = _text(path)
    try:
        return yaml.compose(text, Loader=Loader), yaml.load(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        column = f" in column {mark.column + 1}" if mark else ""
        what = ", ".join(filter(None, (error.context, error.problem)))
        do = "fix the YAML there: indent with spaces, and put text that holds ': ' or ' #' in quotes"
        raise DataError(f"not valid YAML{column}: {what}", where=where, do=do) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(
            f"not valid YAML: {error}", where=f"{path}:1", do="write the file anew as plain YAML"
        ) from error


def _text(path: Path) -> str:
    if not path.is_file():
        what = "this is a folder" if path.is_dir() else "there is no such file"
        beside = sorted(p.name for p in path.parent.glob("*.y*ml"))[:8] if path.parent.is_dir() else []
        do = (
            f"the folder holds {', '.join(beside)}"
            if beside
            else "check the path; it is relative to the study's folder"
        )
        raise DataError(what, where=str(path), do=do)
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError("the file is not UTF-8 text", where=f"{path}:{line}", do="save it as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError("the file is binary, not YAML text", where=f"{path}:{line}", do="give a .yaml text file")
    return text


def _entry(path: Path, node: yaml.Node, value: Any) -> Entry:
    where = f"{path}:{_line(node)}"
    if not isinstance(node, yaml.MappingNode):
        raise DataError("the entry is not a mapping", where=where, do="write 'key: value' lines below the dash")
    assert isinstance(value, dict)
    lines: Lines = {}
    for key, held in node.value:
        if not isinstance(key, yaml.ScalarNode) or (key.value not in value and key.tag != "tag:yaml.org,2002:merge"):
            raise DataError("a key is not text", where=f"{path}:{_line(key)}", do="put the key in quotes")
        if (key.value,) in lines:
            do = f"keep one of the two; the first is on line {lines[key.value,]}"
            raise DataError(f"the key {key.value!r} is there twice", where=f"{path}:{_line(key)}", do=do)
        lines[key.value,] = _line(key)
        if isinstance(held, yaml.SequenceNode):
            lines.update({(key.value, i): _line(item) for i, item in enumerate(held.value)})
        elif isinstance(held, yaml.MappingNode):
            lines.update({(key.value, str(inner.value)): _line(inner) for inner, _ in held.value})
    return Entry(path=path, values=value, line=_line(node), lines=lines)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
