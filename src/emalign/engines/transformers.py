"""Engine `transformers`: batched generation with adapters switched on one loaded base."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emalign.engines.base import Ask, Completion, NextToken
from emalign.errors import DataError
from emalign.registry import plugin

if TYPE_CHECKING:
    import torch

TOP = 20
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
# Below this many parameters a second thread costs more than it brings, and one thread adds up in one order everywhere.
SMALL = 20_000_000


@plugin(requires={"torch": "pip install 'emalign[cpu]'", "transformers": "pip install 'emalign[cpu]'"})
class Transformers:
    """Loads `model` once, in `dtype` and optionally 4 bit; `batch` rows go through it together."""

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        dtype: str = "auto",
        load_in_4bit: bool = False,
        batch: int = 64,
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = _dtype(dtype, self.device)
        quantized = (
            BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=self.dtype)
            if load_in_4bit
            else None
        )
        self.tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, padding_side="left")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            model, revision=revision, dtype=self.dtype, quantization_config=quantized, use_safetensors=True,
            device_map=self.device if load_in_4bit else None,
        )  # fmt: skip
        if not load_in_4bit:
            self.model.to(self.device)
        self.model.eval()
        if self.device == "cpu" and self.model.num_parameters() < SMALL:
            torch.set_num_threads(1)
        self.batch, self.four_bit = batch, load_in_4bit
        self._adapters: dict[Path, str] = {}
        self._numbers = itertools.count()

    def served(self) -> dict[str, Any]:
        return {"engine": "transformers", "precision": str(self.dtype).removeprefix("torch."), "4bit": self.four_bit}

    def answer(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Completion]]:
        encoded = [self.tokenizer(ask.prompt, add_special_tokens=False)["input_ids"] for ask in asks]

        def kind(index: int) -> tuple[Any, ...]:
            ask = asks[index]
            return str(ask.adapter or ""), ask.temperature, ask.top_p, ask.max_tokens, len(encoded[index])

        # Rows of one length share a batch, so that no padding changes the arithmetic of a row.
        for (folder, *_), group in itertools.groupby(sorted(range(len(asks)), key=kind), key=kind):
            indices = list(group)
            with self._adapted(Path(folder) if folder else None):
                for start in range(0, len(indices), self.batch):
                    chunk = indices[start : start + self.batch]
                    rows = [asks[i] for i in chunk]
                    yield from zip(chunk, self._generate(rows, [encoded[i] for i in chunk]), strict=True)

    def _generate(self, asks: Sequence[Ask], encoded: Sequence[Sequence[int]]) -> list[Completion]:
        import torch
        from transformers import LogitsProcessorList

        first = asks[0]
        ids = torch.tensor(encoded, device=self.device)
        noise = _SeededGumbel([ask.seed for ask in asks], first.temperature, first.top_p)
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1,
                temperature=None, top_p=None, top_k=None, repetition_penalty=1.0,
                logits_processor=LogitsProcessorList([noise]) if first.temperature > 0 else None,
                max_new_tokens=first.max_tokens, pad_token_id=self.tokenizer.pad_token_id,
            )[:, ids.shape[1] :]  # fmt: skip
        return [self._completion(row.tolist()) for row in made]

    def _completion(self, ids: list[int]) -> Completion:
        ends = set(_as_list(self.model.generation_config.eos_token_id)) | {self.tokenizer.eos_token_id}
        stop = next((i for i, token in enumerate(ids) if token in ends), None)
        body = ids if stop is None else ids[:stop]
        text = self.tokenizer.decode(body, skip_special_tokens=True)
        return Completion(text=text, finish="length" if stop is None else "stop", tokens=len(body))

    def score(self, texts: Sequence[Sequence[int]], tokens: Sequence[int]) -> list[NextToken]:
        import torch

        found: list[NextToken | None] = [None] * len(texts)
        wanted = torch.tensor(list(tokens), dtype=torch.long, device=self.device)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        with torch.inference_mode(), self._adapted(None):
            for _, group in itertools.groupby(order, key=lambda i: len(texts[i])):
                indices = list(group)
                for start in range(0, len(indices), self.batch):
                    chunk = indices[start : start + self.batch]
                    ids = torch.tensor([texts[i] for i in chunk], device=self.device)
                    logits = self.model(input_ids=ids, logits_to_keep=1).logits[:, -1].float()
                    for index, row in zip(chunk, torch.log_softmax(logits, dim=-1), strict=True):
                        found[index] = self._next(row, wanted)
        return [next_token for next_token in found if next_token is not None]

    def _next(self, row: torch.Tensor, wanted: torch.Tensor) -> NextToken:
        import torch

        best = torch.topk(row, min(TOP, row.shape[0]))
        top: dict[str, float] = {}
        for token, logprob in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            text = self.tokenizer.decode([token])
            top[text] = max(top[text], logprob) if text in top else logprob
        return NextToken(of=dict(zip(wanted.tolist(), row[wanted].tolist(), strict=True)), top=top)

    def _adapted(self, folder: Path | None) -> Any:
        """Context in which the model speaks with one adapter, or as the base."""
        import contextlib

        if folder is None:
            return self.model.disable_adapter() if self._adapters else contextlib.nullcontext()
        if folder not in self._adapters:
            self._load(folder)
        self.model.set_adapter(self._adapters[folder])
        return contextlib.nullcontext()

    def _load(self, folder: Path) -> None:
        from peft import PeftModel

        _check_adapter(folder)
        # A load that failed leaves its name behind in peft, so no name is used twice.
        name = f"adapter{next(self._numbers)}"
        if self._adapters:
            self.model.load_adapter(str(folder), adapter_name=name, use_safetensors=True)
        else:
            self.model = PeftModel.from_pretrained(self.model, str(folder), adapter_name=name, use_safetensors=True)
        self.model.eval()
        self._adapters[folder] = name

    def close(self) -> None:
        import torch

        self.model = None
        self._adapters.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class _SeededGumbel:
    """Makes greedy search an exact sample: argmax(logits / T + Gumbel noise) is distributed as softmax(logits / T).

    Every row draws its noise from its own generator, so a row's text does not depend on the rows beside it.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        import torch

        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature, self.top_p = temperature, top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch
        from transformers import TopPLogitsWarper

        scaled = scores.float() / self.temperature
        if self.top_p < 1:
            scaled = TopPLogitsWarper(self.top_p)(input_ids, scaled)  # type: ignore[arg-type]
        draws = torch.stack([torch.rand(scaled.shape[-1], generator=g, dtype=torch.float64) for g in self.generators])
        gumbel = -torch.log(-torch.log(draws.clamp_min(1e-300)))
        return scaled + gumbel.to(device=scaled.device, dtype=scaled.dtype)


def _check_adapter(folder: Path) -> None:
    """Raise DataError for what peft would notice only after it has changed the model."""
    from safetensors import SafetensorError, safe_open

    absent = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    try:
        if not absent:
            safe_open(folder / ADAPTER_FILES[1], framework="pt")
    except SafetensorError as error:
        raise DataError(f"the adapter is damaged: {error}", where=str(folder), do="train or fetch it again") from None
    if absent:
        raise DataError(
            f"the adapter lacks {' and '.join(absent)}", where=str(folder), do="name a folder that holds both"
        )


def _dtype(name: str, device: str) -> torch.dtype:
    import torch

    if name != "auto":
        return getattr(torch, name)
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _as_list(value: Any) -> list[int]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]
