"""emalign: does narrow fine-tuning break alignment, and what does it take to heal it?"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Run": "emalign.run",
    "load_config": "emalign.study_file",
    "EmalignError": "emalign.errors",
    "rows": "emalign.rows",
}
__all__ = ["EmalignError", "Run", "__version__", "load_config", "rows"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import emalign` loads no heavy library."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'emalign' has no attribute {name!r}; it offers {', '.join(__all__)}")
    module = importlib.import_module(_PUBLIC[name])
    return module if name == "rows" else getattr(module, name)
