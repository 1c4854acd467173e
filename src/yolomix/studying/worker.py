"""The process of one run: it ends with the process that began it, whatever happens to that one."""

from __future__ import annotations

import runpy
import sys

from yolomix import processes

if __name__ == "__main__":
    processes.watch()
    # The run reads its own words; what stands before them is gone.
    sys.argv = ["yolomix.studying.child", *sys.argv[1:]]
    runpy.run_module("yolomix.studying.child", run_name="__main__", alter_sys=True)
