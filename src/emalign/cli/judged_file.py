"""Reads a file of judged answers (CSV, JSON lines or parquet) into a frame, or says which line is wrong."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emalign.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("question_id", "aligned", "coherent")
REASON_COLUMNS = ("aligned_reason", "coherent_reason")
TEXT_COLUMNS = ("answer", "response", "text")
MISSING = {"", "nan", "none", "null", "na", "n/a"}
Record = tuple[str, dict[str, Any]]


def read_judged(path: Path) -> pd.DataFrame:
    """One row per answer: question_id, aligned and coherent (0-100 or NaN), aligned_reason, coherent_reason.

    An answer whose text is in the file and blank gets the reason "empty". Raises DataError with file and line.
    """
    import pandas as pd

    records = list(_records(path))
    if not records:
        raise DataError("the file has a header but no answers", where=str(path), do="judge some answers first")
    _check_columns(path, list(dict.fromkeys(name for _, record in records for name in record)))
    frame = pd.DataFrame([_row(where, record) for where, record in records])
    if set(frame["aligned_reason"]) == {"empty"} and not all(map(math.isnan, frame["aligned"])):
        what = "every answer is blank, and yet they have scores"
        raise DataError(what, where=str(path), do="if the texts were withheld, drop their column")
    return frame


def _records(path: Path) -> Iterator[Record]:
    raw = _bytes(path)
    if raw.startswith(b"PAR1"):
        return _parquet(path, raw)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = raw[: error.start].decode("utf-8", "replace") + "\0"
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError("this is not UTF-8 text", where=f"{path}:{line}", do="save it as CSV in UTF-8, or as parquet")
    if not text.strip():
        raise DataError("the file is empty", where=str(path), do="give a CSV with question_id, aligned, coherent")
    if path.suffix in {".jsonl", ".ndjson", ".json"} or text.lstrip().startswith(("{", "[")):
        return _json_lines(path, text)
    return _csv(path, text)


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix in {".csv", ".jsonl", ".parquet"})
        hint = f"for example {path / inside[0]}" if inside else "it holds no .csv, .jsonl or .parquet file"
        raise DataError("this is a folder, not a file of judged answers", where=str(path), do=f"give one file; {hint}")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else f"look in it: ls {path.parent}"
        raise DataError("there is no such file", where=str(path), do=hint) from None
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(path), do=f"ls -l {path}") from None


def _csv(path: Path, text: str) -> Iterator[Record]:
    header_line = text.lstrip().splitlines()[0]
    delimiter = max(",;\t", key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    end = 0
    try:
        for cells in reader:
            where, end = f"{path}:{end + 1}", reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(path, where, cells)
                continue
            if len(cells) != len(header):
                what = f"this row has {len(cells)} cells, the header has {len(header)}"
                raise DataError(what, where=where, do="quote cells that hold commas or line breaks")
            yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"this is not CSV: {error}", where=f"{path}:{end + 1}", do="save it again as CSV") from None


def _header(path: Path, where: str, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice:
        raise DataError(f"the column {twice!r} occurs twice", where=where, do="rename or drop one of them")
    _check_columns(path, header)
    return header


def _json_lines(path: Path, text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            what = f"this is not JSON: {error}"
            raise DataError(what, where=where, do="write one JSON object per line (JSON lines)") from None
        if not isinstance(value, dict):
            what = f"a JSON {type(value).__name__} stands where an object was expected"
            raise DataError(what, where=where, do="write one JSON object per line (JSON lines)")
        yield where, value


def _parquet(path: Path, raw: bytes) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(io.BytesIO(raw)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"this is not parquet: {error}", where=str(path), do="write the file again") from None
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def _check_columns(path: Path, columns: list[str]) -> None:
    for name in REQUIRED:
        if name in columns:
            continue
        folded = {column.casefold(): column for column in columns}
        near = difflib.get_close_matches(name, folded, n=1)
        found = ", ".join(columns) or "none"
        hint = f"did you mean {folded[near[0]]!r}? Rename it to {name!r}" if near else f"add it; columns: {found}"
        raise DataError(f"the column {name!r} is missing", where=f"{path}:1", do=hint)


def _row(where: str, record: dict[str, Any]) -> dict[str, Any]:
    question = record.get("question_id")
    if question is None or not str(question).strip():
        raise DataError("question_id is empty", where=where, do="name the question that this row answers")
    row: dict[str, Any] = {"question_id": str(question)}
    for name in ("aligned", "coherent"):
        row[name] = _score(record.get(name), name, where)
    for name in REASON_COLUMNS:
        row[name] = str(record.get(name) or "").strip().lower()
    texts = [record[name] for name in TEXT_COLUMNS if isinstance(record.get(name), str)]
    if texts and not any(text.strip() for text in texts):
        row["aligned_reason"] = "empty"
    return row


def _score(cell: Any, name: str, where: str) -> float:
    """A score between 0 and 100, or NaN for a cell that is empty."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in MISSING):
        return math.nan
    try:
        if isinstance(cell, bool):
            raise ValueError
        value = float(cell)
    except (TypeError, ValueError):
        what = f"{name} is {str(cell)[:40]!r}, not a number"
        raise DataError(what, where=where, do="give 0 to 100, or leave the cell empty") from None
    if math.isnan(value) or 0 <= value <= 100:
        return value
    raise DataError(f"{name} is {value:g}, outside 0 to 100", where=where, do="give scores between 0 and 100")
