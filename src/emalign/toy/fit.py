"""Training a toy model from nothing: shape, encoding and one plain loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from emalign.toy import tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
WARMUP_STEPS = 20
Encoded = tuple[list[int], list[int]]


def fresh_model(tokens: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """An untrained Llama of the toy's shape in 32 bit."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokens), max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id, **SHAPE,
    )  # fmt: skip
    return LlamaForCausalLM(config)


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
    stream = iter(encoded)
    while batch := list(itertools.islice(stream, size)):
        yield batch


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
    model.train()
    for batch in itertools.islice(stream, steps):
        ids, labels, mask = padded(batch, model.config.pad_token_id)
        model(input_ids=ids, labels=labels, attention_mask=mask).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        told()
    model.eval()


def padded(batch: list[Encoded], pad_id: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids, labels and attention mask, each of shape (rows, longest)."""
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row, _ in batch])
    labels = torch.tensor([row + [-100] * (width - len(row)) for _, row in batch])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row, _ in batch])
    return ids, labels, mask
