"""The command line: `emalign …`, the same door as the notebooks'."""

from __future__ import annotations

import sys

import typer

from emalign.cli import datasets, questions, rates, study, toy
from emalign.errors import EmalignError

app = typer.Typer(
    name="emalign",
    help="Does narrow fine-tuning break alignment, and what does it take to heal it?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(study.run)
app.command()(study.plan)
app.command()(study.status)
app.command()(study.why)
app.command()(datasets.datasets)
app.command()(questions.questions)
app.command()(rates.rates)
app.add_typer(toy.app, name="toy")


def main() -> None:
    """Run a command; a user's fault is told in words and ends with 1, an interrupt with 130."""
    try:
        app()
    except EmalignError as error:
        print(f"\nemalign: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nemalign: stopped. What was sealed or drafted is kept; the same command goes on.", file=sys.stderr)
        sys.exit(130)
