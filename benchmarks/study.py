"""The study behind docs/results.md: ``python -m benchmarks.study --data FOLDER``, where FOLDER has ``bccd/data.yaml``.

Small files of finished runs lie in ``benchmarks/studies/bccd`` and are kept in the repository: the study goes on from
any clone. Without ``--data`` it reports on what is there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "studies" / "bccd"
PLAN = FOLDER.with_suffix(".yaml")


def text() -> str:
    """The report of the records that are there, for docs/results.md."""
    from yolomix.studying.reporting import report

    with tempfile.TemporaryDirectory() as place:
        heavy = shutil.ignore_patterns("inits", "weights", "*.pt")
        copied = Path(shutil.copytree(FOLDER, Path(place) / FOLDER.name, ignore=heavy))
        found = report(copied, measure=False)
        table, methods = (copied.joinpath(name).read_text(encoding="utf-8") for name in ("table.md", "methods.md"))
    notes = [f"- {remark}" for remark in found.analysis.remarks]
    return "\n".join(["```bash", "python -m benchmarks.study --data FOLDER", "```", "", table, *notes, "", methods])


def main(argv: list[str] | None = None) -> int:
    """Carry out the plan, or report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder with bccd/data.yaml in it")
    options = parser.parse_args(argv)
    from yolomix.host import offline

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    offline.prepare()
    from yolomix import Study

    study = Study(PLAN if options.data else FOLDER)
    if options.data:
        os.chdir(options.data)  # the plan names the dataset from there
        study.folder = FOLDER
        study.run()
    print(study.report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
