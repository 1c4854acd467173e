"""Operators: tensors in, tensors out. They need torch and nothing else; a backend file imports its own framework.

Each operator is the function of the same name in its folder: ``from yolomix.ops.selective_scan import selective_scan``.
Here are the names that code written for mamba_ssm asks for.
"""

from yolomix.ops.mamba_ssm import mamba_inner_fn, provide_mamba_ssm, selective_scan_fn, selective_scan_ref

__all__ = ["mamba_inner_fn", "provide_mamba_ssm", "selective_scan_fn", "selective_scan_ref"]
