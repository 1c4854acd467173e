"""``kill -9`` of a study's queue and of single runs: what went on gives the report of an undisturbed study."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fresh
from tests.full import full
from tests.studying.test_child import small_data, small_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux lists the processes of a queue"),
]


def killed(folder: Path, kills: int, whole: bool) -> str:
    """What the comparison in a fresh process says last."""
    model, data = small_model(folder, "detect"), small_data(folder / "data", "detect")
    many = small_data(folder / "many", "detect", train=60)
    code = f"""
from pathlib import Path
from tests.studying import killed_study
killed_study.train(Path("trained"), {str(model)!r}, {str(many)!r})
print(killed_study.main(Path(), {str(data)!r}, {kills}, {whole}))
"""
    done = fresh.run(code, cwd=folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


@full
def test_a_study_whose_queue_is_killed_goes_on_to_the_same_report(tmp_path: Path) -> None:
    assert killed(tmp_path, kills=1, whole=False).startswith("killed {'queues': 1}; ")


@full
@pytest.mark.timeout(1800)
def test_a_study_that_is_killed_ten_times_goes_on_to_the_same_report(tmp_path: Path) -> None:
    """Queues and runs in turns, with guards and two seeds."""
    said = killed(tmp_path, kills=10, whole=True)
    assert "'queues': " in said
    assert "'runs': " in said
