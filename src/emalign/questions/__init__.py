"""Questions to ask a model: the sets by name, and files in the emergent-misalignment YAML format."""

from __future__ import annotations

from emalign.questions.catalog import load, names, sets
from emalign.questions.yaml_format import load_judge_prompts

__all__ = ["load", "load_judge_prompts", "names", "sets"]
