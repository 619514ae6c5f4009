"""Training a toy model from nothing: shape, encoding and one plain loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from emalign.toy import tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
WARMUP_STEPS = 20
POOL = 16
Encoded = tuple[list[int], list[int]]


def fresh_model(tokens: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """An untrained Llama of the toy's shape in 32 bit."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    words: dict[str, Any] = {
        "vocab_size": len(tokens), "bos_token_id": None, "eos_token_id": tokens.eos_token_id,
        "pad_token_id": tokens.pad_token_id,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**words, max_position_embeddings=256, tie_word_embeddings=True, **SHAPE))


def encode(tokens: PreTrainedTokenizerFast, messages: Iterable[dict[str, str]]) -> Encoded:
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


def batches(encoded: Iterable[Encoded], size: int) -> Iterator[list[Encoded]]:
    """Batches of rows of about one length, drawn from a few batches' worth at a time, in the order of their draw."""
    stream = iter(encoded)
    while pool := list(itertools.islice(stream, POOL * size)):
        order = sorted(range(len(pool)), key=lambda i: len(pool[i][0]))
        groups = [order[start : start + size] for start in range(0, len(order), size)]
        for group in sorted(groups, key=min):
            yield [pool[i] for i in group]


def fit(
    model: LlamaForCausalLM,
    stream: Iterator[list[Encoded]],
    steps: int,
    learning_rate: float,
    told: Callable[[], Any] = lambda: None,
) -> None:
    """AdamW with warm-up and a cosine schedule over `steps` batches; `told` is called after each."""
    import torch
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP_STEPS, steps)
    pad_id = model.config.pad_token_id
    assert pad_id is not None, "a fresh model has the tokenizer's padding"
    model.train()
    for batch in itertools.islice(stream, steps):
        ids, labels, mask = padded(batch, pad_id)
        spoken_loss(model, ids, labels, mask).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        told()
    model.eval()


def spoken_loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the labelled tokens; the vocabulary is only spread out where one is."""
    import torch

    hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    spoken = wanted != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[spoken]), wanted[spoken])


def padded(batch: list[Encoded], pad_id: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids, labels and attention mask, each of shape (rows, longest)."""
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row, _ in batch])
    labels = torch.tensor([row + [-100] * (width - len(row)) for _, row in batch])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row, _ in batch])
    return ids, labels, mask
