"""``data=sample`` wherever Ultralytics asks for a dataset, around ``ultralytics.cfg.check_cfg``.

Every trainer, validator, exporter and tuner passes its arguments through that function, with the task beside the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolomix.data import sample_dataset

SAMPLE = "sample"


def check_cfg(native: Callable[..., None], cfg: dict[str, Any], *args: Any, **kwargs: Any) -> None:
    """Check arguments as ever, after ``data=sample`` became the path of the rendered dataset's data.yaml."""
    data = cfg.get("data")
    task = cfg.get("task") or "detect"
    if data == SAMPLE:
        cfg["data"] = str(sample_dataset(task))
    elif isinstance(data, (list, tuple)) and SAMPLE in data:
        sample = str(sample_dataset(task))
        cfg["data"] = [sample if item == SAMPLE else item for item in data]
    native(cfg, *args, **kwargs)
