"""Benchmarks of the exact solver: ``python -m bench.dp``."""
