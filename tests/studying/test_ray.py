"""Runs as tasks of a Ray cluster: two nodes on this machine, one of which is killed in the middle."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from tests.studying.test_queue import CPU, how, lines, record, spec
from yolomix.studying import ray_engine
from yolomix.studying.folder import PLAN

WITHOUT = "needs Ray: pip install 'yolomix[ray]'"


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "package_refusal", lambda package: f"{package} is not installed")
    with pytest.raises(
        RuntimeError, match=r"engine=ray needs Ray, which is not installed: pip install 'yolomix\[ray\]'"
    ):
        ray_engine.RayQueue(tmp_path, lambda given: given, [CPU], threads=1)


def prepared(folder: Path):
    """What a study does before a run: initial weights, and the path of the dataset."""
    from dataclasses import replace

    (folder / "m.pt").write_bytes(b"weights")
    (folder / "d.yaml").write_text("")
    return lambda given: replace(given, model=str(folder / "m.pt"), data=str(folder / "d.yaml"))


@pytest.mark.slow
def test_a_node_is_killed_and_nothing_is_lost(tmp_path):
    ray = pytest.importorskip("ray", reason=WITHOUT)
    utils = pytest.importorskip("ray.cluster_utils", reason=WITHOUT)
    (tmp_path / PLAN).write_text("")  # the nodes share this folder
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        ray.init(
            address=cluster.address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": ":".join(sys.path)}}
        )
        specs = [spec(name, seconds=1.0, epochs=6) for name in "abc"]
        made = ray_engine.RayQueue(tmp_path, prepared(tmp_path), [CPU], 1, cluster.address, how)

        def _kill() -> None:
            while not all((tmp_path / "runs" / name / "epochs.txt").exists() for name in "ab"):
                time.sleep(0.1)
            cluster.remove_node(node, allow_graceful=False)

        killer = threading.Thread(target=_kill, daemon=True)
        killer.start()
        made.run(specs)
        killer.join(60)
        assert made.reasons == {}
        assert [record(tmp_path, name).status for name in "abc"] == ["finished"] * 3
        assert sum(len(lines(tmp_path, name)) for name in "abc") == 4  # one began twice
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_a_dataset_that_is_not_on_the_node(tmp_path):
    given = spec("a")
    content, reason = ray_engine.work(vars(given), b"", str(tmp_path), how)
    assert content is None
    assert reason == "the dataset d.yaml is not on the node; put it under the same path there"
