"""``YOLO`` of Ultralytics, which also finds our packaged model names."""

from ultralytics import YOLO as _YOLO


class YOLO(_YOLO):
    """``ultralytics.YOLO`` that also finds our packaged model names."""
