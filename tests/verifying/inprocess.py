"""A runtime without a process of its own, which takes seconds to import everything."""

from __future__ import annotations

import os

import pytest

from yolomix.verifying import child, images, inside, verifying
from yolomix.verifying.runtime import Runtime


class InThisProcess(Runtime):
    """The same, asked in this process."""

    def __init__(self, file, threads, device="cpu"):
        self.requests = []
        self.answers = child._answers(iter(self.requests.pop, None))
        super().__init__(file, threads, device)

    def _start(self):
        pass

    def _ask(self, request, limited=True):
        self.requests.append(request)
        return self._told(next(self.answers))

    def close(self):
        self._folder.cleanup()


def use(patch: pytest.MonkeyPatch, count: int = 4) -> None:
    """Open files in this process, and look at fewer images."""
    for module in (verifying, inside):
        patch.setattr(module, "Runtime", InThisProcess)
    patch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    patch.setattr(images, "COUNT", count)
