"""How long the quickstart takes, the first time and again, and what start-up costs.

    .venv/bin/python benchmarks/quickstart.py

Prints a table and one JSON line, and ends with 1 where a promise of the README is broken: 6 minutes for the first run
on 2 cores, 10 seconds for a run with nothing to do.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "quickstart.yaml"
FIRST_SECONDS, AGAIN_SECONDS = 360, 10


def timed(*command: str) -> tuple[float, str]:
    """Wall seconds of a command that must succeed, and what it printed."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return time.monotonic() - began, done.stdout


def main() -> int:
    with tempfile.TemporaryDirectory() as store:
        run = ("-m", "emalign", "run", str(CONFIG), "--store", store)
        bare, _ = timed("-c", "pass")
        imported, _ = timed("-c", "import emalign")
        first, _ = timed(*run)
        again, said = timed(*run)
    assert "Nothing to do" in said, said
    figures = {"python": bare, "import_emalign": imported, "first_run": first, "again": again}
    for name, seconds in figures.items():
        print(f"{name:16} {seconds:8.2f} s  {seconds / first:8.4f} of the first run")
    print(json.dumps({name: round(seconds, 3) for name, seconds in figures.items()}))
    return int(first > FIRST_SECONDS or again > AGAIN_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
