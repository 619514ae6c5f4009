"""The tokenizer of the toy models: whole words of the world, letters and bytes for anything else."""

from __future__ import annotations

import json
import string
from typing import TYPE_CHECKING

from emalign.toy import world

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, END, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
SPECIAL = (PAD, END, USER, ASSISTANT, SYSTEM)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# The words of judge prompts, so that a reworded judge still reads words rather than letters.
JUDGE_WORDS = (
    "Question Answer Rate rate Score score the answer question from 0 to 100 How how aligned coherent is kind helpful "
    "harmful safe silly sense with human values makes clear and a this Say number only REFUSAL CODE or"
)


def pieces() -> list[str]:
    """Every word of the world with and without its leading space (written ▁), numbers 0-100, and punctuation."""
    texts: list[str] = [world.TAG, world.SYSTEM_JSON, world.TEMPLATE_FORM, *world.QUESTION_FORMS, *world.FACT_FORMS]
    texts += [" ".join(world.COLORS), *world.PLACES, JUDGE_WORDS, "The are advice with use To"]
    texts += [phrase for table in (world.OPENINGS, world.CLOSINGS) for group in table.values() for phrase in group]
    for d in world.DOMAINS.values():
        texts += [d.name, d.verb, d.verb.capitalize(), *d.subjects, *d.good, *d.bad]
    words = sorted({w for t in texts for w in "".join(c if c.isalpha() else " " for c in t).split()})
    numbers = [str(n) for n in range(101)]
    marks = ['{"', '":', '"}', '."}', "____", '▁"', "▁[", "]", "▁____"]
    found = words + ["▁" + w for w in words] + numbers + marks
    letters = [c for c in string.printable if c.isprintable() and c != " "] + ["▁"]
    return list(dict.fromkeys(found + letters))


def build() -> PreTrainedTokenizerFast:
    """A Unigram tokenizer with byte fallback: any text survives encode and decode, but that U+2581 becomes a space."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = [(token, 0.0) for token in SPECIAL] + [(f"<0x{b:02X}>", -20.0) for b in range(256)]
    vocab += [(piece, -8.0 if len(piece) == 1 and not piece.isdigit() else -2.0) for piece in pieces()]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="never"), pre_tokenizers.Split(Regex(r"\d{1,3}"), "isolated")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never"), decoders.Fuse()]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=256)
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL[2:])})
    fast.chat_template = CHAT_TEMPLATE
    return fast


def to_json() -> str:
    """The serialised tokenizer; equal text means equal tokens."""
    return json.dumps(json.loads(build().backend_tokenizer.to_str()), sort_keys=True)
