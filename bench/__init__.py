"""Benchmarks: figures that anyone can make again. ``python -m bench``."""
