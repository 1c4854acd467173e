"""The only folder that imports Ultralytics. This file does not: it joins the two packages once both are loaded."""


def join() -> None:
    """Teach Ultralytics our blocks, now if it is loaded, else as soon as it is."""
