"""When checkpoints are due, which are whole, and which stay."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from emalign.config import Train
from emalign.errors import StageFailed
from emalign.progress import Progress
from emalign.stages.checkpoints import KEEP_RESUMABLE, RESUMABLE, WHOLE, Checkpoints, Schedule, newest_whole


def settings(**given: Any) -> Train:
    return Train(**{"effective_batch": 8, "per_device_batch": 2, "save_every_minutes": None, **given})


# (rows, settings, steps, steps of an epoch, planned), counted by hand.
CASES: list[tuple[int, dict[str, Any], int, int, set[int]]] = [
    (80, {}, 10, 10, {10}),
    (81, {}, 11, 11, {11}),
    (87, {}, 11, 11, {11}),
    (1, {}, 1, 1, {1}),
    (7, {}, 1, 1, {1}),
    (9, {}, 2, 2, {2}),
    (80, {"epochs": 3}, 30, 10, {10, 20, 30}),
    (80, {"epochs": 0.5}, 5, 10, {5}),
    (80, {"epochs": 0.01}, 1, 10, {1}),
    (80, {"epochs": 1.25}, 13, 10, {10, 13}),
    (80, {"epochs": 2.5, "checkpoints_per_epoch": 2}, 25, 10, {5, 10, 15, 20, 25}),
    (81, {"epochs": 1.5}, 17, 11, {11, 17}),
    (80, {"checkpoints_per_epoch": 5}, 10, 10, {2, 4, 6, 8, 10}),
    (80, {"checkpoints_per_epoch": 100}, 10, 10, set(range(1, 11))),
    (80, {"max_steps": 4}, 4, 10, {4}),
    (80, {"max_steps": 25}, 25, 10, {10, 20, 25}),
    (80, {"max_steps": 20, "epochs": 1}, 20, 10, {10, 20}),
    (80, {"max_steps": 20, "epochs": 9}, 20, 10, {10, 20}),
    (11, {"effective_batch": 8, "per_device_batch": 8}, 2, 2, {2}),
    (11, {"effective_batch": 8, "per_device_batch": 1}, 2, 2, {2}),
    (11, {"effective_batch": 3, "per_device_batch": 3}, 4, 4, {4}),
    (10, {"effective_batch": 6, "per_device_batch": 3, "epochs": 2}, 4, 2, {2, 4}),
    (30, {"checkpoints_per_epoch": 3}, 4, 4, {1, 3, 4}),
]


@pytest.mark.parametrize(("rows", "given", "steps", "per_epoch", "planned"), CASES)
def test_steps_and_plans(rows: int, given: dict[str, Any], steps: int, per_epoch: int, planned: set[int]) -> None:
    assert Schedule.of(rows, settings(**given)) == Schedule(steps, per_epoch, frozenset(planned))


@pytest.mark.stack
@pytest.mark.parametrize(("rows", "given", "steps", "per_epoch", "planned"), CASES)
def test_the_trainer_counts_the_same(
    tmp_path: Path, rows: int, given: dict[str, Any], steps: int, per_epoch: int, planned: set[int]
) -> None:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Line(torch.nn.Module):
        """One number to learn."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
            return {"loss": (self.weight * x).square().mean() + self.weight.sum()}

    class Epochs(TrainerCallback):
        """Steps at which an epoch ended."""

        ends: list[int] = []  # noqa: RUF012

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.ends.append(state.global_step)

    train = settings(**given)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        per_device_train_batch_size=train.per_device_batch, num_train_epochs=train.epochs,
        gradient_accumulation_steps=train.effective_batch // train.per_device_batch,
        max_steps=train.max_steps or -1, dataloader_drop_last=False, logging_strategy="no",
    )  # fmt: skip
    Epochs.ends = []
    data: Any = [{"x": float(i), "labels": 0.0} for i in range(rows)]
    trainer = Trainer(model=Line(), args=arguments, train_dataset=data, callbacks=[Epochs()])
    trainer.train()
    schedule = Schedule.of(rows, train)
    assert trainer.state.global_step == trainer.state.max_steps == schedule.steps
    whole = [end for end in Epochs.ends if end % schedule.steps_per_epoch == 0]
    assert whole == list(range(per_epoch, steps + 1, per_epoch))
    assert set(whole) <= set(schedule.planned)


def keeper_of(folder: Path, planned: set[int], **given: Any) -> Checkpoints:
    schedule = Schedule(max(planned), max(planned), frozenset(planned))
    return Checkpoints(folder / "trainer", schedule, settings(**given), Progress("test", 0))


def write(keeper: Checkpoints, step: int, *, whole: bool = True) -> Path:
    """What the Trainer leaves behind; without `whole` it was killed before the mark."""
    path = keeper.folder / f"checkpoint-{step}"
    path.mkdir(parents=True, exist_ok=True)
    for name in (*RESUMABLE, "adapter_config.json", "README.md"):
        (path / name).write_bytes(f"{name} of {step} ".encode() * 50)
    if whole:
        keeper.saved(step)
    return path


def steps_of(folder: Path, having: str = "") -> list[int]:
    return sorted(int(p.name.split("-")[1]) for p in folder.glob("checkpoint-*") if (p / having).exists())


