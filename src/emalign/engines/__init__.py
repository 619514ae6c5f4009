"""Engines: one base model with any number of adapters, that answers rows and scores texts."""
