"""Dataset cards: one YAML file per source, saying what it teaches, where it is and on what terms."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from emalign.errors import DataError

CARDS = Path(__file__).parent / "cards"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Variant(BaseModel):
    """Other bytes with the same rows, for example another escaping of the same JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Sha256
    about: str


class Card(BaseModel):
    """One source of training dialogues.

    `kind` is what the set is for, `teaches` what a model learns from it, `control` the card to compare it with.
    `sha256` pins the bytes behind `url`. Rows of a `protected` set may not leave the machine. `reader` is the format:
    chat, or toy for sets that are made and not fetched.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["harm", "prosocial", "neutral", "control"]
    teaches: str
    domain: str
    rows: int = Field(gt=0)
    licence: str
    control: str | None = None
    terms: str | None = None
    protected: bool = False
    reader: Literal["chat", "toy"] = "chat"
    fields: tuple[str, ...] = ("user", "assistant")
    about: str | None = None
    url: str | None = None
    sha256: Sha256 | None = None
    variants: tuple[Variant, ...] = ()

    @model_validator(mode="after")
    def _pinned(self) -> Card:
        if self.reader != "toy" and not (self.url and self.sha256):
            raise ValueError("a card whose rows are fetched needs url and sha256")
        return self

    @property
    def hashes(self) -> tuple[str, ...]:
        """Every sha256 that holds these rows, the pinned one first."""
        return (*([self.sha256] if self.sha256 else []), *(v.sha256 for v in self.variants))

    @property
    def place(self) -> str:
        """Where a fetched copy is kept, below the cache folder."""
        assert self.url is not None
        return f"datasets/{self.name}/{self.url.rsplit('/', 1)[-1]}"


def names() -> list[str]:
    """Names of all cards, without reading any."""
    return sorted(path.stem for path in CARDS.glob("*.yaml"))


def card(name: str) -> Card:
    """The card of a dataset. Raises DataError for an unknown name (with the nearest) or a card that breaks its form."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=2)
        known = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names())}."
        raise DataError(
            f"there is no dataset {name!r}", where="datasets", do=f"{known} A file of your own ends in .jsonl"
        )
    path = CARDS / f"{name}.yaml"
    try:
        found = Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise DataError(f"the card is not valid YAML: {error}", where=str(path), do="fix the YAML there") from error
    except ValidationError as error:
        raise _card_error(path, error) from error
    if found.name != name:
        raise DataError(f"the card calls itself {found.name!r}", where=str(path), do=f"write 'name: {name}'")
    return found


def _card_error(path: Path, error: ValidationError) -> DataError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        what = f"{key}: {first['msg']}" if key else first["msg"]
        return DataError(f"the card is not complete: {what}", where=str(path), do="correct that key")
    options = Variant.model_fields if "." in key else Card.model_fields
    near = difflib.get_close_matches(key.rsplit(".", 1)[-1], options, n=1)
    do = f"did you mean {near[0]}?" if near else f"a card has: {', '.join(options)}"
    return DataError(f"the card has an unknown key {key!r}", where=str(path), do=do)
