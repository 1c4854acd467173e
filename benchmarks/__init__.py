"""Benchmarks; a wrong answer is never timed."""
