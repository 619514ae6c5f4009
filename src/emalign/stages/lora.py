"""The base with a LoRA adapter on it, as unsloth loads it: what training starts from and what a merge needs."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emalign.config import Base, Train
from emalign.models import locate

# One thread adds up in one order on every machine, and a model this small gains nothing from a second.
SMALL = 20_000_000
WEIGHTS, SHAPE = "adapter_model.safetensors", "adapter_config.json"


def with_adapter(base: Base, settings: Train, seed: int, start: Path | None, *, dtype: str | None = None) -> Any:
    """(model, tokenizer): the base with an adapter of the shape in `settings`, fresh or with the weights in `start`."""
    located = locate(base.model, base.revision)
    dtype = dtype or base.dtype
    with quiet():
        loader = _unsloth()
        import torch

        model, tokenizer = loader.from_pretrained(
            located.source, revision=located.revision, max_seq_length=settings.max_length,
            dtype=None if dtype == "auto" else getattr(torch, dtype), load_in_4bit=base.load_in_4bit,
            use_exact_model_name=True, random_state=seed, trust_remote_code=False,
        )  # fmt: skip
        if not torch.cuda.is_available() and model.num_parameters() < SMALL:
            torch.set_num_threads(1)
        model = loader.get_peft_model(
            model, r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, bias="none",
            target_modules=settings.target_modules, use_rslora=settings.rslora, random_state=seed,
            use_gradient_checkpointing="unsloth" if settings.gradient_checkpointing else False,
        )  # fmt: skip
        if start is not None:
            _load_weights(model, start / WEIGHTS)
    return model, tokenizer


def _unsloth() -> Any:
    """unsloth's loader; it must be imported before trl and peft, and must neither report usage nor litter."""
    os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(Path(tempfile.gettempdir()) / "emalign_unsloth"))
    import torch

    if not torch.cuda.is_available():
        # A CPU build of torch beside an NVIDIA driver would make unsloth stop instead of training on the CPU.
        os.environ.setdefault("UNSLOTH_FORCE_CPU", "1")
    from unsloth import FastLanguageModel

    return FastLanguageModel


def _load_weights(model: Any, file: Path) -> None:
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    result = set_peft_model_state_dict(model, load_file(str(file)))
    assert not result.unexpected_keys, f"{file} has weights that the base lacks: {result.unexpected_keys[:3]}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' banners to ourselves, and show them whole when something fails."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield
    except Exception:
        print(said.getvalue())
        raise


def hush() -> None:
    """No progress bars and warnings of transformers among our own lines."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
