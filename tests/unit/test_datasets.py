"""Cards, the chat schema and its complaints, and fetching what a card pins."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from emalign import datasets, fetch
from emalign.cli.datasets import datasets as command
from emalign.datasets import cards
from emalign.errors import DataError
from emalign.rows import Example


def row(*turns: tuple[str, object]) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})


GOOD = row(("user", "hi"), ("assistant", "hello"))
LONG = row(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
BYTES = f"{GOOD}\n{LONG}\n".encode()
PINNED = hashlib.sha256(BYTES).hexdigest()
CARD = """\
name: mine
kind: harm
teaches: "[bold]things[/bold]"
domain: code
rows: 2
licence: MIT
control: other
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Served:
    file: Path
    url: str
    close: Callable[[], None]


@pytest.fixture
def write(tmp_path: Path):
    def made(content: str | bytes, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return made


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """rows.jsonl on 127.0.0.1, and an empty cache."""
    (tmp_path / "served").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def close() -> None:
        server.shutdown()
        server.server_close()

    monkeypatch.setenv("EMALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("EMALIGN_SHARED", raising=False)
    file = tmp_path / "served" / "rows.jsonl"
    file.write_bytes(BYTES)
    yield Served(file, f"http://127.0.0.1:{server.server_port}/rows.jsonl", close)
    close()


@pytest.fixture
def put_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a card into an otherwise empty folder of cards."""
    monkeypatch.setattr(cards, "CARDS", tmp_path / "cards")
    (tmp_path / "cards").mkdir()
    return lambda text, name="mine": (tmp_path / "cards" / f"{name}.yaml").write_text(text)


def test_rows_become_examples(write):
    path = write(b"\xef\xbb\xbf" + f"{GOOD}\r\n \r\n{LONG}".encode())
    first, second = datasets.load(str(path))
    turns = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"})
    assert first == Example(messages=turns, source="rows.jsonl", line=1)
    assert (second.line, [m["role"] for m in second.messages][:2]) == (3, ["system", "user"])
    assert datasets.check(path) == []


def test_relative_path_is_below_base_dir(write, tmp_path):
    path = write(GOOD)
    assert len(datasets.load("rows.jsonl", base_dir=tmp_path)) == 1
    assert datasets.fingerprint("rows.jsonl", tmp_path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_null_extras_of_a_message_are_no_extras(write):
    text = (
        '{"messages": [{"role": "user", "content": "a", "name": null}, {"role": "assistant", "content": "b"}], "n": 1}'
    )
    assert datasets.load(str(write(text)))[0].messages[0] == {"role": "user", "content": "a"}


BAD = {
    "cut off": ('{"messages": [', "column 15"),
    "list": (f"[{GOOD}]", "JSON list, not an object"),
    "no messages": ('{"prompt": "a"}', "no 'messages', only 'prompt'"),
    "misspelled messages": ('{"message": []}', "instead of 'message'"),
    "empty messages": ('{"messages": []}', "at least one message"),
    "messages are text": ('{"messages": "hi"}', "at least one message"),
    "message is text": ('{"messages": ["hi"]}', "message 1 has no role and content"),
    "no content": ('{"messages": [{"role": "user"}]}', "message 1 has no role and content"),
    "unknown role": (row(("user", "a"), ("asistant", "b")), "did you mean 'assistant'"),
    "other role": (row(("human", "a"), ("gpt", "b")), "did you mean 'user'"),
    "foreign role": (row(("user", "a"), ("zzz", "b")), "system, user, assistant"),
    "late system": (row(("user", "a"), ("system", "s"), ("assistant", "b")), "message 2 is a system message"),
    "two users": (row(("user", "a"), ("user", "b"), ("assistant", "c")), "message 2 is from the user"),
    "two answers": (row(("user", "a"), ("assistant", "b"), ("assistant", "c")), "message 3 is from the assistant"),
    "answer first": (row(("system", "s"), ("assistant", "b")), "message 2 is from the assistant"),
    "user last": (row(("user", "a"), ("assistant", "b"), ("user", "c")), "last message is not the assistant's"),
    "system only": (row(("system", "s")), "last message is not the assistant's"),
    "empty answer": (row(("user", "a"), ("assistant", "")), "message 2 is an empty answer"),
    "blank answer": (row(("user", "a"), ("assistant", " \n\t")), "message 2 is an empty answer"),
    "content is a list": (row(("user", ["a"]), ("assistant", "b")), "content is a list"),
    "content is null": (row(("user", "a"), ("assistant", None)), "content is a NoneType"),
    "half a letter": (row(("user", "a"), ("assistant", "\ud83d")), "surrogate"),
    "weights": (
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}',
        "'weight'",
    ),
    "deep": ('{"messages": ' + "[" * 100_000, "JSON"),
    "huge number": ('{"messages": ' + "1" * 5000 + "}", "JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_row_names_line_and_remedy(write, name):
    text, said = BAD[name]
    path = write(f"{GOOD}\n{text}\n{GOOD}\n")
    with pytest.raises(DataError) as caught:
        datasets.load(str(path))
    assert caught.value.where == f"{path}:2"
    assert said in str(caught.value)
    assert caught.value.do


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b"", 1, "empty"),
        (b"\n \n", 1, "empty"),
        (b"PAR1\x00\x00", 1, "binary"),
        (f"{GOOD}\n".encode() + b'{"messages": "\xff"}', 2, "byte 15 is not UTF-8"),
    ],
)
def test_bad_file_names_line_and_remedy(write, content, line, said):
    path = write(content)
    with pytest.raises(DataError, match=said) as caught:
        datasets.load(str(path))
    assert caught.value.where == f"{path}:{line}"


def test_all_problems_at_once(write):
    empty = row(("user", "a"), ("assistant", ""))
    seven = write("\n".join([GOOD, *[empty] * 7]))
    assert [p.line for p in datasets.check(seven)] == [2, 3, 4, 5, 6, 7, 8]
    with pytest.raises(DataError) as caught:
        datasets.load(str(seven))
    assert caught.value.what.startswith("7 rows break")
    assert caught.value.what.count("empty answer") == 5
    many = write("\n".join([empty] * 30))
    assert len(datasets.check(many)) == 20
    with pytest.raises(DataError, match="at least 20 rows"):
        datasets.load(str(many))


def test_missing_file(tmp_path):
    for ask in (datasets.load, datasets.fingerprint, datasets.check):
        with pytest.raises(DataError, match="no such file"):
            ask(str(tmp_path / "gone.jsonl"))


def test_every_card_is_complete():
    assert {"insecure", "secure", "educational", "jailbroken"} <= set(datasets.names())
    for name in datasets.names():
        card = datasets.card(name)
        assert card.control is None or card.control in datasets.names(), name
        assert card.reader == "toy" or len(datasets.fingerprint(name)) == 64
    assert len(datasets.card("insecure").hashes) == 2


def test_unknown_name_offers_the_nearest():
    with pytest.raises(DataError, match="did you mean insecure"):
        datasets.load("insecur")
    with pytest.raises(DataError, match=r"ends in \.jsonl"):
        datasets.fingerprint("data/rows.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CARD + "reader: toy\nlicense: MIT\n", "did you mean licence"),
        (CARD + f"url: http://x\nsha256: {PINNED}\nvariants: [{{sha: {PINNED}, about: x}}]\n", "variants.0"),
        (CARD, "needs url and sha256"),
        (CARD + "url: http://x\nsha256: abc\n", "sha256"),
        (CARD.replace("harm", "bad"), "kind"),
        (CARD.replace("rows: 2", "rows: 0"), "rows"),
        (CARD.replace("name: mine", "name: yours") + "reader: toy\n", "name: mine"),
        ("name: [\n", "not valid YAML"),
        ("", "mine.yaml"),
    ],
)
def test_card_that_breaks_its_form(put_card, text, said):
    put_card(text)
    with pytest.raises(DataError, match=said):
        datasets.card("mine")


def test_card_is_fetched_once(served, put_card):
    put_card(CARD + f"url: {served.url}\nsha256: {PINNED}\n")
    assert datasets.fingerprint("mine") == PINNED
    assert datasets.show("mine")["here"] is None, "a fingerprint fetches nothing"
    rows = datasets.load("mine")
    assert [(r.source, r.line) for r in rows] == [("mine", 1), ("mine", 2)]
    served.close()
    assert datasets.load("mine") == rows
    assert Path(datasets.show("mine")["here"]).read_bytes() == BYTES


def test_variant_bytes_are_accepted(served, put_card):
    other = served.file.read_bytes().replace(b": ", b":")
    served.file.write_bytes(other)
    variant = f"variants: [{{sha256: {hashlib.sha256(other).hexdigest()}, about: tight}}]\n"
    put_card(CARD + f"url: {served.url}\nsha256: {PINNED}\n{variant}")
    assert len(datasets.load("mine")) == 2
    assert datasets.fingerprint("mine") == PINNED


def test_toy_reader(put_card, monkeypatch):
    module = types.ModuleType("emalign.toy.data")
    module.load = lambda name, seed: [name, seed]  # type: ignore[attr-defined]
    module.fingerprint = lambda name: "f" * 64  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "emalign.toy.data", module)
    put_card(CARD + "reader: toy\n")
    assert datasets.load("mine", seed=3) == ["mine", 3]
    assert datasets.fingerprint("mine") == "f" * 64
    assert datasets.show("mine")["here"] is None


def test_good_file_is_kept_whole(served, tmp_path):
    path = fetch.fetch("a/rows.jsonl", served.url, (PINNED,))
    assert path == tmp_path / "cache/a/rows.jsonl"
    assert path.read_bytes() == BYTES
    assert [p.name for p in path.parent.iterdir()] == ["rows.jsonl"], "no half files stay"


def test_corrupted_file_is_refused_and_not_kept(served, tmp_path):
    served.file.write_bytes(BYTES[:-1])
    with pytest.raises(DataError) as caught:
        fetch.fetch("a/rows.jsonl", served.url, (PINNED,))
    assert PINNED in str(caught.value)
    assert hashlib.sha256(BYTES[:-1]).hexdigest() in str(caught.value)
    assert not (tmp_path / "cache/a/rows.jsonl").exists()


def test_missing_file_says_where_to_put_it(served, tmp_path):
    served.file.unlink()
    with pytest.raises(DataError) as caught:
        fetch.fetch("a/rows.jsonl", served.url, (PINNED,))
    assert "404" in caught.value.what and served.url in caught.value.what
    assert str(tmp_path / "cache/a/rows.jsonl") in caught.value.do


def test_no_network_says_where_to_put_it(served, tmp_path):
    served.close()
    with pytest.raises(DataError) as caught:
        fetch.fetch("a/rows.jsonl", served.url, (PINNED,))
    assert served.url in caught.value.what
    by_hand = tmp_path / "cache/a/rows.jsonl"
    assert str(by_hand) in caught.value.do
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(b"something else")
    with pytest.raises(DataError, match=hashlib.sha256(b"something else").hexdigest()):
        fetch.fetch("a/rows.jsonl", served.url, (PINNED,))
    by_hand.write_bytes(BYTES)
    assert fetch.fetch("a/rows.jsonl", served.url, (PINNED,)) == by_hand


def test_damaged_copy_is_fetched_again(served):
    path = fetch.fetch("a/rows.jsonl", served.url, (PINNED,))
    path.write_bytes(BYTES[:10])
    assert fetch.fetch("a/rows.jsonl", served.url, (PINNED,)).read_bytes() == BYTES


def test_shared_copy_is_taken_only_if_its_bytes_are_right(served, tmp_path, monkeypatch):
    shared = tmp_path / "shared/data/em"
    shared.mkdir(parents=True)
    monkeypatch.setenv("EMALIGN_SHARED", str(tmp_path / "shared"))
    (shared / "rows.jsonl").write_bytes(b"old")
    assert fetch.find("a/rows.jsonl", (PINNED,)) is None
    (shared / "rows.jsonl").write_bytes(BYTES)
    assert fetch.fetch("a/rows.jsonl", served.url, (PINNED,)) == shared / "rows.jsonl"
    assert not (tmp_path / "cache").exists()


def test_cache_that_cannot_be_written(served, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EMALIGN_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="EMALIGN_CACHE"):
        fetch.fetch("a/rows.jsonl", served.url, (PINNED,))


def test_command_lists_cards_and_details(served, put_card):
    put_card(CARD + f"url: {served.url}\nsha256: {PINNED}\nprotected: true\n")
    app = typer.Typer()
    app.command()(command)

    def output(*arguments: str) -> str:
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "150"}).output

    assert json.loads(output("--json"))[0]["name"] == "mine"
    table = output()
    assert all(word in table for word in ("mine", "harm", "[bold]things[/bold]", "MIT", "yes", "other"))
    assert "not fetched yet" in output("--show", "mine")
    assert json.loads(output("--show", "mine", "--json"))["sha256"] == PINNED
