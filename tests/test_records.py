"""Conditions and metrics of a run: one value for JSON and CSV, and files that are named by machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest
import torch

import yolomix
from yolomix import records
from yolomix.records import Conditions, Processor, Record

ZEN4 = Processor("AMD EPYC", "znver4", "x86_64", 2, ("avx2", "avx512f"), "AVX-512", "AVX512")
CONDITIONS = Conditions({"yolomix": "0.1.0", "torch": "2.15.0"}, "cpu", 1, ZEN4, "Linux 6.1", "2026-11-20")


@pytest.mark.parametrize(
    ("name", "model", "architecture", "vector", "slug"),
    [
        ("AMD EPYC", "znver4", "x86_64", "AVX-512", "amd-epyc-zen4-avx512"),
        ("AMD EPYC 7763 64-Core Processor", "znver3", "x86_64", "AVX2", "amd-epyc-7763-zen3-avx2"),
        ("Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz", "skylake", "x86_64", "AVX2", "intel-core-i7-8550u-skylake-avx2"),
        ("Apple M2 Pro", "apple-m2", "arm64", "NEON", "apple-m2-pro-neon"),
        ("aarch64", "generic", "aarch64", "NEON", "aarch64-neon"),
        ("some processor", "", "x86_64", "SSE", "some-sse"),
    ],
)
def test_a_machine_has_a_name_for_files(name, model, architecture, vector, slug):
    assert Processor(name, model, architecture, 4, (), vector, "").slug == slug


def test_a_name_says_the_threads_or_the_gpu():
    assert CONDITIONS.slug == "amd-epyc-zen4-avx512-1thread"
    assert Conditions({}, "cpu", 8, ZEN4, "", "").slug == "amd-epyc-zen4-avx512-8threads"
    assert Conditions({}, "NVIDIA H100 80GB HBM3", 8, ZEN4, "", "").slug == "nvidia-h100-80gb-hbm3"


@pytest.mark.parametrize(("vector", "bits"), [("AVX-512", 512), ("AVX2", 256), ("SSE", 128), ("NEON", 128)])
def test_vector_width(vector, bits):
    assert Processor("a", "b", "c", 1, (), vector, "").vector_bits == bits


def test_this_machine():
    found = Conditions.here()
    assert found.versions["yolomix"] == yolomix.__version__
    assert found.versions["torch"] == torch.__version__
    assert found.threads == torch.get_num_threads()
    assert found.processor.architecture == platform.machine()
    assert found.processor.name
    assert set(found.processor.flags) <= set(records.FLAGS)
    assert found.date.count("-") == 2


def test_the_width_is_that_of_the_kernels():
    from yolomix.ops._numba import processor

    wide = Processor.here().vector == "AVX-512"
    assert wide == (processor.LANES == 16)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the widths of x86 processors")
def test_kernels_compiled_for_less_than_the_processor_has_are_named_by_what_ran():
    code = "from yolomix.records import Processor; p = Processor.here(); print(p.vector, p.pytorch)"
    narrow = {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "+sse4.2", "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **narrow}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["SSE", "DEFAULT"]


def test_without_numba_the_width_is_that_of_pytorch(monkeypatch):
    monkeypatch.setattr(records, "package_refusal", lambda name: f"{name} is not installed")
    assert records._vector("x86_64", "AVX512") == "AVX-512"
    assert records._vector("x86_64", "AVX2") == "AVX2"
    assert records._vector("x86_64", "DEFAULT") == "SSE"
    assert records._vector("aarch64", "DEFAULT") == "NEON"
    assert Processor.here().model == ""


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert Conditions.here("cuda").device == "a GPU"


def test_for_json_and_csv():
    record = Record({"ms_p50": 23.412345678, "reps": 7}, CONDITIONS)
    found = json.loads(json.dumps(record.to_dict()))
    assert found["metrics"] == {"ms_p50": 23.412345678, "reps": 7}
    assert found["conditions"]["processor"]["vector_bits"] == 512
    assert record.row() == {
        "ms_p50": "23.4123",
        "reps": "7",
        "yolomix": "0.1.0",
        "torch": "2.15.0",
        "device": "cpu",
        "threads": "1",
        "machine": "AMD EPYC (znver4, x86_64)",
        "vector": "AVX-512",
        "system": "Linux 6.1",
        "date": "2026-11-20",
    }
