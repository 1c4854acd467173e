"""The verb ``profile``: parameters, operations, latency and memory as tables, and as a file."""

from __future__ import annotations

from yolomix import progress
from yolomix.cli.answer import Answer
from yolomix.host import offline


def profile(
    *,
    model: str,
    against: list[str],
    imgsz: list[int] | None,
    batch: list[int] | None,
    device: str,
    train: bool,
    depth: str,
    save: str | None,
) -> Answer:
    """Count and measure; the arguments are those that help explains."""
    with progress.shown("loading PyTorch and Ultralytics") as said:
        offline.prepare()
        from yolomix.profiling import measuring, writing

        if save is not None:
            writing.check(save)
        said(0, 1, f"measuring {', '.join([model, *against])}")
        found = measuring.profile(model, imgsz or 640, batch or 1, device, against, train, int(depth))
    shown = [str(found)]
    if save is not None:
        shown.append(f"\n{writing.save(found, save)}")
    return Answer(found.to_dict(), shown)
