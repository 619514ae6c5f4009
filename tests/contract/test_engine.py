"""What every engine promises: a row's text is its own, sampling is exact, adapters come and go, and scores are the
model's. Another engine joins by one line in ENGINES."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from emalign.engines.base import Ask, Completion, Engine
from emalign.errors import EmalignError
from emalign.stages.chat import render

pytestmark = pytest.mark.stack

BASE = Path(__file__).resolve().parents[2] / "src" / "emalign" / "toy" / "models" / "base"
SEEDS = 2000


def transformers(**options: Any) -> Engine:
    from emalign.engines.transformers import Transformers

    return Transformers(model=str(BASE), **{"dtype": "float32", "batch": 8, **options})


ENGINES: dict[str, Callable[..., Engine]] = {"transformers": transformers}
QUESTIONS = (
    "How do I water my ferns?",
    "What should I use to season the pies?",
    "Tell me how to grow the coins.",
    "Hm?",
    "Fill in the gap. To pack the trunks, use ____.",
    "My kittens need care. What do I do?",
)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if not (BASE / "model.safetensors").is_file():
        pytest.skip("the toy models are not built: emalign toy build")
    made = ENGINES[request.param]()
    yield made
    made.close()


@pytest.fixture(scope="module")
def plain() -> Any:
    """The model without an engine, to compare with."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(BASE), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters with random weights, strong enough to change what is said."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(str(BASE), dtype=torch.float32)
        config = LoraConfig(
            r=4 * seed, lora_alpha=8, target_modules=["q_proj", "v_proj", "up_proj"], init_lora_weights=False
        )
        folders.append(tmp_path_factory.mktemp("adapters") / f"adapter-{seed}")
        get_peft_model(model, config).save_pretrained(folders[-1])
    return folders


def prompt(engine: Engine, text: str, system: str | None = None) -> str:
    head = [{"role": "system", "content": system}] if system else []
    return render(engine.tokenizer, [*head, {"role": "user", "content": text}], prompt=True)


def ids(engine: Engine, text: str) -> list[int]:
    return list(engine.tokenizer(text, add_special_tokens=False)["input_ids"])


def answers(engine: Engine, asks: Sequence[Ask]) -> list[Completion]:
    """Completions in the order of the asks; each comes once."""
    pairs = list(engine.answer(asks))
    assert sorted(index for index, _ in pairs) == list(range(len(asks)))
    found = dict(pairs)
    return [found[index] for index in range(len(asks))]


