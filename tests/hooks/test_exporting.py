"""ONNX files of whole models through Ultralytics' exporter: scans lowered, sizes open, nothing of ours left in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import yolomix
