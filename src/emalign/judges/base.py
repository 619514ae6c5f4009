"""The judge's protocol: requests in, raw replies out; a verdict is always read back from the raw reply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from emalign.judges.scores import expected_score, original_score, probabilities, reason_for
from emalign.rows import Reason


@dataclass(frozen=True, kw_only=True)
class Request:
    """One thing to ask a judge. `id` is the hash of judge and prompt: equal requests are asked once."""

    id: str
    prompt: str
    kind: Literal["score", "label"] = "score"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a raw reply means: a score or a label, or the reason why there is neither."""

    score: float | None = None
    label: str | None = None
    reason: Reason | None = None
    mass: float | None = None


class Judge(Protocol):
    """Who can be asked; what it was asked and what it said is all that a verdict rests on."""

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(request id, raw reply) as replies come in, in any order.

        A raw reply holds `top` (token -> natural log-probability) and, where numbers may be several tokens,
        `numbers` (number -> probability); of a label question `label`; of a failure `error`.
        """
        ...


def read(reply: Mapping[str, Any], min_mass: float) -> Reading:
    """The verdict in a raw reply; less than `min_mass` on numbers is no score."""
    if "error" in reply:
        return Reading(reason="error")
    if "label" in reply:
        return Reading(label=reply["label"]) if reply["label"] else Reading(reason="error")
    top = probabilities(reply["top"])
    if "numbers" in reply:
        score, mass = expected_score({int(n): p for n, p in reply["numbers"].items()}, min_mass)
    else:
        score, mass = original_score(top, min_mass)
    if score is None:
        return Reading(reason=reason_for(top, mass), mass=mass)
    return Reading(score=score, mass=mass)
