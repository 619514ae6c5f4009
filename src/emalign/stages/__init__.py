"""The stages: each reads sealed artifacts and writes its own; they never call each other."""
