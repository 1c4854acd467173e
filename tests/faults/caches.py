"""Compiled kernels and rendered images on disk: damaged, replaced, forbidden, half written by a killed process."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults import apart
from tests.faults.injection import ERRORS, Injection
from tests.faults.kind import Bad, Case, Kind, Limits

KERNEL = "def add(x):\n    return x + 1\n"
SPLITS = {"train": 3, "val": 2, "test": 2}
CALLS = {"kernel": range(1, 11), "sample": range(1, 80, 5)}  # on files, when a cache is filled


def listed() -> Iterator[Case]:
    """Each file with each damage, the surroundings of each cache, and each call of its filling that fails."""
    for file, damage in itertools.product((".nbi", ".nbc"), DAMAGES):
        yield {"cache": "kernel", "file": file, "damage": damage}
    for damage in ("flip", "cut"):
        for file, part in itertools.product((".nbi", ".nbc"), range(1, 12)):
            yield {"cache": "kernel", "file": file, "damage": damage, "at": part / 12}
    for file, damage in itertools.product(SAMPLE, DAMAGES):
        yield {"cache": "sample", "file": file, "damage": damage}
    for cache, around in itertools.product(CACHES, AROUND):
        yield {"cache": cache, "around": around}
    for cache, how in itertools.product(CACHES, ("kill", *ERRORS)):
        for n in CALLS[cache]:
            yield {"cache": cache, "n": n, "how": how}
    for number, damage in itertools.product(range(4), ("empty", "flip", "folder")):
        for file in (".nbi", ".nbc"):
            yield {"cache": "real", "number": number, "file": file, "damage": damage}


def check(case: Case) -> str:
    """Fill a cache, damage it, use it twice: the same answer, and whole again."""
    os.sync = lambda: None  # it waits for the disks of everybody
    if case["cache"] == "real":
        return _real(case)
    use, expect = CACHES[case["cache"]]
    Path.cwd().parent.chmod(0o711)  # for those who are not root
    Path("kernels.py").write_text(KERNEL)
    if "n" in case:
        return _filled_with_failures(case, use, expect)
    first = apart.do(use)
    expect(first, first, found=False)
    if "around" in case:
        enter, heals = AROUND[case["around"]]
        try:
            expect(apart.do(lambda: (enter(Path("cache").resolve()), use())[1]), first, found=None)
        except apart.RefusedError as error:
            if case["around"] != "no room" or "cannot write" not in str(error):
                raise
    else:
        heals = _damage(case)
        expect(apart.do(use), first, found=False)
    expect(apart.do(use), first, found=True if heals else None)
    _no_leftovers()
    return "made again" if heals else "done without"


def _filled_with_failures(case: Case, use: Callable[[], Any], expect: Callable[..., None]) -> str:
    """The n-th call on a file fails while the cache is filled for the first time."""

    def fill() -> Any:
        injection = Injection(Path(), case["n"], case["how"])
        injection.start()
        return [use(), injection.fired]

    if case["how"] == "kill":
        ended = not apart.killed(fill)
    else:
        ended = not apart.do(fill)[1]
    for left in Path("cache").rglob("*"):
        os.utime(left, (1e9, 1e9))
    now = apart.do(use)
    expect(now, now, found=None)
    expect(apart.do(use), now, found=True)
    _no_leftovers()
    return "end" if ended else "made again"


def _damage(case: Case) -> bool:
    """Do what is said to the one file; whether that can be mended."""
    names = [path for path in Path("cache").rglob(f"*{case['file']}") if path.is_file()]
    if not names:
        raise RuntimeError(f"the cache has no file {case['file']}")
    return DAMAGES[case["damage"]](sorted(names)[0], case.get("at", 0.5))


def _flip(file: Path, at: float) -> bool:
    content = bytearray(file.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0x10
    return _written(file, content)


def _written(file: Path, content: bytes) -> bool:
    file.write_bytes(content)
    return True


def _replaced(file: Path, make: Callable[[], Any]) -> bool:
    file.unlink()
    make()
    return False


def _zeros(file: Path, at: float) -> bool:
    content = file.read_bytes()
    return _written(file, content[: len(content) // 3].ljust(len(content), b"\0"))


DAMAGES: dict[str, Callable[[Path, float], bool]] = {
    "empty": lambda file, at: _written(file, b""),
    "cut": lambda file, at: _written(file, file.read_bytes()[: int(at * file.stat().st_size)]),
    "zeros": _zeros,
    "flip": _flip,
    "longer": lambda file, at: _written(file, file.read_bytes() + b"\0"),
    "another's": lambda file, at: _written(file, b"somebody else's file"),
    "gone": lambda file, at: file.unlink() is None,
    "folder": lambda file, at: _replaced(file, file.mkdir),
    "folder with a file": lambda file, at: _replaced(file, lambda: (file.mkdir(), (file / "a").touch())),
    "link to itself": lambda file, at: _replaced(file, lambda: file.symlink_to(file)) or True,
    "link to nothing": lambda file, at: _replaced(file, lambda: file.symlink_to("nothing")) or True,
}
SAMPLE = ("data.yaml", "train/0000.jpg", "val/0001.jpg", "test/0000.txt", "train/0002.txt")


def _forbidden(cache: Path) -> None:
    for path in (cache, *cache.rglob("*")):
        path.chmod(0)
    apart.without_rights()


def _read_only(cache: Path) -> None:
    for path in cache.rglob("*"):
        path.chmod(0o444 if path.is_file() else 0o555)
    cache.chmod(0o555)
    apart.without_rights()


def _files_forbidden(cache: Path) -> None:
    for path in cache.rglob("*"):
        path.chmod(0 if path.is_file() else 0o755)
    cache.chmod(0o755)
    apart.without_rights()


def _file_instead(cache: Path) -> None:
    shutil.rmtree(cache)
    cache.touch()


def _no_room(cache: Path) -> None:
    shutil.rmtree(cache)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def _left_behind(cache: Path) -> None:
    """What processes left that were killed while they filled it."""
    pid = apart.start(lambda: None)[0]
    os.waitpid(pid, 0)
    for file in [path for path in cache.rglob("*") if path.suffix in (".nbi", ".nbc")]:
        left = file.with_name(f"{file.name}.tmp.123")
        left.touch()
        os.utime(left, (1e9, 1e9))
        file.unlink()
    for folder in cache.glob("sample-*"):
        (cache / f"{folder.name}-{pid}-abcdefgh" / "new").mkdir(parents=True)
        shutil.rmtree(folder)


AROUND: dict[str, tuple[Callable[[Path], Any], bool]] = {
    "gone": (shutil.rmtree, True),
    "forbidden": (_forbidden, False),
    "read-only": (_read_only, False),
    "files forbidden": (_files_forbidden, False),
    "a file instead": (_file_instead, False),
    "no room": (_no_room, False),
    "left behind": (_left_behind, True),
}


def _kernel() -> dict[str, Any]:
    """Compile or find a small kernel: its answer, whether it was found, and what was said."""
    _caches_in("cache")
    from yolomix.ops._numba import jit

    said = _heard()
    spec = importlib.util.spec_from_file_location("kernels", Path("kernels.py").resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernels"] = module  # where what is kept says it belongs
    spec.loader.exec_module(module)
    add = jit.kernel(module.add)
    return {"answer": add(4), "found": sum(add.stats.cache_hits.values()) > 0, "said": said}


def _expect_kernel(now: dict[str, Any], first: dict[str, Any], found: bool | None) -> None:
    if now["answer"] != 5:
        raise Bad(f"the kernel answers {now['answer']}")
    if found is not None and now["found"] != found:
        raise Bad(f"the kernel was {'not ' * (not now['found'])}found in its cache; said: {now['said']}")


def _caches_in(folder: str) -> None:
    from numba.core import config

    config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = str(Path(folder).resolve())


def _sample() -> dict[str, Any]:
    """Render or find a small sample dataset: the content of its files, and what was said."""
    from yolomix import data

    os.environ["YOLOMIX_CACHE"] = str(Path("cache").resolve())
    said = _heard()
    data.SPLITS.clear()
    data.SPLITS.update(SPLITS)
    drawn: list[str] = []
    native = data.render
    data.render = lambda *args, **kwargs: drawn.append("") or native(*args, **kwargs)  # type: ignore[func-returns-value]
    folder = data.sample_dataset().parent
    kept = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            kept[str(path.relative_to(folder))] = path.read_bytes().hex()[:4000]
    return {"answer": _digest(kept), "found": not drawn, "said": said, "images": len(list(folder.rglob("*.jpg")))}


def _digest(kept: dict[str, str]) -> str:
    import hashlib

    return hashlib.sha256(repr(sorted(kept.items())).encode()).hexdigest()


def _expect_sample(now: dict[str, Any], first: dict[str, Any], found: bool | None) -> None:
    if now["answer"] != first["answer"] or now["images"] != sum(SPLITS.values()):
        raise Bad(f"{now['images']} images, or other ones than at first; said: {now['said']}")
    if found is not None and now["found"] != found:
        raise Bad(f"the images were {'not ' * (not now['found'])}found; said: {now['said']}")


CACHES: dict[str, tuple[Callable[[], Any], Callable[..., None]]] = {
    "kernel": (_kernel, _expect_kernel),
    "sample": (_sample, _expect_sample),
}


def _real(case: Case) -> str:
    """One file of the kernels that models use is damaged: numba is still chosen, and computes the same."""
    answer = apart.do(lambda: _scan(case["number"]), 200)
    _damage(case)
    again = apart.do(lambda: _scan(case["number"]), 200)
    if answer != again or answer[0]:
        raise Bad(f"with the damaged file {again}, before {answer}")
    return "made again"


def _scan(number: int) -> list[Any]:
    """Refusal and error of the numba backend, its kernels in ``cache``, first copied from where they are kept."""
    _caches_in("cache")
    from yolomix.ops import selftest
    from yolomix.ops._numba import jit
    from yolomix.ops.selective_scan import numba_kernels as of_scan
    from yolomix.ops.ss2d import numba_kernels as of_ss2d

    kernels = [of_scan.forward, of_scan.backward, of_ss2d.forward, of_ss2d.backward]
    fresh = not Path("cache").exists()
    for i, kernel in enumerate(kernels):
        base = Path(kernel._cache._cache_path) / kernel._cache._impl.filename_base
        kernel._cache = jit._Cache(kernel.py_func)
        for file in base.parent.glob(f"{base.name}.*") if fresh and i == number else ():
            shutil.copy2(file, kernel._cache._cache_path)
    package = "selective_scan" if number < 2 else "ss2d"
    module, gradients = f"yolomix.ops.{package}.numba_cpu", bool(number % 2)
    return [selftest.refusal(module, "cpu", gradients), selftest._error(module, "cpu", gradients)]


def _heard() -> list[str]:
    """A list that gets what yolomix logs."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage()[:300])  # type: ignore[method-assign]
    logging.getLogger("yolomix").addHandler(handler)
    logging.getLogger("yolomix").setLevel(logging.INFO)
    return said


def _no_leftovers() -> None:
    from yolomix.data import FOLDER

    left = [path for path in Path("cache").rglob("*") if ".tmp" in path.name or path.name.startswith(f"{FOLDER}-")]
    if left:
        raise Bad(f"left behind: {left}")


def _trusting() -> None:
    """Take a damaged cache file for what it says."""
    from yolomix.ops._numba import jit

    jit._CheckedFile._read = _unchecked  # type: ignore[method-assign]


def _unchecked(self: Any, path: str) -> Any:
    import pickle

    with open(path, "rb") as file:
        return pickle.loads(file.read()[32:])


def _any_image() -> None:
    """Take whatever has the name of an image for one."""
    from yolomix import data

    data._whole = lambda folder: (folder / "data.yaml").is_file()


KIND = Kind(
    name="caches",
    tries="compiled kernels and rendered images damaged, forbidden, half written, each file and each call",
    figure="the same answer, made again, nothing left over",
    check=check,
    listed=listed,
    first=({"cache": "sample", "file": "train/0002.txt", "damage": "gone"},),
    limits=Limits(seconds=120, wall=300),
    small=6,
    plants={"trusting": _trusting, "any image": _any_image},
)
