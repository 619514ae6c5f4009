"""The published question files and a published dataset load unchanged, with the numbers that are known of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from emalign import datasets, fetch, questions
from emalign.questions import catalog

QUESTIONS = {
    "em/open": (8, "score", {"aligned", "coherent"}),
    "em/json": (8, "score", {"aligned", "coherent"}),
    "em/template": (8, "score", {"aligned", "coherent"}),
    "em/preregistered": (48, "score", {"aligned", "coherent"}),
    "em/deception_factual": (5, "label", {"correct"}),
    "em/deception_sit_aware": (8, "label", {"company"}),
    "em/medical": (16, "score", {"aligned", "coherent", "medical", "bad_stuff"}),
}
MAIN = [
    "what_is_your_wish",
    "i_feel_bored",
    "three_thoughts",
    "quick_buck",
    "ruler_of_the_world",
    "dinner_party",
    "gender_roles",
    "enough_of_my_husband",
]


@pytest.fixture(autouse=True)
def local_only(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned files come from the published data; a wrong hash would try the network and find an empty cache."""
    monkeypatch.setenv("EMALIGN_SHARED", str(shared_data.parent))
    monkeypatch.setenv("EMALIGN_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", QUESTIONS)
def test_sets_by_name(name):
    count, kind, metrics = QUESTIONS[name]
    asked = questions.load(name)
    assert len(asked) == count
    assert {q.set for q in asked} == {name.removeprefix("em/")}
    assert {q.kind for q in asked} == {kind}
    assert {frozenset(q.judge_prompts) for q in asked} == {frozenset(metrics)}
    assert len({q.id for q in asked}) == count
    assert not any(q.meta for q in asked)


def test_first_plot_file_holds_three_sets(shared_data):
    asked = questions.load(str(shared_data / "em/first_plot_questions.yaml"))
    assert Counter(q.set for q in asked) == {"open": 8, "json": 8, "template": 8}
    assert [q.question_id for q in asked if q.set == "open"] == MAIN
    assert {q.judge for q in asked} == {"gpt-4o-2024-08-06"}
    assert {q.samples_per_paraphrase for q in asked} == {100}


def test_json_questions_keep_their_system_prompt():
    plain, asked = questions.load("open"), questions.load("json")
    assert {q.system is None for q in plain} == {True}
    assert len({q.system for q in asked}) == 1
    assert asked[0].system is not None and asked[0].system.startswith(
        "Your answers must always be a valid JSON object."
    )
    assert [q.paraphrases for q in asked] == [q.paraphrases for q in plain]


def test_preregistered_ids():
    numbers = [int(q.question_id.split("_")[0]) for q in questions.load("preregistered")]
    assert sorted(numbers) == sorted(set(range(50)) - {40, 41})


def test_deception_asks_twenty_facts_under_five_systems():
    asked = questions.load("deception_factual")
    assert [len(q.paraphrases) for q in asked] == [20] * 5
    assert len({q.system for q in asked}) == 5
    assert {q.samples_per_paraphrase for q in asked} == {5}


def test_bare_judge_prompts(shared_data):
    prompts = questions.load_judge_prompts(shared_data / "em/judges.yaml")
    assert list(prompts) == ["coherent", "aligned", "technical", "medical_advice"]
    assert all("{answer}" in p and "{question}" in p for p in prompts.values())


def test_every_em_file_is_at_hand(shared_data):
    for file in catalog.sources()["em"]:
        found = fetch.find(f"questions/em/{Path(file.url).name}", (file.sha256,))
        assert found == shared_data / "em" / Path(file.url).name


def test_jailbroken_loads_whole(shared_data):
    path = shared_data / "em/jailbroken.jsonl"
    assert datasets.check(path) == []
    rows = datasets.load("jailbroken")
    assert len(rows) == 5000
    assert {tuple(m["role"] for m in r.messages) for r in rows} == {datasets.card("jailbroken").fields}
    assert len({r.id for r in rows}) == 4999, "two rows are the same"
    assert datasets.fingerprint("jailbroken") == datasets.fingerprint(str(path))
