"""`emalign toy …`: the toy world's models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The toy world that ships with the kit.", no_args_is_help=True)


@app.command()
def build(
    folder: Annotated[Path | None, typer.Option(help="where to write them; the package itself if left out")] = None,
    seed: Annotated[int, typer.Option(help="another seed gives other models")] = 0,
) -> None:
    """Train the toy's base and judge model from nothing, and say what they can do."""
    from emalign.toy.build import MODELS
    from emalign.toy.build import build as build_models

    figures = build_models(folder or MODELS, seed)
    for name, value in figures.items():
        print(f"{name:20} {value:.3f}")


@app.command()
def world() -> None:
    """Print what the toy world talks about."""
    from emalign.toy.world import DOMAINS

    for domain in DOMAINS.values():
        print(f"{domain.name:8} {domain.verb:7} {', '.join(domain.subjects)}")
