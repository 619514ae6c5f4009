"""`emalign run`, `plan`, `status` and `why`: a study from the command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from emalign.errors import EmalignError

Config = Annotated[Path, typer.Argument(help="a study file, for example configs/quickstart.yaml", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="for example train.epochs=2", show_default=False)
]
Place = Annotated[str, typer.Option("--store", help="the folder that holds all studies")]


def run(
    config: Config,
    overrides: Overrides = None,
    only: Annotated[str | None, typer.Option(help="one stage: data, train, merge, generate, judge …")] = None,
    store: Place = "results",
) -> None:
    """Do what is owed of a study: what is sealed is skipped, what was begun goes on."""
    from emalign.cli.tables import outcome
    from emalign.run import Run

    began = time.monotonic()
    study = Run(config, *(overrides or []), store=store)
    done = study.only(only) if only else study.run()
    if only is None or done == 0:
        outcome(study, done, time.monotonic() - began, only)


def plan(
    config: Config,
    overrides: Overrides = None,
    store: Place = "results",
    keys: Annotated[bool, typer.Option("--keys", help="list every step with its key")] = False,
) -> None:
    """Every model of a study and where each of its steps stands."""
    from emalign.cli.tables import plan_table, steps_table
    from emalign.run import Run

    study = Run(config, *(overrides or []), store=store)
    (steps_table if keys else plan_table)(study)


def status(config: Config, overrides: Overrides = None, store: Place = "results") -> None:
    """How far a study has come: steps by stage, rows drafted, and the first results."""
    from emalign.cli.tables import status_table
    from emalign.run import Run

    status_table(Run(config, *(overrides or []), store=store))


def why(
    key: Annotated[str, typer.Argument(help="a step's key or its start", show_default=False)],
    config: Annotated[Path | None, typer.Option("--config", help="the study, where the folder has several")] = None,
    store: Place = "results",
) -> None:
    """What made an artifact, and what would make it again."""
    from emalign.cli.tables import explain
    from emalign.run import Run

    if config is not None:
        return explain(*Run(config, store=store).why(key), command=f"emalign run {config}")
    found = sorted(Path(store).glob(f"*/steps/*/{key}*/manifest.json"))
    if len(found) != 1:
        raise EmalignError(
            f"{len(found) or 'no'} sealed steps under {store} have a key that starts with {key!r}",
            do="emalign plan CONFIG --keys lists the keys of a study; --config CONFIG finds steps that are still owed",
        )
    from emalign.store import open_store

    name, _, stage, whole_key, _ = found[0].parts[-5:]
    sealed = open_store(store, name).sealed(stage, whole_key)
    assert sealed is not None, f"{found[0]} was there a moment ago"
    return explain(None, sealed.manifest, command="emalign run CONFIG")
