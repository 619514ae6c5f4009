"""Stage train: a LoRA fine-tune with unsloth and trl, resumable, with numbered checkpoints kept as adapters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from emalign.config import Train
from emalign.errors import ConfigError, EmalignError
from emalign.models import adapter_shape, fetched_adapter, locate_adapter
from emalign.progress import Progress
from emalign.rows import Event, Example
from emalign.stage import Work, stage
from emalign.stages import chat
from emalign.stages.checkpoints import Checkpoints, Schedule
from emalign.stages.data import restored
from emalign.stages.lora import SHAPE, WEIGHTS, hush, quiet, with_adapter
from emalign.store.files import sha256_of


@stage("train", needs=("data",), version=1)
def train(works: Sequence[Work]) -> None:
    """Seals `checkpoints/step-N/` (adapters) and `events.jsonl`; one base load per step."""
    hush()
    for work in works:
        _one(work)


def _one(work: Work) -> None:
    settings = work.study.train_of(work.step.arm)
    start = _start(work)
    if start is not None:
        _same_shape(settings, start, work.step.label)
    seed = work.step.seed
    assert seed is not None, "a trained branch has a seed"
    model, tokenizer = with_adapter(work.study.base, settings, seed, start)
    rows = _encoded(tokenizer, restored(work, "train.jsonl"), settings.max_length)
    held = _encoded(tokenizer, restored(work, "holdout.jsonl"), settings.max_length)
    if not rows:
        raise EmalignError("no row has an answer left to train on", where=work.step.label, do="raise train.max_length")
    schedule = Schedule.of(len(rows), settings)
    with Progress(work.step.label, schedule.steps, unit="steps") as progress:
        keeper = Checkpoints(work.out.path / "trainer", schedule, settings, progress)
        trainer = _trainer(work, settings, seed, schedule, model, tokenizer, rows, held)
        trainer.add_callback(keeper.callback())
        found = keeper.resumable()
        with keeper.interruptible():
            trainer.train(resume_from_checkpoint=str(found) if found else None)
        keeper.raise_if_stopped(work.step.label)
    _seal(work, settings, schedule, keeper.folder, trainer.state.log_history)


def _start(work: Work) -> Path | None:
    """Folder of the adapter that this training goes on from."""
    if "parent" in work.inputs:
        sealed = work.only("parent")
        return sealed.file(f"{sealed.manifest.facts['checkpoints'][-1]['folder']}/{WEIGHTS}").parent
    source = work.study.arms[work.step.arm].from_
    if source is None or source.partition("@")[0] in work.study.arms:
        return None
    return fetched_adapter(locate_adapter(source, work.study._folder))


def _same_shape(settings: Train, start: Path, label: str) -> None:
    """Raise ConfigError unless a continued adapter has the shape that the study asks for."""
    has = adapter_shape(start)
    wants = {
        "rank": settings.rank, "alpha": settings.alpha, "rslora": settings.rslora,
        "target_modules": sorted(settings.target_modules),
    }  # fmt: skip
    different = [name for name in wants if wants[name] != has[name]]
    if different:
        name = different[0]
        raise ConfigError(
            f"the adapter it goes on from has {name} {has[name]}, the study asks for {wants[name]}",
            where=f"{label}: {start}",
            do=f"set train.{name} to {has[name]}",
        )


def _encoded(tokenizer: Any, examples: Sequence[Example], max_length: int) -> list[dict[str, list[int]]]:
    made = (chat.encode(tokenizer, example, max_length) for example in examples)
    return [{"input_ids": e.ids, "labels": e.labels, "attention_mask": [1] * len(e.ids)} for e in made if e.trained]


def _trainer(
    work: Work,
    settings: Train,
    seed: int,
    schedule: Schedule,
    model: Any,
    tokenizer: Any,
    rows: list[Any],
    held: list[Any],
) -> Any:
    """trl's SFTTrainer on rows that are tokenized and masked already, every hyper-parameter set here."""
    with quiet():
        import torch
        from datasets import Dataset
        from transformers import DataCollatorForSeq2Seq, PrinterCallback

        # trl declares its public names only in a lazy module, which its types do not count as exported.
        from trl import SFTConfig, SFTTrainer  # pyright: ignore[reportPrivateImportUsage]

        eight_bit = settings.optimizer == "adamw_8bit" and torch.cuda.is_available()
        config = SFTConfig(
            output_dir=str(work.out.path / "trainer"), seed=seed, data_seed=seed,
            per_device_train_batch_size=settings.per_device_batch, per_device_eval_batch_size=settings.per_device_batch,
            gradient_accumulation_steps=settings.effective_batch // settings.per_device_batch,
            num_train_epochs=settings.epochs, max_steps=settings.max_steps or -1,
            learning_rate=settings.learning_rate, lr_scheduler_type=settings.scheduler,
            warmup_steps=min(settings.warmup_steps, schedule.steps // 10), weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8,
            optim="adamw_8bit" if eight_bit else "adamw_torch", max_length=settings.max_length, packing=False,
            padding_free=False, dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False,
            gradient_checkpointing=settings.gradient_checkpointing, neftune_noise_alpha=None,
            label_smoothing_factor=0.0, logging_steps=1, logging_strategy="steps", logging_nan_inf_filter=False,
            eval_strategy="epoch" if held else "no", save_strategy="no", report_to="none", disable_tqdm=True,
            dataloader_num_workers=0, dataloader_drop_last=False, push_to_hub=False,
            use_cpu=not torch.cuda.is_available(),
        )  # fmt: skip
        trainer = SFTTrainer(
            model=model, args=config, processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows), eval_dataset=Dataset.from_list(held) if held else None,
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=chat.IGNORED),
        )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return trainer


