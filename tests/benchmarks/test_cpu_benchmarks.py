"""The CPU benchmarks: they run, they refuse a wrong answer, their rows have their conditions, tables compare."""

from __future__ import annotations

import functools

import pytest
import torch
from benchmarks.cpu_timing import QUICK, Timing, clock, interleaved, peak_extra_mb

from benchmarks import compare, models, ops, peers, table
from yolomix.records import Processor


@pytest.fixture
def shown(tmp_path, capsys):
    """The rows that a benchmark writes."""

    def run(main) -> list[dict[str, str]]:
        assert main(["--quick", "--out", str(tmp_path / "found.csv")]) == 0
        rows = list(table.read(tmp_path / "found.csv").values())
        lines = capsys.readouterr().out.splitlines()  # Ultralytics may say something of its own in between
        assert len([line for line in lines if line.startswith(tuple(row["what"] + "  " for row in rows))]) == len(rows)
        return rows

    return run


def test_operators(shown):
    rows = shown(ops.main)
    limits, measured = rows[:2], rows[2:]
    assert all(row["what"] == "limit" and row["note"] for row in limits)
    assert {row["what"] for row in measured} == {"scan", "ss2d", "window attention", "halo attention"}
    assert {"numba", "eager", "sequential", "four copies, numba scan"} <= {row["backend"] for row in measured}
    assert {row["pass"] for row in measured} == {"forward", "backward", "forward+backward"}
    for row in measured:
        assert float(row["ms_p20"]) <= float(row["ms_p50"]) <= float(row["ms_p80"])
        assert row["threads"] == "1"
        assert row["clock"] == "cpu"
        assert all(row[name] for name in (*table.CONDITIONS, "reps", "dtype"))


def test_a_run_writes_to_the_file_of_its_machine(monkeypatch):
    processor = Processor("AMD EPYC", "znver4", "x86_64", 2, (), "AVX-512", "AVX512")
    monkeypatch.setattr(Processor, "here", lambda: processor)
    assert table.file_for("ops") == table.RESULTS / "ops-amd-epyc-zen4-avx512-1thread.csv"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert table.file_for("ops").is_file()


@pytest.mark.parametrize("file", [*table.RESULTS.glob("*-avx512-*.csv")], ids=lambda file: file.stem)
def test_kept_results_are_named_by_what_they_say(file):
    for row in table.read(file).values():
        assert row["machine"] == "AMD EPYC (znver4, x86_64)"
        assert file.stem.endswith(f"-amd-epyc-zen4-avx512-{row['threads']}thread{'s' * (row['threads'] != '1')}")


def test_whole_models(shown):
    rows = shown(models.main)
    assert [(row["what"], row["pass"], row["backend"]) for row in rows] == [
        ("mamba-yolo-t", "eval", "auto"),
        ("mamba-yolo-t", "training step", "numba"),
        ("mamba-yolo-t", "training step", "eager"),
    ]


@pytest.mark.parametrize("name", [*peers.scans()])
def test_every_peer_is_right(name):
    ops.check("scan", name, peers.scans()[name], ops.scan_arguments(4, 3, 1))


def test_a_wrong_output_is_not_timed():
    def wrong(*args):
        return 1.01 * peers.sequential(*args)

    with pytest.raises(RuntimeError, match=r"refusing to time a wrong answer: output of scan by x is off by 1.0e-02"):
        ops.check("scan", "x", wrong, ops.scan_arguments(4, 3, 1))


def test_a_wrong_gradient_is_not_timed():
    def wrong(x, *rest):
        return peers.map_scans()["numba"](x.detach() + 1.02 * (x - x.detach()), *rest)

    with pytest.raises(RuntimeError, match=r"gradient 0 of ss2d by x is off"):
        ops.check("ss2d", "x", wrong, ops.map_arguments(16, 3, 1))


def test_a_model_that_computes_something_else_is_not_timed(monkeypatch):
    backends = iter((1.0, 2.0))
    monkeypatch.setattr(models, "build", lambda name: None)
    monkeypatch.setattr(models, "inference", lambda model, side: lambda: [torch.tensor([next(backends)])])
    with pytest.raises(RuntimeError, match=r"refusing to time a wrong answer: some by numba is off by 5.0e-01"):
        models.check("some", 64)


def test_contestants_take_turns():
    order: list[str] = []
    found = interleaved({name: functools.partial(order.append, name) for name in "ab"}, QUICK)
    assert order == ["a", "b", "a", "b"]
    assert [len(t.ms) for t in found.values()] == [1, 1]


def test_peak_memory_is_seen():
    extra = peak_extra_mb(lambda: torch.ones(10_000_000))
    assert extra is None or 35 < extra < 60


def test_several_threads_are_timed_by_the_wall(monkeypatch):
    assert clock()[0] == "cpu"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert clock()[0] == "wall"


def written(path, times, backend="numba"):
    rows = table.Table(path)
    rows.add({"what": "scan", "shape": "S1", "backend": backend}, Timing(1.0, times))
    rows.add({"what": "limit", "note": "x"})
    rows.file.close()
    return path


@pytest.mark.parametrize(
    ("times", "verdict", "code"),
    [([8.0, 8.0, 8.2], "x2.00, slower", 1), ([2.0, 2.1], "x0.51, faster", 0), ([3.9, 4.3], "same within noise", 0)],
)
def test_comparison(tmp_path, capsys, times, verdict, code):
    before, after = written(tmp_path / "a.csv", [3.9, 4.0, 4.1]), written(tmp_path / "b.csv", times)
    assert compare.main([str(before), str(after)]) == code
    assert verdict in capsys.readouterr().out


def test_comparison_names_what_only_one_file_has(tmp_path):
    lines = compare.compared(written(tmp_path / "a.csv", [1.0]), written(tmp_path / "b.csv", [1.0], "eager"))
    assert len(lines) == 2
    assert all(line.startswith("only in") for line in lines)