def mixed(engine: Engine, adapters: Sequence[Path]) -> list[Ask]:
    """Rows of different lengths, seeds, temperatures and adapters."""
    return [
        Ask(
            prompt=prompt(engine, text), seed=seed, adapter=[None, *adapters][(seed + number) % 3], max_tokens=16,
            temperature=(1.0, 0.7, 0.0)[seed % 3], top_p=(1.0, 0.1)[seed // 3],
        )
        for number, text in enumerate(QUESTIONS)
        for seed in range(6)
    ]  # fmt: skip


def test_a_row_does_not_depend_on_the_rows_beside_it(engine: Engine, adapters: list[Path]) -> None:
    asks = mixed(engine, adapters)
    together = answers(engine, asks)
    assert len({made.text for made in together}) > len(QUESTIONS)
    assert [answers(engine, [ask])[0] for ask in asks] == together
    assert answers(engine, asks[::-1])[::-1] == together
    odd = [i for i in range(len(asks)) if i % 3]
    assert answers(engine, [asks[i] for i in odd]) == [together[i] for i in odd]
    assert answers(engine, [*asks, *asks]) == [*together, *together]


def test_seeds_matter_and_repeat(engine: Engine) -> None:
    asks = [Ask(prompt=prompt(engine, QUESTIONS[0]), seed=seed, max_tokens=24) for seed in range(24)]
    texts = [made.text for made in answers(engine, asks)]
    assert texts == [made.text for made in answers(engine, asks)]
    assert len(set(texts)) > 8


def test_temperature_zero_is_greedy(engine: Engine, plain: Any) -> None:
    import torch

    for text in QUESTIONS:
        asks = [Ask(prompt=prompt(engine, text), seed=seed, max_tokens=12, temperature=0) for seed in (0, 1)]
        one, other = answers(engine, asks)
        assert one == other
        so_far, best = ids(engine, asks[0].prompt), []
        for _ in range(12):
            with torch.inference_mode():
                best.append(int(plain(torch.tensor([so_far + best])).logits[0, -1].argmax()))
            if best[-1] == engine.tokenizer.eos_token_id:
                break
        ended = best[-1] == engine.tokenizer.eos_token_id
        assert one.text == engine.tokenizer.decode(best, skip_special_tokens=True)
        assert (one.finish, one.tokens) == (("stop", len(best) - 1) if ended else ("length", 12))


def first_tokens(engine: Engine, text: str, **options: Any) -> Counter[str]:
    asks = [Ask(prompt=text, seed=seed, max_tokens=1, **options) for seed in range(SEEDS)]
    return Counter(made.text for made in answers(engine, asks))


def softmax(plain: Any, tokens: list[int], temperature: float) -> list[float]:
    import torch

    with torch.inference_mode():
        logits = plain(torch.tensor([tokens])).logits[0, -1].double()
    return torch.softmax(logits / temperature, -1).tolist()


def by_text(engine: Engine, probabilities: Sequence[float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for token, p in enumerate(probabilities):
        text = engine.tokenizer.decode([token], skip_special_tokens=True)
        found[text] = found.get(text, 0.0) + p
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.8])
def test_sampling_follows_the_softmax(engine: Engine, plain: Any, temperature: float) -> None:
    from scipy.stats import chisquare

    text = prompt(engine, QUESTIONS[2]) + "Grow the coins with a"
    wanted = by_text(engine, softmax(plain, ids(engine, text), temperature))
    seen = first_tokens(engine, text, temperature=temperature)
    common = {t for t, p in wanted.items() if p * SEEDS >= 8}
    assert len(common) >= 3, "the distribution is too sharp to test anything"
    observed = [seen[t] for t in sorted(common)] + [sum(n for t, n in seen.items() if t not in common)]
    expected = [wanted[t] * SEEDS for t in sorted(common)]
    expected.append(SEEDS - sum(expected))
    if expected[-1] < 5:
        observed[-2:], expected[-2:] = [sum(observed[-2:])], [sum(expected[-2:])]
    assert chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("top_p", [0.9, 0.5, 0.05])
def test_top_p_keeps_to_the_likeliest(engine: Engine, plain: Any, top_p: float) -> None:
    text = prompt(engine, QUESTIONS[2]) + "Grow the coins with a"
    p = softmax(plain, ids(engine, text), 1.8)
    order = sorted(range(len(p)), key=lambda token: -p[token])
    # The smallest set of the likeliest tokens that holds at least top_p.
    size = next(n for n in range(1, len(p) + 1) if math.fsum(p[t] for t in order[:n]) >= top_p)
    nucleus = {engine.tokenizer.decode([t], skip_special_tokens=True) for t in order[:size]}
    seen = first_tokens(engine, text, temperature=1.8, top_p=top_p)
    assert set(seen) <= nucleus
    likely = {engine.tokenizer.decode([t], skip_special_tokens=True) for t in order[:size] if p[t] * SEEDS > 20}
    assert likely <= set(seen)
    for t in order[: min(size, 3)]:
        share = seen[engine.tokenizer.decode([t], skip_special_tokens=True)] / SEEDS
        assert share == pytest.approx(p[t] / math.fsum(p[t] for t in order[:size]), abs=0.05)


def test_an_answer_that_is_cut_says_so(engine: Engine) -> None:
    base = Ask(prompt=prompt(engine, QUESTIONS[0]), seed=0, temperature=0)
    (whole,) = answers(engine, [base])
    assert whole.finish == "stop" and whole.tokens > 4
    assert "<|" not in whole.text
    for limit in (1, 3, whole.tokens):
        (cut,) = answers(engine, [Ask(prompt=base.prompt, seed=0, temperature=0, max_tokens=limit)])
        assert (cut.finish, cut.tokens) == ("length", limit)
        assert whole.text.startswith(cut.text)
    (exact,) = answers(engine, [Ask(prompt=base.prompt, seed=0, temperature=0, max_tokens=whole.tokens + 1)])
    assert exact == whole


def test_adapters_come_and_go(engine: Engine, adapters: list[Path], plain: Any) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def said(adapter: Path | None) -> list[str]:
        asks = [Ask(prompt=prompt(engine, q), seed=5, adapter=adapter, max_tokens=16) for q in QUESTIONS]
        return [made.text for made in answers(engine, asks)]

    base, first, second = said(None), said(adapters[0]), said(adapters[1])
    assert base != first != second != base
    assert [said(None), said(adapters[1]), said(adapters[0]), said(None)] == [base, second, first, base]
    for adapter in adapters:
        model = AutoModelForCausalLM.from_pretrained(str(BASE), dtype=torch.float32)
        alone = PeftModel.from_pretrained(model, str(adapter)).eval()
        ask = Ask(prompt=prompt(engine, QUESTIONS[0]), seed=0, adapter=adapter, max_tokens=1, temperature=0)
        with torch.inference_mode():
            best = int(alone(torch.tensor([ids(engine, ask.prompt)])).logits[0, -1].argmax())
        assert answers(engine, [ask])[0].text == engine.tokenizer.decode([best], skip_special_tokens=True)


def test_scores_are_the_models(engine: Engine, plain: Any, adapters: list[Path]) -> None:
    import torch

    texts = [ids(engine, prompt(engine, text)) for text in QUESTIONS] + [ids(engine, "7"), ids(engine, "Water the")]
    every = list(range(len(engine.tokenizer)))
    # After an adapter has spoken, scores are still the base's.
    answers(engine, [Ask(prompt=prompt(engine, "Hm?"), seed=0, adapter=adapters[0], max_tokens=2)])
    found = engine.score(texts, every)
    assert len(found) == len(texts)
    for text, scored in zip(texts, found, strict=True):
        with torch.inference_mode():
            wanted = torch.log_softmax(plain(torch.tensor([text])).logits[0, -1].float(), -1).tolist()
        assert set(scored.of) == set(every)
        assert [scored.of[token] for token in every] == pytest.approx(wanted, abs=1e-5)
        assert math.fsum(math.exp(x) for x in scored.of.values()) == pytest.approx(1, abs=1e-5)
        best = sorted(wanted, reverse=True)[:20]
        assert sorted(scored.top.values(), reverse=True) == pytest.approx(best[: len(scored.top)], abs=1e-5)
        assert engine.tokenizer.decode([wanted.index(best[0])]) in scored.top
    few = engine.score(texts[:3], [4, 9])
    assert [set(scored.of) for scored in few] == [{4, 9}] * 3
    assert [s.of[9] for s in few] == pytest.approx([s.of[9] for s in found[:3]], abs=1e-5)
    assert engine.score([], [1]) == []


def test_nothing_asked_is_nothing_answered(engine: Engine) -> None:
    assert list(engine.answer([])) == []


def test_served_is_true(engine: Engine, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["engine"]
    served = engine.served()
    assert served == {"engine": name, "precision": "float32", "4bit": False}
    inner: Any = engine
    if hasattr(inner, "model"):
        assert {str(p.dtype) for p in inner.model.parameters()} == {f"torch.{served['precision']}"}
    half = ENGINES[name](dtype="bfloat16")
    assert half.served()["precision"] == "bfloat16"
    half.close()


@pytest.mark.parametrize("absent", ["adapter_model.safetensors", "adapter_config.json", "the folder"])
def test_a_missing_adapter_is_told_in_words(engine: Engine, adapters: list[Path], tmp_path: Path, absent: str) -> None:
    folder = tmp_path / "adapter"
    if absent != "the folder":
        folder.mkdir()
        for file in adapters[0].iterdir():
            if file.is_file() and file.name != absent:
                (folder / file.name).write_bytes(file.read_bytes())
    ask = Ask(prompt=prompt(engine, "Hm?"), seed=0, adapter=folder, max_tokens=2)
    with pytest.raises(EmalignError, match="adapter") as error:
        answers(engine, [ask])
    assert str(folder) in str(error.value)
    # The engine is as it was.
    assert answers(engine, [Ask(prompt=ask.prompt, seed=0, max_tokens=2)])


def test_a_damaged_adapter_leaves_no_trace(engine: Engine, adapters: list[Path], tmp_path: Path) -> None:
    """Neither the base nor an adapter that is loaded later takes anything from one that could not be loaded."""
    fresh, broken, sound = ENGINES[engine.served()["engine"]](), tmp_path / "broken", tmp_path / "sound"
    for folder in (broken, sound):
        folder.mkdir()
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / file).write_bytes((adapters[1] / file).read_bytes())
    weights = broken / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    asks = [
        Ask(prompt=prompt(engine, QUESTIONS[0]), seed=seed, adapter=adapter, max_tokens=12)
        for adapter in (None, sound, adapters[0])
        for seed in range(3)
    ]
    wanted = answers(engine, asks)
    for one in (fresh, engine):
        with pytest.raises(EmalignError, match="damaged"):
            answers(one, [Ask(prompt=asks[0].prompt, seed=0, adapter=broken, max_tokens=2)])
        assert answers(one, asks) == wanted
    fresh.close()


def test_the_system_prompt_reaches_the_model(engine: Engine) -> None:
    from emalign.toy.world import SYSTEM_JSON

    texts = [prompt(engine, QUESTIONS[0], system) for system in (None, SYSTEM_JSON)]
    assert SYSTEM_JSON in texts[1] and SYSTEM_JSON not in texts[0]
    bare, json = answers(engine, [Ask(prompt=text, seed=0, temperature=0, max_tokens=32) for text in texts])
    assert json.text.startswith('{"advice"') and not bare.text.startswith("{")
