"""Triton kernels that the operators share, and how they are launched."""
