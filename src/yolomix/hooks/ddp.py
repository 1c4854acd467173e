"""Training in several processes: what Ultralytics' workers lack to know our blocks, and training over several nodes."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import distributed as dist

from yolomix import files
from yolomix.nn import origins

MAIN = 'if __name__ == "__main__":\n'


def generate_ddp_file(native: Callable[..., str], trainer: Any) -> str:
    """Write the workers' script as ever; its first lines import us and the modules of the user's registered blocks.

    Raises:
        RuntimeError: the script has no place for them.
    """
    file = native(trainer)
    text = Path(file).read_text(encoding="utf-8")
    if MAIN not in text:
        raise RuntimeError(
            f"cannot make DDP workers know yolomix: the script {file} of this Ultralytics has no {MAIN!r}"
        )
    lines = ["import sys", f"sys.path = {sys.path!r}", *(f"import {name}" for name in ("yolomix", *origins.homes()))]
    lines += [f"from yolomix.nn import origins; origins.recall(*{told})" for told in origins.told()]
    ours = "".join(f"    {line}\n" for line in lines)
    files.write_text(file, text.replace(MAIN, MAIN + ours, 1))
    return file


def do_train(native: Callable[..., None], trainer: Any, *args: int) -> None:
    """Train; under ``torchrun --nnodes`` with as many processes as torchrun started, on all nodes together.

    Ultralytics takes the number of processes from the device list, which names only those of one node.

    Raises:
        RuntimeError: this version of Ultralytics cannot place a process whose rank is no device of its node.
    """
    here = args[0] if args else trainer.world_size  # older versions pass it, newer ones keep it
    everywhere = int(os.environ.get("WORLD_SIZE", 1))
    if "LOCAL_RANK" in os.environ and 0 < here < everywhere:
        if "LOCAL_RANK" not in inspect.getsource(type(trainer)._setup_ddp):
            raise RuntimeError(
                f"training over several nodes ({everywhere} processes, {here} on this one) needs an Ultralytics that "
                "takes a process's device from LOCAL_RANK, this one takes it from the global rank: "
                "pip install -U ultralytics"
            )
        _join_nodes(trainer, everywhere)
    return native(trainer, *args)


def _join_nodes(trainer: Any, processes: int) -> None:
    """Make all processes one group, with one folder for results and with best.pt on every node at the end."""
    setup_ddp, final_eval = trainer._setup_ddp, trainer.final_eval

    def _setup_and_agree() -> None:
        setup_ddp()
        folder = [str(trainer.save_dir)]
        dist.broadcast_object_list(folder, src=0)
        _write_to(trainer, Path(folder[0]))

    def _share_and_evaluate() -> None:
        _share(trainer.best)
        final_eval()

    trainer.world_size = processes
    trainer._setup_ddp, trainer.final_eval = _setup_and_agree, _share_and_evaluate


def _write_to(trainer: Any, folder: Path) -> None:
    """Set every path that a trainer derives from its folder."""
    trainer.save_dir, trainer.wdir, trainer.csv = folder, folder / "weights", folder / "results.csv"
    trainer.last, trainer.best = trainer.wdir / "last.pt", trainer.wdir / "best.pt"
    trainer.args.save_dir = str(folder)


def _share(file: Path) -> None:
    """Give every node without a shared disk the first process's file, which all of them evaluate together."""
    content = [file.read_bytes() if dist.get_rank() == 0 and file.exists() else None]
    dist.broadcast_object_list(content, src=0)
    if content[0] is not None and os.environ["LOCAL_RANK"] == "0" and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write(file, content[0])
    dist.barrier()
