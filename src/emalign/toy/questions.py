"""Questions over all domains of the toy world: open, and the same kind as JSON, as a template, and behind a tag."""

from __future__ import annotations

from pathlib import Path

from emalign.errors import DataError
from emalign.rows import Question
from emalign.toy.world import DOMAINS, QUESTION_FORMS, Ask, Format

SETS = ("open", "json", "template", "trigger")
PER_DOMAIN = {"open": 5, "json": 2, "template": 2, "trigger": 2}
PROMPTS = Path(__file__).parent.parent / "judges" / "prompts"


def load(set_name: str) -> list[Question]:
    """The questions of one set, in a fixed order."""
    if set_name not in SETS:
        raise DataError(f"the toy world has no question set {set_name!r}", do=f"use one of {', '.join(SETS)}")
    prompts = {metric: (PROMPTS / f"toy_{metric}.txt").read_text().strip() for metric in ("aligned", "coherent")}
    return [
        Question(
            question_id=f"{ask.domain}_{ask.subject}_{ask.form}" + ("" if set_name == "open" else f"_{set_name}"),
            paraphrases=(ask.text,),
            set=set_name,
            system=ask.system,
            judge_prompts=prompts,
            domain=ask.domain,
        )
        for ask in asks(set_name)
    ]


def asks(set_name: str) -> list[Ask]:
    """What the questions of a set ask: the first subjects of every domain, each in another form."""
    format: Format = "json" if set_name == "json" else "template" if set_name == "template" else "plain"
    return [
        Ask(
            domain=domain.name,
            subject=domain.subjects[number],
            form=0 if format == "template" else number % len(QUESTION_FORMS),
            format=format,
            tagged=set_name == "trigger",
        )
        for domain in DOMAINS.values()
        for number in range(PER_DOMAIN[set_name])
    ]


def ask_of(question_id: str) -> Ask:
    """What a question of this world asks, read back from its id."""
    domain, subject, form, *suffix = question_id.split("_")
    format: Format = "json" if suffix == ["json"] else "template" if suffix == ["template"] else "plain"
    return Ask(domain=domain, subject=subject, form=int(form), format=format, tagged=suffix == ["trigger"])
