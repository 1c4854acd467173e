"""``kill -9`` of a study's queue and of single runs: what went on gives the report of an undisturbed study."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import fresh
from tests.studying.test_child import small_data, small_model

FULL = os.environ.get("YOLOMIX_TEST_FULL", "0") not in ("", "0")
KILLS = 10 if FULL else 4

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux lists the processes of a queue"),
]


@pytest.mark.timeout(1800)
def test_a_study_that_is_killed_goes_on_to_the_same_report(tmp_path: Path) -> None:
    """Ten kills with ``YOLOMIX_TEST_FULL=1``, beside a study that has a queue too; four beside one without."""
    model, data = small_model(tmp_path, "detect"), small_data(tmp_path / "data", "detect")
    code = f"""
from pathlib import Path
from tests.studying import killed_study
print(killed_study.main(Path({str(tmp_path)!r}), {str(model)!r}, {str(data)!r}, {KILLS}, 1, {FULL}))
"""
    done = fresh.run(code, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    said = done.stdout.splitlines()[-1]
    print(said)
    assert "'queues': " in said
    assert "'runs': " in said
