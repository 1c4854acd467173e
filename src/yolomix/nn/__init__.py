"""Blocks, one file per paper. Importing this package registers all of them for model YAMLs; Ultralytics stays out.

>>> import torch
>>> from yolomix.nn import MLLABlock
>>> MLLABlock(32)(torch.zeros(1, 32, 20, 20)).shape
torch.Size([1, 32, 20, 20])
"""

from yolomix.nn import origins as origins
from yolomix.nn.gate import Chain, OneMap, SameWidth, ZeroGate
from yolomix.nn.halonet import HaloAttention
from yolomix.nn.mamba_yolo import SimpleStem, VisionClueMerge, VSSBlock, XSSBlock
from yolomix.nn.mambairv2 import ASSG, ASSGroup
from yolomix.nn.mambaout import GatedConv
from yolomix.nn.mlla import C2PSAMLLA, MLLABlock, MLLAttention
from yolomix.nn.registry import register
from yolomix.nn.vim import MambaLayer
from yolomix.nn.vmamba import VMambaBlock

__all__ = [
    "ASSG",
    "C2PSAMLLA",
    "ASSGroup",
    "Chain",
    "GatedConv",
    "HaloAttention",
    "MLLABlock",
    "MLLAttention",
    "MambaLayer",
    "OneMap",
    "SameWidth",
    "SimpleStem",
    "VMambaBlock",
    "VSSBlock",
    "VisionClueMerge",
    "XSSBlock",
    "ZeroGate",
    "register",
]
