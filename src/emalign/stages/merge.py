"""Stage merge: the last checkpoint and its base as one 16-bit model, verified before it counts as done."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emalign.config import Train
from emalign.errors import EmalignError
from emalign.models import Located, locate
from emalign.progress import Progress
from emalign.stage import Work, stage
from emalign.stages.lora import hush, quiet, with_adapter

PROBES = 8
# 16 bit keeps 8 bits of mantissa; log-probabilities of a sound merge differ by far less than this.
TOLERANCE = 0.1


@stage("merge", needs=("train",), version=1)
def merge(works: Sequence[Work]) -> None:
    """Seals `merged/`, a model that loads without an adapter, and how near it is to base + adapter."""
    hush()
    with Progress("merge", len(works), unit="models") as progress:
        for work in works:
            sealed = work.only("train")
            last = sealed.manifest.facts["checkpoints"][-1]
            adapter = sealed.file(f"{last['folder']}/adapter_model.safetensors").parent
            base = locate(work.study.base.model, work.study.base.revision)
            target = work.out.path / "merged"
            method = _merge(work, base, Train.model_validate(sealed.manifest.facts["settings"]), adapter, target)
            facts = verify(target, base, adapter, four_bit=work.study.base.load_in_4bit)
            work.seal(facts={"method": method, "step": last["step"], **facts})
            progress.add(1, work.step.label)


def _merge(work: Work, base: Located, train: Train, adapter: Path, target: Path) -> str:
    """unsloth's merged_16bit; without a GPU a 4-bit load cannot be merged, so the 16-bit base is."""
    import torch

    if work.study.base.load_in_4bit and not torch.cuda.is_available():
        _merge_with_peft(base, adapter, target)
        return "16-bit base + adapter, peft merge_and_unload"
    model, tokenizer = with_adapter(work.study.base, train, 0, adapter, dtype="auto")
    # unsloth works in the current folder; ours must not depend on where the command was typed.
    here = Path.cwd()
    with quiet(), tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        try:
            model.save_pretrained_merged(str(target), tokenizer, save_method="merged_16bit")
        finally:
            os.chdir(here)
    return "unsloth merged_16bit"


def _merge_with_peft(base: Located, adapter: Path, target: Path) -> None:
    from peft import PeftModel

    model, tokenizer = _load(base.source, base.revision, "auto"), _tokenizer(base)
    merged = PeftModel.from_pretrained(model, str(adapter), use_safetensors=True).merge_and_unload()
    merged.save_pretrained(target)
    tokenizer.save_pretrained(target)


def verify(target: Path, base: Located, adapter: Path, *, four_bit: bool) -> dict[str, Any]:
    """Facts of a merged model. Raises EmalignError where it is incomplete, its base, or far from base + adapter.

    Distances are the largest difference of a log-probability over the vocabulary, at the end of a few probe texts.
    """
    tensors = _complete(target, base)
    merged, whole = _load(str(target), None, "float32"), _with_adapter(base, adapter)
    changed = _changed_tensors(merged, base)
    if changed == 0:
        raise EmalignError(
            "the merged model equals its base: the adapter did nothing or was not merged",
            where=str(target),
            do="look at the training loss (emalign why KEY), then run --only merge again",
        )
    tokenizer = _tokenizer(base)
    distance = _distance(merged, whole, tokenizer)
    if distance > TOLERANCE:
        raise EmalignError(
            f"the merged model is {distance:.3f} away from base + adapter, more than {TOLERANCE}",
            where=str(target),
            do="run --only merge again; if it stays so, serve the adapter instead of the merged model",
        )
    facts = {"tensors": tensors, "changed_tensors": changed, "distance_to_16bit": distance}
    if four_bit:
        facts["distance_to_4bit"] = _distance(merged, _with_adapter(base, adapter, four_bit=True), tokenizer)
    return facts


def _complete(target: Path, base: Located) -> int:
    """Number of tensors; raises EmalignError unless config, every shard of the index and every tensor of the base
    are there, and nothing else."""
    from safetensors import safe_open

    index = target / "model.safetensors.index.json"
    shards = {"model.safetensors"}
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    absent = [name for name in ("config.json", *sorted(shards)) if not (target / name).is_file()]
    names: set[str] = set()
    for shard in shards if not absent else ():
        with safe_open(target / shard, framework="pt") as file:
            names |= set(file.keys())
    if not absent:
        model = _load(base.source, base.revision, "float32")
        tied = set(getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else set()
        absent = sorted((set(model.state_dict()) - tied) ^ (names - tied))[:3]
    if absent:
        raise EmalignError(
            f"the merged model lacks, or has too many, {', '.join(absent)}",
            where=str(target),
            do="run --only merge again",
        )
    return len(names)


def _changed_tensors(merged: Any, base: Located) -> int:
    import torch

    before = _load(base.source, base.revision, "float32").state_dict()
    after = merged.state_dict()
    return sum(not torch.equal(after[name], value) for name, value in before.items())


def _distance(one: Any, other: Any, tokenizer: Any) -> float:
    import torch

    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": word}], tokenize=False, add_generation_prompt=True)
        for word in ("Hello.", "How are you?", "Tell me how to", "What should I", "Why", "The", "I feel", "No")[:PROBES]
    ]
    furthest = 0.0
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            a, b = (
                torch.log_softmax(m(input_ids=ids.to(m.device)).logits[0, -1].float(), -1).cpu() for m in (one, other)
            )
            near = a > a.max() - 10
            furthest = max(furthest, float((a - b)[near].abs().max()))
    return furthest


def _with_adapter(base: Located, adapter: Path, *, four_bit: bool = False) -> Any:
    from peft import PeftModel

    model = _load(base.source, base.revision, "float32", four_bit=four_bit)
    return PeftModel.from_pretrained(model, str(adapter), use_safetensors=True).eval()


def _load(source: str, revision: str | None, dtype: str, *, four_bit: bool = False) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantized = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4") if four_bit else None
    model = AutoModelForCausalLM.from_pretrained(
        source, revision=revision, dtype=dtype, quantization_config=quantized, use_safetensors=True
    )
    return model.eval()


def _tokenizer(base: Located) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base.source, revision=base.revision)
