"""In a DDP worker: the CPU and gloo where Ultralytics would take CUDA and NCCL, and a note of how it ended.

Python imports this file at start because its folder is in PYTHONPATH. It knows nothing of yolomix.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

if "LOCAL_RANK" in os.environ:
    import torch
    from torch import distributed as dist
    from torch import nn
    from ultralytics.engine import trainer as module

    Native = nn.parallel.DistributedDataParallel
    init, train = module.BaseTrainer.__init__, module.BaseTrainer._do_train

    class OnCpu(Native):
        """Takes no device."""

        def __init__(self, model, device_ids, **kwargs):
            super().__init__(model, **kwargs)

    def on_cpu(self, *args, **kwargs):
        """Construct on the CPU, with as many processes on this node as devices are named."""
        init(self, *args, **kwargs)
        self.world_size = len(str(self.args.device).split(","))
        self.ddp = False

    def setup_ddp(self, world_size=None):
        """A gloo group instead of an NCCL one on the device LOCAL_RANK."""
        dist.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=world_size or self.world_size)

    def do_train(self, *args):
        """Train, then write what the test wants to know."""
        train(self, *args)
        model = self.model.module
        note = {
            "rank": dist.get_rank(),
            "world": dist.get_world_size(),
            "weights": sum(p.detach().double().abs().sum().item() for p in model.parameters()),
            "pictures": len(self.train_loader.sampler),
            "blocks": sorted({type(m).__name__ for m in model.modules() if type(m).__module__.startswith("yolomix")}),
            "folder": str(self.save_dir),
        }
        Path(os.environ["NOTES"], f"{note['rank']}.json").write_text(json.dumps(note))

    nn.parallel.DistributedDataParallel = OnCpu
    module.select_device = lambda *args, **kwargs: torch.device("cpu")
    module.BaseTrainer.__init__, module.BaseTrainer._setup_ddp = on_cpu, setup_ddp
    module.BaseTrainer._do_train = do_train
    module.BaseTrainer.final_eval = lambda self: None  # it needs CUDA in every process
