"""Changing a model's rows without losing its weights: places, index rewriting, names, alignment. No host in here."""
