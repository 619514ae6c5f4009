"""A stage does what is owed, seals each step alone, and leaves nothing claimed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import emalign.stages.data  # noqa: F401  (registers the real stage before a fake one takes its place)
from emalign import stage as stages
from emalign.config import Study
from emalign.errors import BusyError, StageFailed
from emalign.rows import Event
from emalign.stage import Stage, Step, Work, execute, identity
from emalign.store import Claim
from emalign.store.local import LocalStore

ROWS = 4


@dataclass
class Fake:
    """A stage that drafts ROWS events per step and seals them; `fault` is called before a step is sealed."""

    fault: Callable[[Work], None] = lambda work: None
    seen: list[str] = field(default_factory=list)
    made: list[int] = field(default_factory=list)
    inputs: list[Mapping[str, Any]] = field(default_factory=list)

    def __call__(self, works: Sequence[Work]) -> None:
        for work in works:
            self.seen.append(work.step.label)
            self.inputs.append(work.inputs)
            kept = {row.step for row in work.out.rows(Event)}
            for number in range(ROWS):
                if number not in kept:
                    work.out.add([Event(step=number, epoch=0.0, values={})])
                    self.made.append(number)
            self.fault(work)
            work.seal(rows={"rows.jsonl": work.out.rows(Event)}, facts={"rows": ROWS}, tokens=7)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(stages._REGISTERED, "data", Stage("data", made, (), 1))
    return made


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path, "study")


STUDY = Study(name="study")  # type: ignore[call-arg]


def step(label: str, inputs: Mapping[str, tuple[tuple[str, str], ...]] | None = None) -> Step:
    config = {"what": label}
    key = identity("data", config, inputs or {})
    return Step(stage="data", key=key, arm=label, seed=3, dose=None, label=label, config=config, inputs=inputs or {})


def fail(label: str, error: BaseException) -> Callable[[Work], None]:
    def fault(work: Work) -> None:
        if work.step.label == label:
            raise error

    return fault


def claims(store: LocalStore) -> list[str]:
    return [path.name for path in (store.root / "claims").glob("*.json")]


def test_owed_steps_are_done_and_returned(fake: Fake, store: LocalStore) -> None:
    steps = [step("a"), step("b")]
    assert execute("data", steps, STUDY, store) == steps
    sealed = store.sealed(*steps[1].place)
    assert sealed is not None
    assert len(sealed.rows(Event)) == ROWS


def test_sealed_steps_are_skipped(fake: Fake, store: LocalStore) -> None:
    execute("data", [step("a")], STUDY, store)
    assert [s.label for s in execute("data", [step("a"), step("b")], STUDY, store)] == ["b"]
    assert fake.seen == ["a", "b"]


def test_nothing_owed_starts_nothing(fake: Fake, store: LocalStore) -> None:
    execute("data", [step("a")], STUDY, store)
    assert execute("data", [step("a")], STUDY, store) == []
    assert fake.seen == ["a"]


def test_drafted_rows_are_resumed(fake: Fake, store: LocalStore) -> None:
    store.draft(*step("a").place).add([Event(step=n, epoch=0.0, values={}) for n in (0, 2)])
    execute("data", [step("a")], STUDY, store)
    assert fake.made == [1, 3]


def test_what_was_sealed_before_a_fault_stays_sealed(fake: Fake, store: LocalStore) -> None:
    fake.fault = fail("b", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        execute("data", [step("a"), step("b")], STUDY, store)
    assert store.sealed(*step("a").place) is not None
    assert store.sealed(*step("b").place) is None
    fake.fault = lambda work: None
    assert [s.label for s in execute("data", [step("a"), step("b")], STUDY, store)] == ["b"]
    assert len(fake.made) == 2 * ROWS


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()])
def test_a_fault_releases_all_claims(fake: Fake, store: LocalStore, error: BaseException) -> None:
    during: list[str] = []

    def fault(work: Work) -> None:
        during.extend(claims(store))
        raise error

    fake.fault = fault
    with pytest.raises(type(error)):
        execute("data", [step("a"), step("b")], STUDY, store)
    assert len(during) == 2
    assert claims(store) == []


def test_claims_are_released_when_all_is_done(fake: Fake, store: LocalStore) -> None:
    execute("data", [step("a")], STUDY, store)
    assert claims(store) == []


def test_a_claimed_step_stops_before_anything_is_done(fake: Fake, store: LocalStore) -> None:
    held = store.claim(step("b").key)
    with pytest.raises(BusyError):
        execute("data", [step("a"), step("b")], STUDY, store)
    assert fake.seen == []
    assert claims(store) == [f"{step('b').key}.json"]
    held.release()


def test_a_step_that_another_process_seals_before_the_claim_is_not_done_again(
    fake: Fake, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = store.claim

    def late(key: str) -> Claim:
        monkeypatch.setattr(store, "claim", claim)
        execute("data", [step("a")], STUDY, store)
        return claim(key)

    monkeypatch.setattr(store, "claim", late)
    assert [s.label for s in execute("data", [step("a"), step("b")], STUDY, store)] == ["b"]
    assert fake.seen == ["a", "b"]


def test_a_stage_that_leaves_a_step_unsealed_fails(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def lazy(works: Sequence[Work]) -> None:
        works[0].seal()

    monkeypatch.setitem(stages._REGISTERED, "data", Stage("data", lazy, (), 1))
    with pytest.raises(StageFailed, match="without finishing b") as caught:
        execute("data", [step("a"), step("b")], STUDY, store)
    assert "same command" in caught.value.do
    assert claims(store) == []


def test_a_stage_sees_its_sealed_inputs(fake: Fake, store: LocalStore) -> None:
    execute("data", [step("a")], STUDY, store)
    execute("data", [step("b", {"parent": (step("a").place,)})], STUDY, store)
    assert [sealed.manifest.name for sealed in fake.inputs[-1]["parent"]] == ["a"]


def test_a_step_before_its_input_is_our_fault(fake: Fake, store: LocalStore) -> None:
    with pytest.raises(AssertionError, match="before its parent was sealed"):
        execute("data", [step("b", {"parent": (step("a").place,)})], STUDY, store)
    assert claims(store) == []


def test_manifest_says_what_made_the_artifact(fake: Fake, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "git_revision", lambda: "abc123")
    monkeypatch.setattr(stages, "device", lambda: "some GPU")
    execute("data", [step("a")], STUDY, store)
    one = step("b", {"parent": (step("a").place,)})
    execute("data", [one], STUDY, store)
    sealed = store.sealed(*one.place)
    assert sealed is not None
    found = sealed.manifest
    assert (found.stage, found.version, found.key, found.name) == ("data", 1, one.key, "b")
    assert (found.config, found.inputs) == ({"what": "b"}, {"parent": [step("a").key]})
    assert (found.git, found.device, found.seeds, found.tokens) == ("abc123", "some GPU", [3], 7)
    assert {"emalign", "numpy", "pandas", "huggingface_hub"} <= set(found.versions)
    assert found.facts == {"rows": ROWS}
    assert found.started <= found.ended
    content = (sealed.path / "rows.jsonl").read_bytes()
    assert found.files["rows.jsonl"].sha256 == hashlib.sha256(content).hexdigest()
    assert found.files["rows.jsonl"].size == len(content)


def test_device_and_git_are_read_without_torch() -> None:
    assert stages.device()
    assert stages.git_revision() is None or len(stages.git_revision() or "") == 40


INPUTS = {"train": (("train", "k1"),), "gate": (("gate", "g1"), ("gate", "g2"))}


def test_key_ignores_the_order_of_keys() -> None:
    turned = dict(reversed(INPUTS.items()))
    assert identity("data", {"a": 1, "b": 2}, INPUTS) == identity("data", {"b": 2, "a": 1}, turned)


@pytest.mark.parametrize(
    ("config", "inputs"),
    [
        ({"a": 1, "b": 3}, INPUTS),
        ({"a": 1}, INPUTS),
        ({"a": 1, "b": 2}, {**INPUTS, "train": (("train", "k2"),)}),
        ({"a": 1, "b": 2}, {"train": INPUTS["train"]}),
        ({"a": 1, "b": 2}, {"other": INPUTS["train"], "gate": INPUTS["gate"]}),
        ({"a": 1, "b": 2}, {**INPUTS, "gate": INPUTS["gate"][::-1]}),
    ],
)
def test_key_changes_with_the_config_and_with_what_it_builds_on(config: dict[str, int], inputs: Any) -> None:
    assert identity("data", config, inputs) != identity("data", {"a": 1, "b": 2}, INPUTS)


def test_key_changes_with_the_stage_and_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity("data", {}, {})
    assert identity("gate", {}, {}) != before
    monkeypatch.setitem(stages._REGISTERED, "data", Stage("data", lambda works: None, (), 99))
    assert identity("data", {}, {}) != before


def test_a_stage_registers_under_a_known_name_only() -> None:
    with pytest.raises(AssertionError, match="is not one of"):
        stages.stage("dat", version=1)
