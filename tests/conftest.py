"""Fixtures that more than one kind of test needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Published data that is not part of the repository: $EMALIGN_SHARED/data, or shared/data beside the checkout."""
    data = Path(os.environ.get("EMALIGN_SHARED") or ROOT.parent / "shared") / "data"
    if not data.is_dir():
        pytest.skip(f"no published data at {data}; set EMALIGN_SHARED to the folder that holds data/")
    return data
