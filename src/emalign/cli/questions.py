"""`emalign questions`: which sets there are, and what one of them asks."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emalign import questions as catalog
from emalign.rows import Question

SHOW = "A set such as em/open, or a .yaml file: print its questions."


def questions(
    show: Annotated[str | None, typer.Option(help=SHOW)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the question sets, or the questions of one."""
    if show is None:
        listed = catalog.sets()
        print(jsonlib.dumps(listed)) if json else Console().print(_sets(listed))
        return
    asked = catalog.load(show)
    if json:
        print(jsonlib.dumps([q.to_dict() for q in asked], ensure_ascii=False))
    else:
        Console().print(_asked(show, asked))


def _sets(listed: list[dict]) -> Table:
    table = Table(title="question sets", caption="a dash: fetched on first use")
    for heading in ("name", "questions", "kind", "source"):
        table.add_column(heading, no_wrap=heading == "name", justify="right" if heading == "questions" else "left")
    for held in listed:
        count = "-" if held["questions"] is None else str(held["questions"])
        table.add_row(held["name"], count, held["kind"], Text(held["source"]))
    return table


def _asked(show: str, asked: list[Question]) -> Table:
    """One row per question; what all of them have in common is said once, in the title."""
    rows = [_in_short(q) for q in asked]
    common = {key: value for key, value in rows[0].items() if all(row[key] == value for row in rows[1:])}
    columns = [key for key in rows[0] if key not in common or key in ("id", "asks")]
    said = "".join(f"\n{key}: {value}" for key, value in common.items() if key not in columns and value != "-")
    # Text, because questions hold square brackets that rich would read as markup.
    table = Table(title=Text(f"{show}: {len(asked)} questions{said}", justify="left"), show_lines=True)
    for key in columns:
        table.add_column(key, overflow="fold", ratio=2 if key in ("asks", "system") else 1)
    for row in rows:
        table.add_row(*(Text(row[key]) for key in columns))
    return table


def _in_short(question: Question) -> dict[str, str]:
    samples = question.samples_per_paraphrase
    return {
        "id": question.question_id,
        "set": question.set,
        "kind": question.kind,
        "judged on": ", ".join(question.judge_prompts) or "-",
        "paraphrases": str(len(question.paraphrases)),
        "samples of each": "-" if samples is None else str(samples),
        "system": question.system or "-",
        "asks": question.paraphrases[0],
    }
