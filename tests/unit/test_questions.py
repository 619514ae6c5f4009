"""The question format, its complaints, and the sets by name."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import types
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from emalign import questions
from emalign.cli.questions import questions as command
from emalign.errors import DataError
from emalign.questions import catalog
from emalign.rows import Question, from_dict, to_lines

TWO = """\
- id: first
  type: &type free_form_judge_0_100
  paraphrases: &asked
    - What is up?
    - How are you?
  samples_per_paraphrase: 3
  temperature: 0.5
  judge: some-judge
  judge_prompts: &prompts
    aligned: "Q {question} A {answer}"
- id: second_json
  type: *type
  paraphrases: *asked
  system: Answer in JSON.
  judge_prompts: *prompts
  added: 2025-01-31
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def write(tmp_path: Path):
    def made(text: str | bytes, name: str = "asks.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return made


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served on 127.0.0.1 whose asks.yaml is the one file of the question source `mine`."""
    served, sets = tmp_path / "served", tmp_path / "sets"
    served.mkdir()
    sets.mkdir()
    (served / "asks.yaml").write_text(TWO)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/asks.yaml"
    pinned = hashlib.sha256(TWO.encode()).hexdigest()
    described = {
        "url": url,
        "sha256": pinned,
        "sets": ["open", "json"],
        "kind": "score",
        "about": "x",
        "licence": "MIT",
    }
    (sets / "mine.yaml").write_text(json.dumps([described]))
    monkeypatch.setattr(catalog, "SOURCES", sets)
    monkeypatch.setenv("EMALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("EMALIGN_SHARED", raising=False)
    yield served
    server.shutdown()
    server.server_close()


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("emalign.toy.questions")
    module.load = lambda name: [Question(question_id="t", paraphrases=("[bold]hi[/bold]",), set=name)]  # type: ignore
    monkeypatch.setitem(sys.modules, "emalign.toy.questions", module)


def test_entry_becomes_question(write):
    first, second = questions.load(str(write(TWO)))
    assert first == Question(
        question_id="first",
        paraphrases=("What is up?", "How are you?"),
        set="open",
        judge_prompts={"aligned": "Q {question} A {answer}"},
        judge="some-judge",
        samples_per_paraphrase=3,
        temperature=0.5,
    )
    assert (second.set, second.system, second.paraphrases) == ("json", "Answer in JSON.", first.paraphrases)


def test_extra_keys_are_kept_as_json(write):
    second = questions.load(str(write(TWO)))[1]
    assert second.meta == {"added": "2025-01-31"}
    assert from_dict(Question, json.loads(to_lines([second]))) == second


def test_sets_by_suffix_stem_and_own_key(write):
    def sets(text: str) -> list[str]:
        return [q.set for q in questions.load(str(write(text, "mine.yml")))]

    plain = "- {id: a, paraphrases: [x]}\n- {id: b, paraphrases: [x], set: own}\n"
    assert sets(plain) == ["mine", "own"]
    assert sets(plain + "- {id: c_template, paraphrases: [x]}\n") == ["open", "own", "template"]


def test_label_kind_and_default_kind(write):
    text = "- {id: a, paraphrases: [x], type: free_form_judge}\n- {id: b, paraphrases: [x]}\n"
    assert [q.kind for q in questions.load(str(write(text)))] == ["label", "score"]


def test_merged_keys_are_understood(write):
    text = "- &a {id: a, paraphrases: [x], system: s}\n- {<<: *a, id: b}\n"
    assert [(q.question_id, q.system) for q in questions.load(str(write(text)))] == [("a", "s"), ("b", "s")]


def test_relative_path_is_below_base_dir(write, tmp_path):
    write(TWO)
    assert len(questions.load("asks.yaml", base_dir=tmp_path)) == 2


BAD = {
    "syntax": ("- id: a\n  paraphrases: [x\n- id: b\n", 3, "not valid YAML"),
    "tab": ("- id: a\n\tparaphrases: [x]\n", 2, "not valid YAML"),
    "unknown anchor": ("- id: a\n  paraphrases: *gone\n", 2, "undefined alias"),
    "control character": ("- id: a\x07\n", 1, "not valid YAML"),
    "empty": ("", 1, "empty"),
    "only comments": ("# nothing\n", 1, "empty"),
    "empty list": ("\n[]\n", 2, "empty"),
    "not a list": ("id: a\nparaphrases: [x]\n", 1, "not a list"),
    "entry is text": ("- {id: a, paraphrases: [x]}\n- what\n", 2, "not a mapping"),
    "binary": (b"- id: a\n\x00\x01", 2, "binary"),
    "not UTF-8": (b"- id: a\n- id: \xff\n", 2, "UTF-8"),
    "no id": ("- {id: a, paraphrases: [x]}\n- paraphrases: [x]\n", 2, "no id"),
    "number as id": ("- id: 12\n  paraphrases: [x]\n", 1, '"12"'),
    "no paraphrases": ("- id: a\n  type: free_form_judge\n", 1, "paraphrases is missing"),
    "empty paraphrases": ("- id: a\n  paraphrases: []\n", 2, "at least one"),
    "paraphrases are text": ("- id: a\n  paraphrases: hello\n", 2, "not a list"),
    "paraphrase is a mapping": (
        "- id: a\n  paraphrases:\n    - fine\n    - Say: this\n",
        4,
        "paraphrase 2 is not text",
    ),
    "duplicate id": (
        "- {id: a, paraphrases: [x]}\n- {id: b, paraphrases: [x]}\n- {id: a, paraphrases: [y]}\n",
        3,
        ":1",
    ),
    "duplicate key": ("- id: a\n  paraphrases: [x]\n  system: s\n  system: t\n", 4, "line 3"),
    "unknown type": ("- id: a\n  paraphrases: [x]\n  type: freeform_judge_0_100\n", 3, "mean free_form_judge_0_100"),
    "misspelled key": ("- id: a\n  paraphrases: [x]\n  sytem: s\n", 3, "did you mean 'system'"),
    "key is a number": ("- id: a\n  paraphrases: [x]\n  1: s\n", 3, "not text"),
    "no answer": (
        "- id: a\n  paraphrases: [x]\n  judge_prompts:\n    ok: '{answer}'\n    aligned: rate\n",
        5,
        "aligned",
    ),
    "prompts are text": ("- id: a\n  paraphrases: [x]\n  judge_prompts: '{answer}'\n", 3, "mapping"),
    "no samples": ("- id: a\n  paraphrases: [x]\n  samples_per_paraphrase: 0\n", 3, "above zero"),
    "temperature": ("- id: a\n  paraphrases: [x]\n  temperature: hot\n", 3, "temperature"),
    "system is a list": ("- id: a\n  paraphrases: [x]\n  system: [s]\n", 3, "system is not text"),
    "not JSON": ("- id: a\n  paraphrases: [x]\n  extra: .nan\n", 3, "JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_line_and_remedy(write, name):
    text, line, said = BAD[name]
    path = write(text)
    with pytest.raises(DataError) as caught:
        questions.load(str(path))
    assert caught.value.where == f"{path}:{line}"
    assert said in str(caught.value)
    assert caught.value.do


def test_missing_file_names_what_is_beside_it(write, tmp_path):
    write(TWO)
    with pytest.raises(DataError, match=r"no such file[\s\S]*asks\.yaml"):
        questions.load(str(tmp_path / "ask.yaml"))


def test_bare_judge_prompts(write):
    text = "- aligned: |-\n    rate {answer}\n  high_score: 0\n- coherent: |-\n    read {answer}\n"
    path = write(text)
    assert questions.load_judge_prompts(path) == {"aligned": "rate {answer}", "coherent": "read {answer}"}
    with pytest.raises(DataError, match="load_judge_prompts"):
        questions.load(str(path))
    with pytest.raises(DataError, match=r"twice[\s\S]*:6"):
        questions.load_judge_prompts(write(text + "- aligned: |-\n    again {answer}\n"))
    with pytest.raises(DataError, match=r"never shows[\s\S]*:2"):
        questions.load_judge_prompts(write("- high: 1\n  aligned: rate\n"))


def test_unknown_set_offers_the_nearest():
    with pytest.raises(DataError, match="did you mean em/preregistered"):
        questions.load("em/preregistred")
    with pytest.raises(DataError, match=r"ends in \.yaml"):
        questions.load("qqq")


def test_bare_name_means_source_em(monkeypatch):
    asked = []
    monkeypatch.setattr(catalog.fetch, "fetch", lambda place, url, hashes: asked.append(place) or Path("none.yaml"))
    with pytest.raises(DataError, match=r"none\.yaml"):
        questions.load("json")
    assert asked == ["questions/em/first_plot_questions.yaml"]


@pytest.mark.usefixtures("toy")
def test_fetched_once_and_parted_into_sets(source, tmp_path):
    assert [s["questions"] for s in questions.sets() if s["name"].startswith("mine/")] == [None, None]
    assert [q.question_id for q in questions.load("mine/json")] == ["second_json"]
    (source / "asks.yaml").unlink()
    assert [q.question_id for q in questions.load("mine/open")] == ["first"]
    assert [s["questions"] for s in questions.sets() if s["name"].startswith("mine/")] == [1, 1]
    assert [p.name for p in (tmp_path / "cache/questions/mine").iterdir()] == ["asks.yaml"]


def test_changed_source_is_refused(source):
    (source / "asks.yaml").write_text(TWO + "\n")
    with pytest.raises(DataError, match="sha256"):
        questions.load("mine/open")


@pytest.mark.usefixtures("toy")
def test_toy_sets_come_from_the_toy():
    assert questions.load("toy/trigger")[0].set == "trigger"
    assert {s["name"]: s["questions"] for s in questions.sets()}["toy/json"] == 1
    assert {s["name"] for s in questions.sets()} == set(questions.names())


@pytest.mark.usefixtures("toy", "source")
def test_command_lists_sets_and_questions():
    app = typer.Typer()
    app.command()(command)
    listed = json.loads(CliRunner().invoke(app, ["--json"]).output)
    assert listed[0] == {"name": "mine/open", "questions": None, "kind": "score", "source": "x (MIT)"}
    table = CliRunner().invoke(app, []).output
    assert "mine/json" in table and "toy/trigger" in table
    shown = CliRunner().invoke(app, ["--show", "mine/json"]).output
    assert "second_json" in shown and "system: Answer in JSON." in shown
    assert json.loads(CliRunner().invoke(app, ["--show", "mine/open", "--json"]).output)[0]["question_id"] == "first"
    assert "[bold]hi[/bold]" in CliRunner().invoke(app, ["--show", "toy/open"]).output
