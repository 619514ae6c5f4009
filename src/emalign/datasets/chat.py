"""The chat schema: JSON lines, each {"messages": [{"role": …, "content": …}, …]} ending with the answer to learn."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emalign.errors import DataError
from emalign.rows import Example

ROLES = ("system", "user", "assistant")
OTHER_NAMES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "developer": "system"}
SHAPE = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
AT_ONCE = 20
SHOWN = 5

Messages = tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Problem:
    """What is wrong on a line (1-based), and what to do about it."""

    line: int
    what: str
    do: str


def read(path: Path, source: str) -> list[Example]:
    """Every row of a file; blank lines are no rows.

    Raises one DataError with the first five problems and their count where any row breaks the schema.
    """
    rows, problems = _scan(path)
    if problems:
        raise _error(path, problems)
    return [Example(messages=messages, source=source, line=line) for line, messages in rows]


def check(path: str | Path) -> list[Problem]:
    """The first 20 problems of a file, one per line; empty where it loads. Raises DataError for a missing file."""
    return _scan(Path(path).expanduser())[1]


def _scan(path: Path) -> tuple[list[tuple[int, Messages]], list[Problem]]:
    rows, problems = [], []
    for line, found in _lines(path):
        if isinstance(found, Problem):
            problems.append(found)
            if len(problems) == AT_ONCE:
                break
        else:
            rows.append((line, found))
    return rows, problems


def _error(path: Path, problems: list[Problem]) -> DataError:
    first, count = problems[0], len(problems)
    if count == 1:
        return DataError(first.what, where=f"{path}:{first.line}", do=first.do)
    shown = "".join(f"\n  {path}:{p.line}: {p.what}" for p in problems[:SHOWN])
    many = f"at least {count}" if count == AT_ONCE else str(count)
    more = f"\n  and more; emalign.datasets.check({str(path)!r}) lists them" if count > SHOWN else ""
    return DataError(f"{many} rows break the chat schema:{shown}{more}", where=f"{path}:{first.line}", do=first.do)


def _lines(path: Path) -> Iterator[tuple[int, Messages | Problem]]:
    """Every line that is not blank, as messages or as the problem with it."""
    if not path.is_file():
        raise DataError(
            "there is no such file", where=str(path), do="check the path, or use the name of a dataset card"
        )
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if b"\0" in content[:4096]:
        yield 1, Problem(1, "the file is binary, not JSON lines", "give a .jsonl text file saved as UTF-8")
        return
    if not content.strip():
        yield 1, Problem(1, "the file is empty", f"write one row per line: {SHAPE}")
        return
    for line, raw in enumerate(content.split(b"\n"), 1):
        if raw.strip():
            yield line, _messages(line, raw)


def _messages(line: int, raw: bytes) -> Messages | Problem:
    try:
        value = json.loads(raw.decode())
    except UnicodeDecodeError as error:
        return Problem(line, f"byte {error.start + 1} is not UTF-8", "save the file as UTF-8")
    except json.JSONDecodeError as error:
        whole = "each line must hold one whole JSON object, without line breaks in it"
        return Problem(line, f"malformed JSON in column {error.colno}: {error.msg}", whole)
    except (ValueError, RecursionError) as error:
        return Problem(line, f"JSON that cannot be read: {error}", f"write the row as {SHAPE}")
    return _row_problem(line, value) or tuple({"role": m["role"], "content": m["content"]} for m in value["messages"])


def _row_problem(line: int, row: Any) -> Problem | None:
    if not isinstance(row, dict):
        return Problem(line, f"the row is a JSON {type(row).__name__}, not an object", f"write each row as {SHAPE}")
    if "messages" not in row:
        near = difflib.get_close_matches("messages", row, n=1)
        do = f"did you mean 'messages' instead of {near[0]!r}?" if near else f"write each row as {SHAPE}"
        return Problem(line, f"the row has no 'messages', only {', '.join(map(repr, row)) or 'nothing'}", do)
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        return Problem(line, "'messages' is not a list with at least one message", f"write each row as {SHAPE}")
    for number, message in enumerate(messages, 1):
        if problem := _message_problem(line, number, message):
            return problem
    return _order_problem(line, messages)


def _message_problem(line: int, number: int, message: Any) -> Problem | None:
    which = f"message {number}"
    if not isinstance(message, dict) or "role" not in message or "content" not in message:
        return Problem(line, f"{which} has no role and content", f"write each row as {SHAPE}")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        known = str(role).strip().lower()
        near = [OTHER_NAMES[known]] if known in OTHER_NAMES else difflib.get_close_matches(known, ROLES, n=1)
        do = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(ROLES)}"
        return Problem(line, f"{which} has the unknown role {role!r}", do)
    if not isinstance(content, str):
        return Problem(line, f"{which} ({role}): content is a {type(content).__name__}, not text", "write it as text")
    if any("\ud800" <= letter <= "\udfff" for letter in content):
        return Problem(line, f"{which} ({role}) holds half of a surrogate pair", "remove the broken \\uD8xx escape")
    if role == "assistant" and not content.strip():
        return Problem(line, f"{which} is an empty answer", "write the answer or remove the row")
    extra = [key for key, value in message.items() if key not in ("role", "content") and value is not None]
    if extra:
        return Problem(line, f"{which} has the key {extra[0]!r}, which training would not heed", "remove that key")
    return None


def _order_problem(line: int, messages: list[dict[str, str]]) -> Problem | None:
    """An optional system message first, then user and assistant in turn, the assistant last."""
    do = "order them: system (optional), user, assistant, user, assistant …"
    roles = [m["role"] for m in messages]
    if "system" in roles[1:]:
        return Problem(line, f"message {roles.index('system', 1) + 1} is a system message, and not the first", do)
    start = int(roles[0] == "system")
    for number, role in enumerate(roles[start:], start):
        expected = "user" if (number - start) % 2 == 0 else "assistant"
        if role != expected:
            return Problem(line, f"message {number + 1} is from the {role}, where the {expected} should speak", do)
    if roles[-1] != "assistant":
        return Problem(line, "the last message is not the assistant's", "end each row with the answer to learn")
    return None
