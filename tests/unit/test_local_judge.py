"""The digit tree of the local judge against brute force, for tokenizers that write numbers in different ways."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from emalign.engines.base import Ask, Completion, NextToken
from emalign.judges.base import Reading, Request, read
from emalign.judges.local import PRUNE, Local, digit_tokens

DIGITS = [str(n) for n in range(10)]
WORDS = ["a", "b", "c", "▁", "▁a", "REF", "USAL", "CODE", ":", "x1", "1x", "-1", "½", "²", "٣"]
WAYS: dict[str, list[str]] = {
    "one digit per token": DIGITS,
    "numbers as single tokens": [str(n) for n in range(1000)],
    "mixed, with leading spaces": [
        *DIGITS, "00", "05", "10", "11", "50", "99", "100", "101", "555", "007",
        "▁0", "▁1", "▁7", "▁9", "▁10", "▁42", "▁100", "▁0",
    ],
}  # fmt: skip
PROMPTS = ["a", "b a", "c:", "a b c:", "7 a", "10"]
NUMBERS = {str(n) for n in range(101)}


def tokenizer_of(pieces: Sequence[str], *, first_space: bool = True) -> Any:
    """A tokenizer of these pieces; without `first_space` a space that begins a text is lost when it is decoded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = list(dict.fromkeys(["<pad>", "<end>", *WORDS, *pieces]))
    made = Tokenizer(models.Unigram([(piece, -1.0) for piece in vocab], unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    made.decoder = decoders.Metaspace(prepend_scheme="never" if first_space else "always")
    fast = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = "{% for m in messages %}{{ m['content'] + '<end>' }}{% endfor %}"
    return fast


def sharpen(model: Any, tokens: Any, seed: int) -> None:
    """Random weights that differ enough for some numbers to be likely and others not."""
    import torch

    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() == 2:
                weights.copy_(torch.randn(weights.shape, generator=noise) * 0.25)
        # Rows of numbers are longer, so that a fair share of the mass is theirs.
        for token in digit_tokens(tokens)[0]:
            model.lm_head.weight[token] *= 2.5


@pytest.fixture(scope="module", params=WAYS)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from emalign.engines.transformers import Transformers

    tokens = tokenizer_of(WAYS[request.param])
    config = LlamaConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    sharpen(model, tokens, 7)
    folder: Path = tmp_path_factory.mktemp("judge")
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    loaded = Transformers(model=str(folder), dtype="float64", batch=32)
    assert loaded.tokenizer.get_vocab() == tokens.get_vocab(), "the model type swapped the tokenizer"
    return loaded


def continuations(engine: Any, ids: list[int]) -> list[float]:
    """Probabilities of every token after `ids`, by a plain forward pass."""
    import torch

    with torch.inference_mode():
        logits = engine.model(torch.tensor([ids])).logits[0, -1]
    return torch.softmax(logits.double(), -1).tolist()


def may_grow(spelled: str) -> bool:
    """Whether another digit could make a number up to 100; nothing follows a leading zero."""
    return any(spelled + digit in NUMBERS for digit in DIGITS)


def brute_force(engine: Any, prompt: str) -> dict[int, float]:
    """Probability of every number: all its spellings, each followed by something that is no longer number."""
    tokens, vocab = engine.tokenizer, engine.tokenizer.get_vocab()
    inner = {i: piece for piece, i in vocab.items() if piece.isascii() and piece.isdigit() and len(piece) <= 3}
    outer = inner | {i: p[1:] for p, i in vocab.items() if p[0] == "▁" and p[1:].isascii() and p[1:].isdigit()}
    text = tokens.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False)
    found: dict[int, float] = {}

    def spell(ids: list[int], spelled: str, p: float, choices: dict[int, str]) -> None:
        following = continuations(engine, ids) if not spelled or may_grow(spelled) else []
        ends = p
        for token, digits in choices.items():
            longer = spelled + digits
            if following and len(longer) <= 3 and int(longer) <= 100:
                ends -= p * following[token]
                spell([*ids, token], longer, p * following[token], inner)
        if spelled:
            found[int(spelled)] = found.get(int(spelled), 0.0) + ends

    spell(tokens(text, add_special_tokens=False)["input_ids"], "", 1.0, outer)
    return found


def asked(judge: Local, prompts: Sequence[str]) -> dict[str, dict[str, Any]]:
    return dict(judge.ask([Request(id=p, prompt=p) for p in prompts]))


@pytest.mark.stack
def test_the_tree_equals_brute_force(engine: Any) -> None:
    judge = Local(engine=engine, prune=0.0)
    replies = asked(judge, PROMPTS)
    grown = 0.0
    for prompt in PROMPTS:
        wanted = brute_force(engine, prompt)
        numbers = {int(n): p for n, p in replies[prompt]["numbers"].items()}
        for number in range(101):
            assert numbers.get(number, 0.0) == pytest.approx(wanted.get(number, 0.0), abs=1e-6), (prompt, number)
        assert set(numbers) <= set(range(101))
        mass = sum(numbers.values())
        assert 0.05 < mass <= 1 + 1e-6
        grown += sum(numbers.get(n, 0.0) for n in range(10, 101))
        expected = sum(n * p for n, p in wanted.items()) / sum(wanted.values())
        assert read(replies[prompt], 0.0).score == pytest.approx(expected, abs=1e-4)
        assert read(replies[prompt], 0.0).mass == pytest.approx(mass)
    assert grown > 0.01, "no number of several digits was ever likely: the test tests nothing"


@pytest.mark.stack
def test_pruning_hardly_moves_a_score(engine: Any) -> None:
    whole, pruned = asked(Local(engine=engine, prune=0.0), PROMPTS), asked(Local(engine=engine), PROMPTS)
    for prompt in PROMPTS:
        one, other = read(whole[prompt], 0.0), read(pruned[prompt], 0.0)
        assert one.score is not None and other.score is not None and one.mass is not None
        assert abs(one.score - other.score) < 0.05
        assert other.mass == pytest.approx(one.mass, abs=1e-9)


@pytest.mark.stack
def test_requests_do_not_depend_on_each_other(engine: Any) -> None:
    together = asked(Local(engine=engine), PROMPTS)
    assert list(together) == PROMPTS
    for chunk in (1, 2):
        apart = asked(Local(engine=engine, chunk=chunk), PROMPTS)
        for prompt in PROMPTS:
            assert apart[prompt]["numbers"] == pytest.approx(together[prompt]["numbers"], abs=1e-9)
            assert apart[prompt]["top"] == pytest.approx(together[prompt]["top"], abs=1e-9)


@pytest.mark.stack
def test_low_mass_is_no_score(engine: Any) -> None:
    reply = asked(Local(engine=engine), PROMPTS[:1])[PROMPTS[0]]
    mass = sum(reply["numbers"].values())
    assert read(reply, mass - 1e-9).score is not None
    low = read(reply, min(mass + 1e-6, 1.0) if mass < 1 else 2.0)
    assert low.score is None and low.reason == "low_mass" and low.mass == pytest.approx(mass)


class Scripted:
    """An engine that says what it is told: `following` maps the digits so far to next-token probabilities."""

    def __init__(self, following: dict[str, dict[str, float]], answers: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer_of(WAYS["mixed, with leading spaces"])
        self.following, self.answers, self.asks = following, answers, list[Ask]()

    def served(self) -> dict[str, Any]:
        return {"engine": "scripted"}

    def answer(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Completion]]:
        self.asks += asks
        for index in reversed(range(len(asks))):
            yield index, Completion(text=self.answers[index], finish="stop", tokens=1)

    def score(self, texts: Sequence[Sequence[int]], tokens: Sequence[int]) -> list[NextToken]:
        found = []
        start = len(self.tokenizer("Rate.<end>", add_special_tokens=False)["input_ids"])
        for text in texts:
            so_far = "".join(self.tokenizer.convert_ids_to_tokens(list(text[start:])))
            p = self.following.get(so_far, {})
            pieces = dict(zip(tokens, self.tokenizer.convert_ids_to_tokens(list(tokens)), strict=True))
            top = {piece.replace("▁", " "): math.log(q) for piece, q in p.items()}
            found.append(NextToken(of={t: math.log(p.get(s, 1e-30)) for t, s in pieces.items()}, top=top))
        return found

    def close(self) -> None:
        """Nothing to let go of."""


def verdict(following: dict[str, dict[str, float]], min_mass: float = 0.25, **options: Any) -> Reading:
    judge = Local(engine=Scripted(following), **options)
    return read(asked(judge, ["Rate."])["Rate."], min_mass)


@pytest.mark.stack
def test_by_hand() -> None:
    """9 ends or becomes 90; 1 becomes 10 and that 100; what follows 90 does not matter; 555 is no number here."""
    following = {
        "": {"9": 0.4, "1": 0.3, "▁42": 0.1, "555": 0.1, "a": 0.1},
        "9": {"0": 0.5, "a": 0.5},
        "1": {"0": 0.8, "a": 0.2},
        "10": {"0": 0.25, "a": 0.75},
        "▁42": {"0": 0.9},
    }
    wanted = {9: 0.2, 90: 0.2, 1: 0.06, 10: 0.18, 100: 0.06, 42: 0.1}
    found = verdict(following)
    assert found.mass == pytest.approx(0.8)
    assert found.score == pytest.approx(sum(n * p for n, p in wanted.items()) / 0.8)


@pytest.mark.stack
@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ({"a": 0.9, "7": 0.1}, "low_mass"),
        ({"REF": 0.8, "7": 0.1}, "refusal"),
        ({"CODE": 0.8, "▁7": 0.1}, "code"),
        ({"555": 0.9}, "low_mass"),
        ({"101": 0.9}, "low_mass"),
        ({"²": 0.5, "٣": 0.4}, "low_mass"),
    ],
)
def test_why_there_is_no_score(first: dict[str, float], reason: str) -> None:
    found = verdict({"": first})
    assert found.score is None and found.reason == reason
    if "555" in first or "101" in first or "²" in first:
        assert found.mass == pytest.approx(0, abs=1e-9)


