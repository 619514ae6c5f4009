"""Studies small enough to run whole in a test, through the same command that people type."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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


@pytest.fixture
def emalign(tmp_path: Path) -> Emalign:
    return Emalign(tmp_path)


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Emalign:
    """The mini study, run once to its report. Tests read it, or copy it before they change anything."""
    made = Emalign(tmp_path_factory.mktemp("mini"))
    made.study()
    made("run", "mini.yaml")
    return made


@pytest.fixture
def copied(mini: Emalign, tmp_path: Path) -> Emalign:
    """A finished mini study of one's own."""
    import shutil

    shutil.copytree(mini.folder, tmp_path / "copy")
    return Emalign(tmp_path / "copy")


@pytest.fixture(scope="session")
def sealed() -> Callable[[Path], dict[str, str]]:
    """Step folder -> sha256 of all its files, of every sealed step below a study."""
    import json

    def look(results: Path) -> dict[str, str]:
        found = {}
        for manifest in sorted(results.glob("*/steps/*/*/manifest.json")):
            files = json.loads(manifest.read_text())["files"]
            found[f"{manifest.parent.parent.name}/{manifest.parent.name}"] = str(
                sorted((name, fact["sha256"]) for name, fact in files.items())
            )
        return found

    return look
