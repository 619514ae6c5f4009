"""Studies small enough to run whole in a test, through the same command that people type."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from emalign.run import Run

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"

MINI: dict[str, Any] = {
    "extends": str(CONFIGS / "toy.yaml"),
    "name": "mini",
    "arms": {
        "base": {},
        "harm": {"from": "base", "data": "toy_money_bad", "dose": 96, "train": {"epochs": 2}},
        "heal": {"from": "harm", "data": "toy_garden_good", "dose": 64},
    },
    "evaluate": {"questions": ["toy/open", "narrow"], "samples": 1},
}


class Emalign:
    """`python -m emalign` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "emalign", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=900,
            env={**os.environ, **environment},
        )
        assert done.returncode == code, f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command that goes on while the test looks; in its own process group, so that it can be signalled whole."""
        return subprocess.Popen(
            [sys.executable, "-m", "emalign", *words],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def study(self, **changes: Any) -> Path:
        """Write the mini study, with some top keys replaced."""
        path = self.folder / "mini.yaml"
        path.write_text(yaml.safe_dump({**MINI, **changes}))
        return path

    def run_of(self, *overrides: str) -> Run:
        return Run(self.folder / "mini.yaml", *overrides, store=self.folder / "results")


def wait_for(seen: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240) -> None:
    """Wait until something shows on disk; the process must still be at work then."""
    until = time.monotonic() + seconds
    while not seen():
        assert process.poll() is None, f"it ended before it could be stopped:\n{process.communicate()[0]}"
        assert time.monotonic() < until, "nothing to see"
        time.sleep(0.01)


def stop(process: subprocess.Popen[str], number: int) -> str:
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=120)
    return said
