"""Pipelines whose ranks hold several chunks: a Lagrangian bound, repaired plans, and a search below the best one."""
