"""Compiled kernels on disk: kept, never mixed up, and done without where nothing can be written."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import fresh
from tests.full import cases
from yolomix.ops._numba import jit


def test_without_a_place_for_a_cache_a_kernel_is_compiled_all_the_same(monkeypatch):
    monkeypatch.setattr(jit._Stored, "_locator_classes", [])
    doubled = jit.kernel(lambda x: 2 * x)
    assert doubled(4) == 8
    assert type(doubled._cache).__name__ == "NullCache"


def test_another_fault_of_the_cache_is_not_hidden(monkeypatch):
    def broken(function):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(jit, "_Cache", broken)
    with pytest.raises(RuntimeError, match="disk on fire"):
        jit.kernel(lambda x: x)


def test_a_change_in_any_kernel_file_names_another_cache(monkeypatch, tmp_path):
    """Numba looks at a kernel's own file only; machine code of a changed helper must not be found again."""
    source = tmp_path / "kernels.py"
    source.write_text("def add(x):\n    return x + 1\n")
    spec = importlib.util.spec_from_file_location("kernels", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    names = []
    for digest in ("0" * 16, "1" * 16):
        monkeypatch.setattr(jit, "_sources", lambda digest=digest: digest)
        compiled = jit.kernel(module.add)
        assert compiled(1) == 2
        names.append(compiled._cache._impl.filename_base)
    assert names[0] != names[1]
    assert all(list(source.parent.rglob(f"{name}*.nbi")) for name in names)


def test_the_digest_is_of_the_sources():
    assert len(jit._sources()) == 16
    assert jit._sources.__wrapped__() == jit._sources()


def ran(script: Path, *words: str, **variables: str) -> fresh.Done:
    """``python SCRIPT WORDS``: a kernel is kept by the file that it stands in."""
    return fresh.run(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", *words, **variables)


LANE_COUNTER = """
import sys
import numpy as np
from yolomix.ops._numba import jit, processor

if "without the processor" in sys.argv:
    jit._target = str
if "16" in sys.argv:
    processor.LANES = 16
from yolomix.ops._numba.simd import splat, store


@jit.kernel
def write_ones(x):
    store(x, 0, splat(1.0))


if __name__ == "__main__":
    x = np.zeros(64, np.float32)
    write_ones(x)
    print(int(x.sum()), sum(write_ones.stats.cache_hits.values()))
"""

AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
SSE2 = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}


@pytest.fixture
def lanes(tmp_path):
    """A function that runs one kernel in a process: how many lanes its machine code has, and whether it was found.

    Every call moves the cache to another folder first, as somebody who copies an environment to another machine does.
    """
    source = tmp_path / "lane_counter.py"
    source.write_text(LANE_COUNTER)
    folders = [tmp_path / "cache 0"]

    def run(*arguments: str, **variables: str) -> tuple[int, bool]:
        folders.append(tmp_path / f"cache {len(folders)}")
        if folders[-2].exists():
            shutil.move(folders[-2], folders[-1])
        done = ran(source, *arguments, **AVX2 | variables, NUMBA_CACHE_DIR=str(folders[-1]))
        assert done.returncode == 0, done.stderr
        count, hits = done.stdout.split()
        return int(count), hits != "0"

    return run


x86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="it names x86 processors")


@x86
def test_a_kernel_is_found_by_the_processor_that_it_was_compiled_for_alone(lanes, tmp_path):
    def files() -> int:
        return len({path.name for path in tmp_path.rglob("*.nb?")})

    assert lanes() == (8, False)
    assert files() == 2, "an index and a kernel"
    assert lanes("16") == (16, False), "the same processor with vectors of another length"
    assert lanes(**SSE2) == (8, False), "another processor"
    assert lanes() == (8, True)
    # Numba numbers kernels by what it finds in their index. Of two processors that write one index at the same time,
    # one could lose its entry and the other find the wrong kernel behind its own. So they share no file.
    assert files() == 6


@x86
def test_the_index_of_numba_alone_would_mix_lanes_up(lanes):
    """Why the processor is part of a cache file's name: without it, a kernel of 8 lanes runs where 16 are meant."""
    assert lanes("without the processor") == (8, False)
    assert lanes("without the processor", "16") == (8, True)


KEPT = """
import glob, logging, os, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from yolomix.ops._numba import jit

@jit.kernel
def doubled(x):
    return 2 * x

assert doubled(4) == 8
print("hits", sum(doubled.stats.cache_hits.values()))
"""

DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "changed": lambda content: content[:-9] + bytes(b ^ 1 for b in content[-9:]),
    "other": lambda content: b"somebody else's file",
}


def hits(script: Path, cache: Path) -> str:
    done = ran(script, NUMBA_CACHE_DIR=str(cache))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> tuple[Path, Path]:
    """A script with a kernel, and the cache that it was kept in and found in again."""
    folder = tmp_path_factory.mktemp("kept")
    script, cache = folder / "script.py", folder / "cache"
    script.write_text(KEPT)
    assert hits(script, cache) == "hits 0\n"
    assert hits(script, cache) == "hits 1\n"
    return script, cache


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", cases(DAMAGES, always=["cut"]))
def test_a_damaged_cache_file_is_named_and_compiled_once_more(kept, tmp_path, damage, suffix):
    script = kept[0]
    cache = shutil.copytree(kept[1], tmp_path / "cache")
    (file,) = cache.rglob(f"*.{suffix}")
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    said = hits(script, cache)
    assert f"{file}, a compiled kernel, is damaged: it is compiled once more" in said
    assert said.endswith("hits 0\n")
    assert hits(script, cache) == "hits 1\n"


def test_without_room_for_the_cache_a_kernel_is_compiled_all_the_same(tmp_path):
    script = tmp_path / "script.py"
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))\n"
    script.write_text(limit + KEPT)
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True)  # files have no room
    assert (done.returncode, done.stderr) == (0, "")
    assert "a compiled kernel cannot be kept in" in done.stdout
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_what_a_killed_process_left_is_removed(tmp_path):
    target = tmp_path / "a.nbi"
    left, fresh = tmp_path / "a.nbi.tmp.1", tmp_path / "a.nbi.tmp.2"
    left.touch()
    fresh.touch()
    os.utime(left, (1e9, 1e9))
    jit._remove_leftovers(target)
    assert [file.exists() for file in (left, fresh)] == [False, True]
