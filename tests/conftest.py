"""What every test has at hand: stored numbers, tolerances, and what did not run, said in the summary."""

from __future__ import annotations

import os

# Before Ultralytics is imported anywhere: no calls home, no installs, no spinning threads on shared machines.
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

torch.set_num_threads(1)
