"""The study behind docs/results.md: ``python -m benchmarks.study --data FOLDER``, where FOLDER has ``bccd/data.yaml``.

Small files of finished runs lie in ``benchmarks/studies/bccd`` and are kept in the repository: the study goes on from
any clone. Without ``--data`` it reports on what is there.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "studies" / "bccd"
PLAN = FOLDER.with_suffix(".yaml")


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
