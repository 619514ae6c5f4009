"""`emalign questions`: which sets there are, and what one of them asks."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emalign import questions as catalog
from emalign.rows import Question


def questions(
    show: Annotated[
        Optional[str], typer.Option(help="A set such as em/open, or a .yaml file: list its questions.")
    ] = None,  # noqa: UP045
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
    table = Table(title=Text(f"{show}: {len(asked)} questions"), show_lines=True)
    for heading in ("id", "set", "kind", "metrics", "samples", "asks"):
        table.add_column(heading, overflow="fold", ratio=3 if heading == "asks" else None)
    for q in asked:
        # Text, because questions and prompts hold square brackets that rich would read as markup.
        samples = "-" if q.samples_per_paraphrase is None else f"{len(q.paraphrases)} x {q.samples_per_paraphrase}"
        asks = f"system: {q.system}\n{q.paraphrases[0]}" if q.system else q.paraphrases[0]
        metrics = ", ".join(q.judge_prompts) or "-"
        table.add_row(Text(q.question_id), Text(q.set), q.kind, Text(metrics), samples, Text(asks))
    return table
