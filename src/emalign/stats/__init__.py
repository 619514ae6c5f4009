"""Statistics of judged answers: arrays in, numbers with intervals out. Questions are the unit, never answers."""
