"""``python -m yolomix.verifying.child``: the process in which an exported file is opened and run.

On stdin is a line of JSON for every request, on stdout one for every answer; what a runtime prints goes to stderr. The
first request says what to open, ``{"file": ..., "device": ..., "threads": ...}``. In the others ``do`` is ``run``,
``evaluate`` or ``predict``, ``given`` a pickle of what it takes, and ``out`` where a pickle of the result goes. The
process ends with its stdin, also while a runtime hangs: whoever asked may have been killed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pickle
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Answer = dict[str, Any]

# What opens a file, by what its name ends in; others are opened by what Ultralytics opens them with.
RUNTIMES = {
    ".onnx": "onnxruntime",
    "_openvino_model": "openvino",
    ".torchscript": "torch",
    "_ncnn_model": "ncnn",
    ".mnn": "MNN",
    ".tflite": "ai-edge-litert",
}


def main() -> int:
    """Answer requests until stdin ends."""
    requests = queue.SimpleQueue[Answer]()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for answer in _answers(iter(requests.get, None)):
            answers.write(json.dumps(answer, default=str) + "\n")
            answers.flush()
    return 0


def _listen(requests: queue.SimpleQueue[Answer]) -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(0)


def _answers(requests: Iterator[Answer]) -> Iterator[Answer]:
    first = next(requests)
    try:
        backend, opened = _open(Path(first["file"]), first["device"], first["threads"])
    except ModuleNotFoundError as error:
        yield {"missing": error.name or str(error)}
        return
    except Exception as error:  # noqa: BLE001, a runtime raises whatever it likes
        yield {"error": f"{type(error).__name__}: {error}"}
        return
    yield opened
    for request in requests:
        try:
            yield {"run": _run, "evaluate": _evaluate, "predict": _predict}[request["do"]](backend, request)
        except Exception as error:  # noqa: BLE001
            yield {"error": f"{type(error).__name__}: {error}"}


def _open(file: Path, device: str, threads: int) -> tuple[Any, Answer]:
    """The open file, and what it says about itself."""
    # Most runtimes take a thread for every processor that the process has.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    from yolomix.host import offline

    offline.prepare()
    import torch

    from yolomix.host import runtime
    from yolomix.verifying import resident

    torch.set_num_threads(threads)
    package = next((name for suffix, name in RUNTIMES.items() if file.name.endswith(suffix)), None)
    if package == "onnxruntime":
        _pin_onnxruntime(threads)
    resident.forget()
    before, started = resident.now(), time.perf_counter()
    backend: Any = runtime.opened(file, device)
    seconds = time.perf_counter() - started
    session = getattr(backend, "session", None)  # of ONNX Runtime
    inputs = session.get_inputs() if session is not None else []
    return backend, {
        "metadata": getattr(backend, "metadata", None) or {},
        "dynamic": any(isinstance(size, str) for one in inputs for size in one.shape),
        "half": any("float16" in one.type for one in inputs),
        "seconds": seconds,
        "memory": before,
        "runtime": f"{package} {importlib.metadata.version(package)}" if package else type(backend).__name__,
    }


def _pin_onnxruntime(threads: int) -> None:
    """Give every session that many threads: ONNX Runtime goes by the machine, whatever the process may use."""
    import onnxruntime

    native = onnxruntime.InferenceSession

    def _session(path: Any, sess_options: Any = None, **more: Any) -> Any:
        options = sess_options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return native(path, options, **more)

    onnxruntime.InferenceSession = _session


def _run(backend: Any, request: Answer) -> Answer:
    """One pass: images (B, C, H, W) as an array; the outputs as a list of arrays."""
    import torch

    from yolomix import files
    from yolomix.profiling.layers import tensors
    from yolomix.verifying import resident

    x = torch.from_numpy(pickle.loads(Path(request["given"]).read_bytes())).to(getattr(backend, "device", "cpu"))
    with torch.inference_mode():
        started, used = time.perf_counter(), time.process_time()
        outputs = [y.cpu().numpy() for y in tensors(backend(x))]
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
    files.write(request["out"], pickle.dumps(outputs), flush=False)
    return {"seconds": seconds, "cpu": cpu, "memory": resident.most()}


def _evaluate(backend: Any, request: Answer) -> Answer:
    """Family, file, task and arguments of an evaluation; its result is that of ``yolomix.host.evaluating.evaluate``."""
    from yolomix import files
    from yolomix.host import evaluating

    family, file, task, arguments = pickle.loads(Path(request["given"]).read_bytes())
    found = evaluating.evaluate(evaluating.opened(family, file, task), None, arguments)
    files.write(request["out"], pickle.dumps(found), flush=False)
    return {}


def _predict(backend: Any, request: Answer) -> Answer:
    """Family, file, task, images and arguments; its result is that of ``yolomix.host.predicting.predicted``."""
    from yolomix import files
    from yolomix.host import evaluating, predicting

    family, file, task, images, arguments = pickle.loads(Path(request["given"]).read_bytes())
    found = predicting.predicted(evaluating.opened(family, file, task), images, arguments)
    files.write(request["out"], pickle.dumps(found), flush=False)
    return {}


if __name__ == "__main__":
    sys.exit(main())
