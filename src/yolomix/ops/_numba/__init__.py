"""What the CPU kernels share: a vector type for Numba, its mathematics, the scan of one tile, threads and the cache."""
