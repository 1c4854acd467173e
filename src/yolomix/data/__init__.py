"""The sample dataset that needs no download."""
