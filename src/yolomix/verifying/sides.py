"""Both sides of a verification: an open file and its model in PyTorch, with what each gives for the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from yolomix.host.exported import Contents
from yolomix.profiling.latency import Latency
from yolomix.progress import Progress
from yolomix.verifying import inside
from yolomix.verifying.images import Batch
from yolomix.verifying.reference import Reference, Routes
from yolomix.verifying.runtime import Pass, Runtime

WARM = 3  # passes that are not timed, if there are more


@dataclass
class Sides:
    """An exported file and its model.

    Attributes:
        yolo: the ``YOLO`` that was exported.
        file: the exported file.
        contents: what it says about itself.
        runtime: where it is open.
        reference: the model in PyTorch.
        batches: what both look at.
        mine: a pass of PyTorch for each batch.
        theirs: a pass of the file for each.
    """

    yolo: Any
    file: Path
    contents: Contents
    runtime: Runtime
    reference: Reference
    batches: Sequence[Batch]
    mine: Sequence[Pass]
    theirs: Sequence[Pass]
    _routes: dict[int, Routes] = field(default_factory=dict)

    def routes(self, i: int) -> Routes:
        """Which way the file sends tokens of batch ``i``; empty where it has no routers or nobody can look inside."""
        if i not in self._routes:
            asked = bool(self.reference.routers) and inside.can_be_asked(self.file)
            x, threads = self.batches[i].images, torch.get_num_threads()
            self._routes[i] = inside.routes_of(self.file, self.reference, x, threads) if asked else {}
        return self._routes[i]

    def flips(self, i: int) -> int:
        """How many tokens of batch ``i`` the file sends another way than PyTorch in float64, all at near ties."""
        return self._flips(i)[0]

    def ties(self, i: int) -> Routes:
        """:meth:`routes`, where the file takes another way than PyTorch at near ties only, else nothing."""
        return self.routes(i) if self._flips(i)[1] == 0 else {}

    def _flips(self, i: int) -> tuple[int, int]:
        return inside.flips(self.reference, self.batches[i].images, self.routes(i)) if self.routes(i) else (0, 0)

    def located(self, i: int) -> str:
        """The layer that first differs in batch ``i``, in words."""
        if not inside.can_be_asked(self.file):
            return "Which layer differs can be told of ONNX files only"
        return inside.located(
            self.file, self.reference, self.batches[i].images, self._routes.get(i, {}), torch.get_num_threads()
        )


def compared(
    yolo: Any, file: Path, contents: Contents, runtime: Runtime, batches: Sequence[Batch], progress: Progress
) -> Sides:
    """Let both sides look at every batch, in turns.

    Raises:
        RefusedError: the file does not take the images that it says it takes.
    """
    progress(0, len(batches), f"comparing {file.name} with PyTorch")
    first = runtime.run(batches[0].images.numpy())
    outputs = first.outputs[0]
    reference = Reference(yolo.model, contents, rows=outputs.shape[1] if outputs.ndim == 3 else None)
    mine, theirs = [reference.timed(batches[0].images)], [first]
    for done, batch in enumerate(batches[1:], 1):
        progress(done, len(batches), f"comparing {file.name} with PyTorch")
        theirs.append(runtime.run(batch.images.numpy()))
        mine.append(reference.timed(batch.images))
    return Sides(yolo, file, contents, runtime, reference, batches, mine, theirs)


def latency(passes: Sequence[Pass]) -> Latency:
    """Of a batch, without the first passes."""
    timed = passes[WARM:] or passes
    return Latency.of([one.seconds for one in timed], [one.cpu for one in timed])
