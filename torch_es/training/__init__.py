"""Training: generations one after another, signals, and a run rebuilt from its log."""
