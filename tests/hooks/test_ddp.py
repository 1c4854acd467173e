"""Training in two processes, with gloo on the CPU: the script that Ultralytics generates, and two nodes of torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import ultralytics
from ultralytics.engine import trainer as engine
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import dist

from tests.brought import GATE, Write, write  # noqa: F401
from tests.full import full
from tests.tiny import ROOT, TINY
from yolomix.hooks import ddp

OLDEST = ultralytics.__version__.startswith("8.3.")
SHIM = Path(__file__).parent / "workers"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Environment of a worker that runs on the CPU and leaves notes in ``tmp_path``."""
    path = os.pathsep.join([str(SHIM), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "NOTES": str(tmp_path), "OMP_NUM_THREADS": "1", "USE_LIBUV": "0"}


def notes(folder: Path) -> list[dict]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def check(folder: Path, *blocks: str) -> list[dict]:
    """Both processes trained half of the pictures each and ended with equal weights in our blocks."""
    first, second = found = notes(folder)
    assert [note["world"] for note in found] == [2, 2]
    assert first["weights"] == second["weights"]
    assert first["pictures"] == second["pictures"] == 3
    assert first["folder"] == second["folder"]
    assert set(blocks) <= set(first["blocks"])
    return found


def started(model: str, settings: dict, env: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Train in the two processes of the command that Ultralytics generates; returns the script."""
    monkeypatch.setattr(engine, "select_device", lambda *args, **kwargs: torch.device("cpu"))
    overrides = {**settings, "model": model, "device": "0,1", "batch": 6, "epochs": 1, "val": False}
    trainer = DetectionTrainer(overrides={**overrides, "project": str(folder), "amp": False})
    trainer.world_size = 2
    trainer.callbacks = {}
    command, file = dist.generate_ddp_command(*([2] if OLDEST else []), trainer)
    try:
        script = Path(file).read_text()
        done = subprocess.run(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout[-4000:]
    finally:
        dist.ddp_cleanup(trainer, file)
    return script


@full
def test_from_a_packaged_yaml(settings, env, tmp_path, monkeypatch):
    script = started("yolo11n-mlla.yaml", settings, env, tmp_path, monkeypatch)
    check(tmp_path, "MLLAttention")
    assert "    import yolomix\n" in script


@full
def test_from_a_checkpoint(trained, settings, env, tmp_path, monkeypatch):
    started(str(trained), settings, env, tmp_path, monkeypatch)
    check(tmp_path, "HaloAttention", "C2PSAMLLA", "MLLAttention")


def test_from_a_row_that_names_a_class_with_its_module(write: Write, settings, env, monkeypatch):  # noqa: F811
    folder = write("yx_workers.py", GATE).parent
    write("yolo0-own.yaml", TINY.replace("HaloAttention, [2, 1, 8, 2]", "yx_workers.Gate, [0.25]"))
    script = started("yolo0n-own.yaml", settings, env, folder, monkeypatch)
    check(folder, "MLLAttention")
    assert "import yolomix" in script


NODE = """
import sys
from yolomix import YOLO
settings = dict(data=sys.argv[2], imgsz=64, epochs=1, batch=6, device="0", amp=False, plots=False, val=False)
YOLO(sys.argv[1]).train(**settings, project=sys.argv[3])
"""


@full
@pytest.mark.skipif(OLDEST, reason="places processes by global rank, see the next test")
def test_two_nodes_of_torchrun(tiny, dataset, env, tmp_path):
    (tmp_path / "node.py").write_text(NODE)
    (tmp_path / "train").mkdir()  # so that only the first process counts up
    where = ["--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1"]
    port = f"--master_port={dist.find_free_network_port()}"
    running = []
    for rank in (0, 1):
        command = [sys.executable, "-m", "torch.distributed.run", *where, port, f"--node_rank={rank}"]
        node = {**env, "PYTHONPATH": f"{env['PYTHONPATH']}{os.pathsep}{ROOT}"}
        command += [str(tmp_path / "node.py"), str(tiny), str(dataset), str(tmp_path)]
        running.append(subprocess.Popen(command, cwd=tmp_path, env=node, stdout=-1, stderr=-2, text=True))
    said = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said[0][-2000:] + said[1][-2000:]
    check(tmp_path, "HaloAttention", "C2PSAMLLA", "MLLAttention")


def test_a_node_without_the_first_ones_disk_gets_its_checkpoint(tmp_path, monkeypatch):
    there, here = tmp_path / "there.pt", tmp_path / "runs" / "here.pt"
    there.write_bytes(b"weights")
    sent = []
    monkeypatch.setenv("LOCAL_RANK", "0")
    for rank, file in ((0, there), (1, here), (1, there)):
        fake = SimpleNamespace(
            get_rank=lambda rank=rank: rank,
            barrier=lambda: None,
            broadcast_object_list=lambda items, src: sent.extend(items) if not sent else items.__setitem__(0, sent[0]),
        )
        monkeypatch.setattr(ddp, "dist", fake)
        ddp._share(file)
    assert (sent, here.read_bytes()) == ([b"weights"], b"weights")


def old_trainer():
    """A trainer of a version that places a process by its global rank."""

    class Old:
        world_size = 1

        def _setup_ddp(self):
            raise NotImplementedError

    return Old()


def test_two_nodes_need_a_version_that_knows_local_ranks(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(RuntimeError, match=r"over several nodes \(4 processes, 1 on this one\).*pip install -U ultra"):
        ddp.do_train(lambda trainer: None, old_trainer())


@pytest.mark.parametrize(("local", "world", "here"), [(None, "4", 1), ("0", "2", 2), ("0", "4", 0)])
def test_one_node_and_cpu_are_left_to_ultralytics(monkeypatch, local, world, here):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local:
        monkeypatch.setenv("LOCAL_RANK", local)
    monkeypatch.setenv("WORLD_SIZE", world)
    calls = []
    ddp.do_train(lambda *args: calls.append(args), trainer := SimpleNamespace(world_size=here))
    ddp.do_train(lambda *args: calls.append(args), trainer, here)
    assert calls == [(trainer,), (trainer, here)]


def test_the_script_imports_the_modules_of_users_blocks(tmp_path):
    from tests.hooks import blocks  # noqa: F401

    file = tmp_path / "script.py"
    file.write_text('x = 1\nif __name__ == "__main__":\n    train()\n')
    ddp.generate_ddp_file(lambda trainer: str(file), None)
    text = file.read_text()
    compile(text, "script", "exec")
    assert text.index("sys.path = ") < text.index("import yolomix") < text.index("import tests.hooks.blocks")
    assert text.endswith("    train()\n")


def test_a_script_of_another_shape_is_said(tmp_path):
    (tmp_path / "script.py").write_text("train()\n")
    with pytest.raises(RuntimeError, match="cannot make DDP workers know yolomix"):
        ddp.generate_ddp_file(lambda trainer: str(tmp_path / "script.py"), None)
