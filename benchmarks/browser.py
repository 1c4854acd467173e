"""A detector in a browser beside the same file natively, one thread each: ``python -m benchmarks.browser``.

The kit of a model is opened in headless Chromium with onnxruntime-web, in WebAssembly and, by an adapter in software,
in WebGPU. Passes of the browser and of ONNX Runtime take turns, on noise; milliseconds are CPU time, of the browser
that of its processes of pages and of the GPU. It needs ``npm install --no-save onnxruntime-web@1.30.0``.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tests import browser

from benchmarks.table import RESULTS
from yolomix.kit import folder as kits
from yolomix.records import Conditions

WEB = Path(__file__).parents[1] / "node_modules" / "onnxruntime-web" / "dist"
# By provider: the module, and what it loads.
PROVIDERS = {"wasm": "ort.wasm.bundle.min.mjs", "webgpu": "ort.webgpu.bundle.min.mjs"}
WARM = 3
SLOW = 30.0  # seconds of a first pass after which there is no other
WEBGPU = ("--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-webgpu-adapter=swiftshader")
COLUMNS = (
    "model", "imgsz", "provider", "browser_ms", "native_ms", "ratio", "rounds", "largest_difference", "note", "browser",
    "web", "onnxruntime", "torch", "yolomix", "threads", "machine", "vector", "system", "date",
)  # fmt: skip
OPEN = """(async () => {
  const ort = await import(`${location.origin}/ort/%s`);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = `${location.origin}/ort/`;
  const kit = await (await fetch("kit.json")).json();
  const model = await (await fetch(kit.file)).arrayBuffer();
  const session = await ort.InferenceSession.create(model, { executionProviders: ["%s"] });
  const x = new Float32Array(await (await fetch("x.bin")).arrayBuffer());
  globalThis.pass = async () => {
    const feed = { [session.inputNames[0]]: new ort.Tensor("float32", x.slice(), [1, 3, ...kit.imgsz]) };
    return (await session.run(feed))[session.outputNames[0]].data;
  };
})()"""


def cpu_seconds(opened: browser.Browser) -> float:
    """CPU time of the processes of a browser that compute: those of pages, and that of the GPU."""
    told = opened.ask("SystemInfo.getProcessInfo")["processInfo"]
    return sum(process["cpuTime"] for process in told if process["type"] in ("renderer", "GPU"))


def in_turns(theirs: Callable[[], float], ours: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """What each says of its passes, the first ones not counted: browsers compile in several steps."""
    for _ in range(WARM):
        theirs(), ours()
    pairs = [(theirs(), ours()) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def measured(kit: Path, provider: str, rounds: int) -> dict[str, object]:
    """A row of a provider; where it does not run, only why."""
    import onnxruntime

    said = kits.read(kit)
    x = np.random.default_rng(0).random((1, 3, *said["imgsz"]), np.float32)
    (kit / "x.bin").write_bytes(x.tobytes())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(kit / said["file"], options, providers=["CPUExecutionProvider"])
    want = session.run(None, {session.get_inputs()[0].name: x})[0]
    with browser.served(kit) as address, browser.Browser(*(WEBGPU if provider == "webgpu" else ())) as opened:
        row: dict[str, object] = {"browser": opened.ask("Browser.getVersion")["product"]}
        page = opened.page(f"{address}/README.md")
        try:
            page.run(OPEN % (PROVIDERS[provider], provider))
            started = cpu_seconds(opened)
            got = np.array(page.run("pass().then((y) => Array.from(y))"), np.float32).reshape(want.shape)
            first = cpu_seconds(opened) - started
        except AssertionError as error:
            return {**row, "note": " ".join(str(error).split())[:300]}

        def _native() -> float:
            started = time.process_time()
            session.run(None, {session.get_inputs()[0].name: x})
            return 1e3 * (time.process_time() - started)

        def _there() -> float:
            started = cpu_seconds(opened)
            page.run("pass().then(() => null)")
            return 1e3 * (cpu_seconds(opened) - started)

        if first > SLOW:
            rounds, theirs, ours = 1, [1e3 * first], [_native()]
        else:
            theirs, ours = in_turns(_there, _native, rounds)
    ratios = [one / other for one, other in zip(theirs, ours, strict=True)]
    return {
        **row,
        "browser_ms": f"{statistics.median(theirs):.1f}",
        "native_ms": f"{statistics.median(ours):.1f}",
        "ratio": f"{statistics.median(ratios):.2f}",
        "rounds": rounds,
        "largest_difference": f"{np.abs(got - want).max():.1e}",
    }


def main(argv: list[str] | None = None) -> int:
    """Measure and write."""
    import onnxruntime

    parser = argparse.ArgumentParser(prog="python -m benchmarks.browser", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mamba-yolo-t.yaml")
    parser.add_argument("--imgsz", type=int, default=320, help="side of the images in pixels")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="CSV file; default: that of this machine in benchmarks/results")
    options = parser.parse_args(argv)
    from yolomix.host import offline

    offline.prepare()
    import yolomix

    torch.set_num_threads(1)
    path = (options.out or RESULTS / f"browser-{Conditions.here().slug}.csv").resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    with path.open("w", newline="", encoding="utf-8") as opened, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        torch.manual_seed(0)
        kit = Path(yolomix.YOLO(options.model).export(
            format="onnx", imgsz=options.imgsz, device="cpu", kit=True, verify=False
        )).resolve()  # fmt: skip
        shutil.copytree(WEB, kit / "ort", ignore=shutil.ignore_patterns("*.map", "*.js"))
        writer = csv.DictWriter(opened, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for provider in PROVIDERS:
            row = {**Conditions.here().row(), "model": options.model, "imgsz": options.imgsz, "provider": provider}
            row |= {"web": kits.WEB, "onnxruntime": onnxruntime.__version__, **measured(kit, provider, options.rounds)}
            writer.writerow(row)
            opened.flush()
            print(provider, row.get("ratio", row.get("note")), flush=True)
        os.chdir(before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
