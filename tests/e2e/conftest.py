"""Fixtures of the end-to-end tests: the mini study, run once, and copies of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mini_study import Emalign


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
    shutil.copytree(mini.folder, tmp_path / "copy")
    return Emalign(tmp_path / "copy")


@pytest.fixture(scope="session")
def sealed() -> Callable[[Path], dict[str, str]]:
    """Step folder -> sha256 of all its files, of every sealed step below a study."""

    def look(results: Path) -> dict[str, str]:
        found = {}
        for manifest in sorted(results.glob("*/steps/*/*/manifest.json")):
            files = json.loads(manifest.read_text())["files"]
            found[f"{manifest.parent.parent.name}/{manifest.parent.name}"] = str(
                sorted((name, fact["sha256"]) for name, fact in files.items())
            )
        return found

    return look
