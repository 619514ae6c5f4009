"""Figures: one per file, a table in, a matplotlib Figure out."""
