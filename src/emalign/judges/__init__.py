"""Judges: who scores answers, each recorded with its model, prompts and parameters."""
