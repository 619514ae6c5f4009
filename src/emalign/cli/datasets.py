"""`emalign datasets`: which training sets there are, and what is known about one of them."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emalign import datasets as catalog

SHOW = "The name of a set: print all that is known about it."
HEADINGS = ("name", "kind", "teaches", "rows", "licence", "protected", "control")


def datasets(
    show: Annotated[str | None, typer.Option(help=SHOW)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the training sets, or the details of one."""
    found = catalog.show(show) if show else [catalog.card(name).model_dump(mode="json") for name in catalog.names()]
    if json:
        print(jsonlib.dumps(found, ensure_ascii=False))
    elif isinstance(found, dict):
        Console().print(_details(found))
    else:
        Console().print(_cards(found))


def _cards(cards: list[dict]) -> Table:
    table = Table(title="datasets", caption="emalign datasets --show NAME tells the rest")
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=heading in ("name", "rows"), justify="right" if heading == "rows" else "left")
    for card in cards:
        values = {**card, "rows": f"{card['rows']:,}", "protected": "yes" if card["protected"] else "no"}
        table.add_row(*(Text(values[heading] or "-") for heading in HEADINGS))
    return table


def _details(details: dict) -> Table:
    table = Table(title=Text(details["name"]), show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("value", overflow="fold")
    for key, value in details.items():
        table.add_row(key, Text(_in_words(key, value)))
    return table


def _in_words(key: str, value: object) -> str:
    if key == "here":
        return str(value) if value else "not fetched yet"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "\n".join(f"{v['sha256']} ({v['about']})" for v in value) if key == "variants" else ", ".join(value)
    return str(value)