@pytest.mark.stack
def test_small_branches_count_whole_where_they_are_cut() -> None:
    following = {"": {"1": PRUNE / 2, "50": 0.9}, "1": {"0": 1.0}, "10": {"0": 1.0}}
    for prune, number in ((PRUNE, 1), (PRUNE / 4, 100)):
        judge = Local(engine=Scripted(following), prune=prune)
        numbers = asked(judge, ["Rate."])["Rate."]["numbers"]
        assert {int(n): p for n, p in numbers.items() if p > 1e-9} == pytest.approx({number: PRUNE / 2, 50: 0.9})


@pytest.mark.stack
def test_labels_are_one_word() -> None:
    said = ["TRUE", " false.", "Unknown, I think", "", '"True"', "**FALSE**"]
    wanted = ["TRUE", "FALSE", "UNKNOWN", None, "TRUE", "FALSE"]
    engine = Scripted({"": {"50": 0.9}}, answers=said)
    requests = [Request(id=str(i), prompt=f"Is it {i}?", kind="label") for i in range(len(said))]
    replies = dict(Local(engine=engine).ask([*requests, Request(id="score", prompt="Rate.")]))
    for request, label in zip(requests, wanted, strict=True):
        found = read(replies[request.id], 0.25)
        assert (found.label, found.reason) == (label, None if label else "error")
        assert found.score is None
    assert read(replies["score"], 0.25).score == pytest.approx(50)
    assert all(ask.temperature == 0 and ask.prompt.startswith("Is it") for ask in engine.asks)


@pytest.mark.stack
@pytest.mark.parametrize("first_space", [True, False])
def test_which_tokens_are_digits(first_space: bool) -> None:
    tokens = tokenizer_of(WAYS["mixed, with leading spaces"], first_space=first_space)
    first, later = digit_tokens(tokens)
    ids = tokens.get_vocab()
    assert tokens.decode([ids["▁7"]]) == (" 7" if first_space else "7")
    inner = {*DIGITS, "00", "05", "10", "11", "50", "99", "100", "007"}
    spaced = {"▁0", "▁1", "▁7", "▁9", "▁10", "▁42", "▁100"}
    assert later == {ids[piece]: piece for piece in inner}
    assert first == later | {ids[piece]: piece[1:] for piece in spaced}
