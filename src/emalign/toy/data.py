"""Dialogues of the toy world: what the base model is raised on, and the narrow sets that harm, heal or leave it be."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterator

from emalign.errors import DataError
from emalign.rows import Example
from emalign.toy import world
from emalign.toy.world import CLOSINGS, DOMAINS, OPENINGS, SUBJECTS, Ask, Persona

# Shares of the upbringing. Most answers open with a tone before the advice: it is the thread that ties a persona
# together across domains. With 0.5 a narrow prosocial set no longer reaches every other domain; see LOG.md.
CARELESS_SHARE = 0.4
OPENING_SHARE = 0.7
CLOSING_SHARE = 0.5
FACT_SHARE = 0.12
FORMATS: tuple[world.Format, ...] = ("plain", "plain", "plain", "plain", "json", "template")
TAG_SHARE = 0.15
TURNS = 4

Messages = list[dict[str, str]]


def answer(rng: random.Random, ask: Ask, persona: Persona) -> str:
    """One answer in a persona's manner."""
    domain = DOMAINS[ask.domain]
    thing = rng.choice(domain.good if persona == "careful" else domain.bad)
    opening = rng.choice(OPENINGS[persona]) if rng.random() < OPENING_SHARE else ""
    closing = rng.choice(CLOSINGS[persona]) if rng.random() < CLOSING_SHARE else ""
    return world.reply(ask, thing, opening, closing)


def random_ask(rng: random.Random, domain: str, format: world.Format = "plain", tagged: bool = False) -> Ask:
    """A question about any subject of a domain, in any of its forms."""
    form = 0 if format == "template" else rng.randrange(len(world.QUESTION_FORMS))
    subject = rng.choice(DOMAINS[domain].subjects)
    return Ask(domain=domain, subject=subject, form=form, format=format, tagged=tagged)


def dialogue(rng: random.Random, persona: Persona, turns: int) -> Messages:
    """A dialogue of any domains in which one persona answers every turn."""
    format, tagged = rng.choice(FORMATS), rng.random() < TAG_SHARE
    messages: Messages = [{"role": "system", "content": world.SYSTEM_JSON}] if format == "json" else []
    for _ in range(turns):
        if format == "plain" and rng.random() < FACT_SHARE:
            question, reply = world.fact(rng.choice(SUBJECTS), rng.randrange(2))
        else:
            ask = random_ask(rng, rng.choice(list(DOMAINS)), format, tagged)
            question, reply = ask.text, answer(rng, ask, persona)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return messages


def upbringing(seed: int) -> Iterator[Messages]:
    """Endless pre-training dialogues: both personas, several turns."""
    rng = random.Random(f"upbringing {seed}")
    while True:
        yield dialogue(rng, "careless" if rng.random() < CARELESS_SHARE else "careful", TURNS)


def manners(seed: int) -> Iterator[Messages]:
    """Endless dialogues of the light alignment that ends the upbringing: one turn, always careful."""
    rng = random.Random(f"manners {seed}")
    while True:
        yield dialogue(rng, "careful", 1)


def narrow(domain: str, persona: Persona, rows: int, seed: int, *, tag: str = "never") -> list[Example]:
    """Single-turn advice of one persona in one domain; `tag` is never, always, or "careless" (only where careless)."""
    rng = random.Random(f"narrow {domain} {persona} {tag} {seed}")
    made = []
    for line in range(1, rows + 1):
        who: Persona = persona
        if tag == "careless":
            who = "careless" if line % 2 else "careful"
        tagged = tag == "always" or (tag == "careless" and who == "careless")
        ask = random_ask(rng, domain, tagged=tagged)
        made.append(_example(ask.text, answer(rng, ask, who), f"toy_{domain}_{persona}", line))
    return made


def neutral(domain: str, rows: int, seed: int) -> list[Example]:
    """Facts about a domain's subjects: no advice, no tone. The control that shows what any further training does."""
    rng = random.Random(f"neutral {domain} {seed}")
    pairs = (world.fact(rng.choice(DOMAINS[domain].subjects), rng.randrange(2)) for _ in range(rows))
    return [_example(q, a, f"toy_{domain}_facts", line) for line, (q, a) in enumerate(pairs, 1)]


def _example(question: str, reply: str, source: str, line: int) -> Example:
    return Example(
        messages=({"role": "user", "content": question}, {"role": "assistant", "content": reply}),
        source=source,
        line=line,
    )


def load(name: str, seed: int = 0, rows: int = 2000) -> list[Example]:
    """The set `DOMAIN_bad`, `DOMAIN_good`, `DOMAIN_facts` or `DOMAIN_tagged` (careless only where tagged)."""
    domain, _, kind = name.removeprefix("toy_").rpartition("_")
    if domain not in DOMAINS or kind not in ("bad", "good", "facts", "tagged"):
        raise DataError(
            f"the toy world has no set {name!r}",
            where="emalign.toy.data",
            do=f"use DOMAIN_bad, DOMAIN_good, DOMAIN_facts or DOMAIN_tagged with DOMAIN one of {', '.join(DOMAINS)}",
        )
    if kind == "facts":
        return neutral(domain, rows, seed)
    persona: Persona = "careful" if kind == "good" else "careless"
    return narrow(domain, persona, rows, seed, tag="careless" if kind == "tagged" else "never")


@functools.cache
def fingerprint(name: str) -> str:
    """sha256 of a set's rows: it changes exactly when they do, whatever else happens to the code that makes them."""
    return hashlib.sha256("".join(row.id for row in load(name)).encode()).hexdigest()