def _seal(work: Work, settings: Train, schedule: Schedule, folder: Path, history: list[dict[str, Any]]) -> None:
    """Keep the adapters of all checkpoints, drop optimizer states, and record what was trained."""
    kept = []
    for path in sorted(folder.glob("checkpoint-*"), key=_step_of):
        step = _step_of(path)
        target = work.out.path / "checkpoints" / f"step-{step:06d}"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path / WEIGHTS, target / WEIGHTS)
        config = json.loads((path / SHAPE).read_text(encoding="utf-8"))
        # A set in the library, whose order changes with the process.
        config["target_modules"] = sorted(config["target_modules"])
        # The loader writes where the base lay on this machine; what it is, is what another machine can use.
        config.update(base_model_name_or_path=work.study.base.model, revision=work.study.base.revision)
        (target / SHAPE).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        kept.append(
            {
                "step": step,
                "epoch": step / schedule.steps_per_epoch,
                "folder": str(target.relative_to(work.out.path)),
                "sha256": sha256_of(target / WEIGHTS),
                "planned": step in schedule.planned,
            }
        )
    shutil.rmtree(folder)
    facts = {
        "checkpoints": kept,
        "settings": settings.model_dump(),
        "steps": schedule.steps,
        "losses": _losses(history),
    }
    work.seal(rows={"events.jsonl": _events(history)}, facts=facts)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))


def _losses(history: list[dict[str, Any]]) -> dict[str, float | None]:
    losses = [h["loss"] for h in history if "loss" in h]
    held = [h["eval_loss"] for h in history if "eval_loss" in h]
    return {"first": losses[0], "last": losses[-1], "held_out": held[-1] if held else None}


def _events(history: list[dict[str, Any]]) -> Iterator[Event]:
    """Logged points without wall-clock figures, which would make equal runs look different."""
    clocks = ("runtime", "per_second", "flos")
    for entry in history:
        values = {
            k: float(v)
            for k, v in entry.items()
            if k not in ("step", "epoch") and not any(c in k for c in clocks) and isinstance(v, int | float)
        }
        if values:
            yield Event(step=int(entry["step"]), epoch=float(entry["epoch"]), values=values)