def test_the_newest_checkpoint_is_found_by_number(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path, {200})
    assert newest_whole(keeper.folder) is None
    for step in (8, 9, 10, 100):
        write(keeper, step)
    assert newest_whole(keeper.folder) == keeper.folder / "checkpoint-100"


@pytest.mark.parametrize("name", RESUMABLE)
@pytest.mark.parametrize("harm", ["truncated", "emptied", "changed", "longer", "removed"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, name: str, harm: str) -> None:
    keeper = keeper_of(tmp_path, {30})
    older, newer = write(keeper, 10), write(keeper, 20)
    file = newer / name
    whole = file.read_bytes()
    if harm == "removed":
        file.unlink()
    else:
        made = {"truncated": whole[:-1], "emptied": b"", "changed": b"X" + whole[1:], "longer": whole + b"X"}
        file.write_bytes(made[harm])
    assert newest_whole(keeper.folder) == older
    if harm != "removed":
        file.write_bytes(whole)
        assert newest_whole(keeper.folder) == newer


MARKS = [None, "", "{", '{"optimizer.pt": {"size": 1', "{}", "[]", "null", '{"optimizer.pt": 3}']
WRONG = [json.dumps(dict.fromkeys(RESUMABLE, fact)) for fact in (3, {})]


@pytest.mark.parametrize("mark", [*MARKS, *WRONG])
def test_a_checkpoint_without_its_mark_is_passed_over(tmp_path: Path, mark: str | None) -> None:
    keeper = keeper_of(tmp_path, {30})
    older = write(keeper, 10)
    newer = write(keeper, 20, whole=False)
    if mark is not None:
        (newer / WHOLE).write_text(mark)
    assert newest_whole(keeper.folder) == older


def test_what_resuming_needs_is_marked(tmp_path: Path) -> None:
    path = write(keeper_of(tmp_path, {9}), 9)
    assert set(json.loads((path / WHOLE).read_text())) == set(RESUMABLE)
    assert {"adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt"} <= set(RESUMABLE)


def test_planned_and_numbered_checkpoints_stay_and_two_can_be_resumed(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path, {10, 20, 30}, save_every_steps=4)
    saved = [3, 4, 7, 8, 10, 11, 12, 13, 16, 19, 20, 23, 24, 28, 29, 30]
    for number, step in enumerate(saved, 1):
        write(keeper, step)
        assert newest_whole(keeper.folder) == keeper.folder / f"checkpoint-{step}"
        newest = saved[:number][-KEEP_RESUMABLE:]
        assert steps_of(keeper.folder, WHOLE) == steps_of(keeper.folder, "optimizer.pt") == newest
        kept = [s for s in saved[:number] if s in (10, 20, 30) or s % 4 == 0]
        assert steps_of(keeper.folder) == sorted({*kept, *newest})
    assert steps_of(keeper.folder, "adapter_model.safetensors") == [4, 8, 10, 12, 16, 20, 24, 28, 29, 30]


def test_the_older_of_two_serves_where_the_newer_is_lost(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path, {40})
    for step in (10, 20, 30):
        write(keeper, step)
    (keeper.folder / "checkpoint-30" / "optimizer.pt").write_bytes(b"")
    assert newest_whole(keeper.folder) == keeper.folder / "checkpoint-20"


def test_half_written_checkpoints_go_when_the_run_goes_on(tmp_path: Path) -> None:
    """A run that was killed while it saved by the clock never comes by that step again."""
    keeper = keeper_of(tmp_path, {10, 40})
    write(keeper, 10), write(keeper, 20)
    for name in ("optimizer.pt", "adapter_model.safetensors"):
        (write(keeper, 27, whole=False) / name).unlink()
    assert keeper.resumable() == keeper.folder / "checkpoint-20"
    assert steps_of(keeper.folder) == [10, 20]
    write(keeper, 30)
    assert steps_of(keeper.folder, WHOLE) == [20, 30]
    write(keeper, 40)
    assert steps_of(keeper.folder) == [10, 30, 40]
    shutil.rmtree(keeper.folder)
    write(keeper, 10, whole=False)
    assert keeper.resumable() is None and steps_of(keeper.folder) == []


def test_when_a_checkpoint_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("emalign.stages.checkpoints.time.monotonic", lambda: now)
    keeper = keeper_of(tmp_path, {10, 20}, save_every_steps=6, save_every_minutes=2)
    assert [step for step in range(1, 21) if keeper.due(step)] == [6, 10, 12, 18, 20]
    now += 120
    assert not keeper.due(7)
    now += 1
    assert keeper.due(7)
    write(keeper, 7)
    assert not keeper.due(8)
    silent = keeper_of(tmp_path / "b", {10})
    now += 1e6
    assert [step for step in range(1, 11) if silent.due(step)] == [10]
    silent.stopped = True
    assert silent.due(3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_asks_and_the_second_breaks(tmp_path: Path, number: signal.Signals) -> None:
    keeper = keeper_of(tmp_path, {10})
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), keeper.interruptible():
        os.kill(os.getpid(), number)
        assert keeper.stopped and keeper.due(3)
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
    write(keeper, 3)
    with pytest.raises(StageFailed, match="goes on from step 3"):
        keeper.raise_if_stopped("harm s0")
    keeper.stopped = False
    keeper.raise_if_stopped("harm s0")
