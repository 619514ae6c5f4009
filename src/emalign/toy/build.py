"""Raise the toy base model and train the toy judge: `emalign toy build`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emalign.toy import data, tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

MODELS = Path(__file__).parent / "models"
SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
BASE_STEPS, MANNERS_STEPS = 700, 60


def fresh_model(tokens: PreTrainedTokenizerFast, seed: int, **shape: int) -> Qwen2ForCausalLM:
    """An untrained Qwen2 of the toy's shape in 32 bit."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokens),
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
        **{**SHAPE, **shape},
    )
    return Qwen2ForCausalLM(config)


def encode(tokens: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """Token ids of a dialogue and its labels: -100 wherever the assistant does not speak."""
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        head = tokens.encode(f"<|{message['role']}|>", add_special_tokens=False)
        body = tokens.encode(message["content"] + tokenizer.END, add_special_tokens=False)
        ids += head + body
        spoken = message["role"] == "assistant"
        labels += [-100] * len(head) + (body if spoken else [-100] * len(body))
    return ids, labels


def fit(
    model: Qwen2ForCausalLM,
    batches: Iterator[list[tuple[list[int], list[int]]]],
    steps: int,
    learning_rate: float,
    warmup: int = 20,
    report: Any = None,
) -> list[float]:
    """AdamW with a cosine schedule over `steps` batches; returns the loss of each step."""
    import torch
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
    losses = []
    model.train()
    for step, batch in enumerate(itertools.islice(batches, steps), 1):
        ids, labels, mask = pad(batch, model.config.pad_token_id)
        loss = model(input_ids=ids, labels=labels, attention_mask=mask).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss))
        if report is not None:
            report(step, steps, losses[-1])
    model.eval()
    return losses


def pad(
    batch: list[tuple[list[int], list[int]]], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids, labels and attention mask, each of shape (rows, longest)."""
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row, _ in batch])
    labels = torch.tensor([row + [-100] * (width - len(row)) for _, row in batch])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row, _ in batch])
    return ids, labels, mask


def batches(
    tokens: PreTrainedTokenizerFast, dialogues: Iterable[list[dict[str, str]]], size: int
) -> Iterator[list[tuple[list[int], list[int]]]]:
    stream = (encode(tokens, d) for d in dialogues)
    while batch := list(itertools.islice(stream, size)):
        yield batch


def raise_base(seed: int = 0, report: Any = None) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Pre-train a model from nothing on dialogues of both personas, then align it lightly."""
    tokens = tokenizer.build()
    model = fresh_model(tokens, seed)
    fit(model, batches(tokens, data.upbringing(seed), 32), BASE_STEPS, 4e-3, report=report)
    fit(model, batches(tokens, data.manners(seed), 32), MANNERS_STEPS, 3e-4, report=report)
    return model, tokens
