"""Blocks, one file per paper. Importing this package registers all of them; it never imports the host."""

from yolomix.nn import gate, halonet, mamba_yolo, mambairv2, mlla, vim, vmamba  # noqa: F401
