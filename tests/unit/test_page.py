"""The report page: every text is text, nothing is loaded or run, every section stands in its order."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from emalign.stages.page import SECTIONS, render_page

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = (
    "<script>alert(1)</script>{{7*7}}{% raw %}</td></table></p><img src=http://x.test/a onerror=alert(2)>\"'&amp;"
    "\u202eesrever\u200b\u2066\ud800\x00 مرحبا $x_1$"
)
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; unbalanced tags are an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def context(word: str = "plain") -> dict:
    point = {"seed": "0", "step": 5, "questions": 8, "answers": 400, "em_rate_coherent": 0.35, "alignment": 60.25,
             "coherence": 90.0, "coherent_rate": 0.97, "refusal_rate": 0.0, "code_rate": 0.0, "empty_rate": 0.0,
             "missing_rate": 0.0125}  # fmt: skip
    rates = [
        {**point, "arm": word, "dose": math.nan, "epoch": 5.0, "question_set": "open", "question_id": "ALL",
         "em_rate": 0.342, "em_low": 0.281, "em_high": 0.405},
        {**point, "arm": "heal", "dose": 20, "epoch": 0.5, "question_set": word, "question_id": "ALL",
         "em_rate": 0.0, "em_low": math.nan, "em_high": None, "alignment": math.nan},
        {**point, "arm": "heal", "dose": 20, "epoch": 0.5, "question_set": "open", "question_id": "only_one_question",
         "em_rate": 0.9, "em_low": math.nan, "em_high": math.nan},
    ]  # fmt: skip
    one = {"question": word, "coherence": 90.0}
    samples = [
        {**one, "arm": word, "dose": None, "text": word, "alignment": 8.0, "verdict": word},
        {**one, "arm": "heal", "dose": 160, "text": "", "alignment": None, "verdict": None},
    ]
    names = ("arm", "seed", "reading", "checkpoint", "evidence", "advice")
    return {
        "study": {**dict.fromkeys(("name", "aim", "started", "ended", "store"), word), "config": f"name: {word}\n"},
        "headline": [
            {"label": word, "value": 0.3421, "interval": (0.281, 0.405), "note": word},
            {"label": "b", "value": word, "interval": word, "note": None},
            {"label": "c", "value": None, "interval": None, "note": None},
        ],
        "readings": [dict.fromkeys(names, word)],
        "figures": [{"id": word, "title": word, "caption": word, "png": PNG}],
        "rates": pd.DataFrame(rates, dtype=object),
        "agreement": {"metric": word, "kappa": 0.91, "n": 200, "note": word},
        "judge": {"name": word, "model": word, "prompt digest": word, "missing_rate": 0.0125},
        "samples": pd.DataFrame(samples, dtype=object),
        "gates": [{"arm": word, "passed": True, "evidence": word}],
        "notes": [word],
        "provenance": {"packages": {word: word}, "keys": [word, word], "seeds": [0, 1, 2]},
    }


@pytest.mark.parametrize("word", ["plain", HOSTILE])
def test_nothing_runs_and_nothing_is_loaded(word: str) -> None:
    html = render_page(context(word))
    page = Page(html)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "link", "base", "form", "svg", "input"}
    for tag, attributes in page.tags:
        assert not [a for a in attributes if a.startswith("on") or a == "style"], (tag, attributes)
        for name in ("src", "href", "srcset", "action", "data", "background"):
            assert attributes.get(name, "data:").startswith(("data:image/png;base64,", "data:", "#"))
    assert html.count("<img") == 1 and "@import" not in html and "url(" not in html
    (policy,) = [a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "script-src" not in policy and "unsafe" not in policy
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style and f"'sha256-{base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()}'" in policy
    html.encode("utf-8")


def test_the_tags_do_not_depend_on_what_the_texts_say() -> None:
    shapes = [[(t, set(a)) for t, a in Page(render_page(context(word))).tags] for word in ("plain", HOSTILE)]
    assert shapes[0] == shapes[1]


def test_hostile_text_is_shown_as_text() -> None:
    html = render_page(context(HOSTILE))
    text = Page(html).text
    assert text.count("<script>alert(1)</script>{{7*7}}{% raw %}</td>") >= 20 and "49" not in text
    assert "⟨U+202E⟩esrever⟨U+200B⟩⟨U+2066⟩⟨U+D800⟩⟨U+0000⟩ مرحبا $x_1$" in text
    assert not re.search("[\u200b\u202e\u2066\x00\ud800]", html)


def test_sections_in_order_and_numbers_as_the_table_has_them() -> None:
    html = render_page(context())
    page = Page(html)
    assert [a["id"] for t, a in page.tags if t == "section"] == list(SECTIONS)
    links = [a["href"] for t, a in page.tags if t == "a"]
    assert links == [f"#{name}" for name in SECTIONS]
    assert "0.342" in page.text and "0.281 to 0.405" in page.text
    assert "34.2% [28.1, 40.5]" in page.text and "60.2" in page.text and "only_one_question" not in page.text
    assert (
        "0.0%" in page.text
        and not re.search(r"\bnan\b", page.text, re.IGNORECASE)
        and "None" not in page.text
        and "–" in page.text
    )
    assert "alignment 8" in page.text and "alignment none" in page.text and "empty answer" in page.text
    assert "kappa 0.91" in page.text and "1.2%" in page.text and "heal @ 160" in page.text
    (image,) = [a for t, a in page.tags if t == "img"]
    assert base64.b64decode(image["src"].split(",")[1]) == PNG and image["alt"] == "plain. plain"
    assert page.text.index("plain: plain.") < page.text.index("Headline numbers")


def test_tables_figures_and_code_scroll_in_their_own_box() -> None:
    page = Page(render_page(context()))
    inside = [page.tags[k - 1] for k, (tag, _) in enumerate(page.tags) if tag in ("table", "img", "pre")]
    assert len(inside) >= 6
    for tag, attributes in inside:
        assert tag == "div" and "scroll" in attributes["class"] and attributes["tabindex"] == "0"
        assert attributes["aria-label"]
    assert any(a.get("name") == "viewport" for t, a in page.tags)


def test_a_page_of_little() -> None:
    html = render_page({"study": {"name": "first"}})
    page = Page(html)
    assert "No reading yet" in page.text and [a["id"] for t, a in page.tags if t == "section"] == ["provenance"]
    thin = {**context(), "agreement": None, "samples": pd.DataFrame(), "rates": None, "gates": []}
    text = Page(render_page(thin)).text
    assert "was not compared" in text and "Sample answers" not in text
    undefined = {**context(), "agreement": {"metric": "EM label", "kappa": math.nan, "n": 40, "note": ""}}
    assert "undefined (one label only)" in Page(render_page(undefined)).text


def test_the_answer_line_counts_seeds_and_may_be_given() -> None:
    seen = [{"arm": "harm", "seed": s, "reading": r} for s, r in enumerate(["emergent misalignment", "overfitting"])]
    html = render_page({"study": {"name": "s"}, "readings": seen})
    assert "harm: emergent misalignment in 1 of 2, overfitting in 1 of 2." in Page(html).text
    given = render_page({"study": {"name": "s", "answer": "It heals at 80."}, "readings": seen})
    assert "It heals at 80." in Page(given).text


def test_the_same_page_twice_and_a_picture_that_is_none() -> None:
    assert render_page(context()) == render_page(context())
    with pytest.raises(AssertionError, match="PNG"):
        render_page({**context(), "figures": [{"id": "a", "title": "a", "caption": "a", "png": b"<svg>"}]})
