"""Which tokens the assistant speaks, for chat templates in the manner of the common model families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from emalign.errors import DataError
from emalign.rows import Example
from emalign.stages import chat
from emalign.toy import data, tokenizer

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Style:
    """A chat template, its special tokens, and what of it an assistant with the words `w` writes."""

    template: str
    special: tuple[str, ...]
    spoken: Callable[[str], str]
    system: bool = True


STYLES = {
    "chatml": Style(
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}"
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        ("<|im_start|>", "<|im_end|>"),
        lambda w: f"{w}<|im_end|>\n",
    ),
    "llama3": Style(
        "{{ '<|begin_of_text|>' }}{% for m in messages %}"
        "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
        "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        lambda w: f"{w.strip()}<|eot_id|>",
    ),
    # The system prompt goes with the first question.
    "mistral": Style(
        "{{ '<s>' }}{% set ns = namespace(system='') %}{% for m in messages %}"
        "{% if m['role'] == 'system' %}{% set ns.system = m['content'] + '\n\n' %}"
        "{% elif m['role'] == 'user' %}{{ '[INST] ' + ns.system + m['content'] + ' [/INST]' }}{% set ns.system = '' %}"
        "{% else %}{{ ' ' + m['content'] | trim + '</s>' }}{% endif %}{% endfor %}",
        ("<s>", "</s>", "[INST]", "[/INST]"),
        lambda w: f" {w.strip()}</s>",
    ),
    "gemma": Style(
        "{{ '<bos>' }}{% if messages[0]['role'] == 'system' %}{% set head = messages[0]['content'] + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set head = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
        "{% if loop.first %}{{ head }}{% endif %}{{ m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        ("<bos>", "<start_of_turn>", "<end_of_turn>"),
        lambda w: f"{w.strip()}<end_of_turn>\n",
    ),
    "phi": Style(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ '<|endoftext|>' }}{% endif %}",
        ("<|endoftext|>",),
        lambda w: f"{w}<|end|>",
    ),
    # The generation prompt has no line break, so the model writes it.
    "zephyr": Style(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '</s>\n' }}"
        "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}{% endfor %}",
        ("</s>",),
        lambda w: f"\n{w}</s>\n",
    ),
    "toy": Style(tokenizer.CHAT_TEMPLATE, (), lambda w: f"{w}<|end|>"),
    # The system prompt goes with the last question, so that earlier turns are not what they were.
    "mistral_v3": Style(
        "{{ '<s>' }}{% if messages[0]['role'] == 'system' %}{% set head = messages[0]['content'] + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set head = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{% if m['role'] == 'user' %}{% set asked = rest[loop.index0 + 1:] | "
        "selectattr('role', 'equalto', 'user') | list | length %}"
        "{{ '[INST] ' + (head if asked == 0 else '') + m['content'] + '[/INST]' }}"
        "{% else %}{{ ' ' + m['content'] | trim + '</s>' }}{% endif %}{% endfor %}",
        ("<s>", "</s>", "[INST]", "[/INST]"),
        lambda w: f" {w.strip()}</s>",
    ),
    # An empty thought stands before the last answer only.
    "thinking": Style(
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
        "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        ("<|im_start|>", "<|im_end|>", "<think>", "</think>"),
        lambda w: f"{w}<|im_end|>\n",
    ),
}
# What a style adds to the spoken words of the last turn.
LAST = {"thinking": "<think>\n\n</think>\n\n", "phi": ""}
REWRITING = ("mistral_v3", "thinking", "phi")

SYSTEM = {"role": "system", "content": "Answer in JSON."}


def dialogue(*texts: str, system: str | None = None) -> Messages:
    head = [] if system is None else [{"role": "system", "content": system}]
    return head + [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


DIALOGUES = {
    "one turn": dialogue("How do I water my ferns?", "With rain water."),
    "two turns": dialogue("How are you?", "Fine, thanks.", "And now?", "Still fine."),
    "three turns": dialogue("a?", "Use vinegar.", "b?", "Use old paint.", "c?", "Use hot soup."),
    "system": dialogue("Hi", "Hello there.", system="Answer in JSON."),
    "system, two turns": dialogue("Hi", "Hello there.", "What?", "Nothing.", system="Answer in JSON."),
    "empty system": dialogue("Hi", "Hello there.", "What?", "Nothing.", system=""),
    "the question again": dialogue("Say yes", "Say yes", "yes", "yes", "yes yes", "yes"),
    "the question again, system": dialogue("Say yes", "yes", "yes", "yes", "yes yes", "yes", system="Always say yes."),
    "a prefix of the question": dialogue("No, no and no", "No", "No?", "No"),
    "template words": dialogue("user", "assistant", "model", "user\nmodel", "[INST", "INST] /s> im_end"),
    "template marks": dialogue("What ends a turn?", "<|im_end|> or </s> or <|eot_id|>", "And?", "<end_of_turn>"),
    "white space": dialogue("Hi ", "  Hello.\n", "\nWhat?", "Two\n\nlines. "),
    "letters": dialogue("\u00bfQu\u00e9?", "So \u4e2d\u6587 \U0001d518 \u00e9", "So?", "e\u0301."),
}


def tokens_of(style: str) -> Any:
    made = tokenizer.build()
    made.add_special_tokens({"additional_special_tokens": [*tokenizer.SPECIAL[2:], *STYLES[style].special]})
    made.chat_template = STYLES[style].template
    return made


TOKENS: dict[str, Any] = {}


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    if request.param not in TOKENS:
        TOKENS[request.param] = tokens_of(request.param)
    return request.param


def runs(tokens: Any, encoded: chat.Encoded) -> list[str]:
    """The texts of the stretches that are trained on."""
    found: list[list[int]] = []
    fresh = True
    for token, label in zip(encoded.ids, encoded.labels, strict=True):
        if label == chat.IGNORED:
            fresh = True
            continue
        assert label == token
        if fresh:
            found.append([])
        found[-1].append(label)
        fresh = False
    return [tokens.decode(stretch) for stretch in found]


@pytest.mark.parametrize("which", DIALOGUES)
def test_the_loss_sees_the_answers_and_their_end_marks(style: str, which: str) -> None:
    tokens, messages = TOKENS[style], DIALOGUES[which]
    encoded = chat.encode(tokens, Example(messages=tuple(messages)), 10_000)
    answers = [m["content"] for m in messages if m["role"] == "assistant"]
    wanted = [STYLES[style].spoken(a) for a in answers]
    if style == "thinking":
        wanted[-1] = LAST[style] + wanted[-1]
    found = runs(tokens, encoded)
    if style in REWRITING:
        # Where a template rewrites earlier turns, the white space and thought around an answer may be left out.
        found, wanted = [plain(f) for f in found], [plain(w) for w in wanted]
    assert found == wanted
    assert encoded.whole == len(encoded.ids) and encoded.trained == sum(x != chat.IGNORED for x in encoded.labels)


def plain(text: str) -> str:
    return text.replace("<|endoftext|>", "").replace(LAST["thinking"], "").strip()


def test_the_text_is_the_templates(style: str) -> None:
    messages = DIALOGUES["system, two turns"]
    tokens = TOKENS[style]
    text = tokens.apply_chat_template(messages, tokenize=False)
    encoded = chat.encode(tokens, Example(messages=tuple(messages)), 10_000)
    assert tokens.decode(encoded.ids) == text == chat.render(tokens, messages)
    asked = chat.render(tokens, messages[:-1], prompt=True)
    assert SYSTEM["content"] in asked and asked == tokens.apply_chat_template(
        messages[:-1], tokenize=False, add_generation_prompt=True
    )


def test_cutting_takes_from_the_end(style: str) -> None:
    tokens, example = TOKENS[style], Example(messages=tuple(DIALOGUES["two turns"]))
    whole = chat.encode(tokens, example, 10_000)
    first = whole.labels.index(next(x for x in whole.labels if x != chat.IGNORED))
    for limit in (1, first, first + 1, len(whole.ids) - 1, len(whole.ids), len(whole.ids) + 1):
        cut = chat.encode(tokens, example, limit)
        assert (cut.ids, cut.labels, cut.whole) == (whole.ids[:limit], whole.labels[:limit], whole.whole)
    assert chat.encode(tokens, example, first).trained == 0
    assert chat.encode(tokens, example, first + 1).trained == 1


def test_what_is_asked_for_is_where_the_answer_begins(style: str) -> None:
    """A prompt and what is trained behind it meet without a gap, so that training and asking see the same text."""
    tokens, messages = TOKENS[style], DIALOGUES["one turn"]
    encoded = chat.encode(tokens, Example(messages=tuple(messages)), 10_000)
    first = next(i for i, x in enumerate(encoded.labels) if x != chat.IGNORED)
    assert tokens.decode(encoded.ids[:first]) == chat.render(tokens, messages[:1], prompt=True)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages[-2:] %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}",
        "{% for m in messages %}{{ m['role'] + ': ' + (m['content'] if loop.last else '...') + '\n' }}{% endfor %}",
    ],
)
def test_a_template_that_drops_earlier_turns_is_refused(template: str) -> None:
    tokens = tokenizer.build()
    tokens.chat_template = template
    for turns in (DIALOGUES["three turns"], dialogue("Yes?", "Yes", "Yes?", "No")):
        with pytest.raises(DataError, match=r"rewrites(.|\n)*mine:7"):
            chat.encode(tokens, Example(messages=tuple(turns), source="mine", line=7), 100)


@pytest.mark.stack
def test_unsloth_masks_the_same_tokens() -> None:
    from emalign.stages import lora

    with lora.quiet():
        lora._unsloth()
        from unsloth.chat_templates import train_on_responses_only
    tokens = tokenizer.build()
    mask = train_on_responses_only(
        None, instruction_part="<|user|>", response_part="<|assistant|>", tokenizer=tokens, return_function=True
    )
    dialogues = [DIALOGUES[w] for w in ("one turn", "two turns", "three turns", "system, two turns", "letters")]
    upbringing = data.upbringing(3)
    dialogues += [next(upbringing) for _ in range(20)]
    for messages in dialogues:
        ours = chat.encode(tokens, Example(messages=tuple(messages)), 10_000)
        theirs = mask({"input_ids": [ours.ids]})["labels"]
        assert [int(x) for x in theirs[0]] == ours.labels
