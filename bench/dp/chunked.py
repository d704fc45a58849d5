"""Synthetic chains of :mod:`.problems` on pipelines whose ranks hold several chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from uniap_core.api import LayerTable, Pipeline, Problem, Rank

from .problems import Shape, chain

Array = np.ndarray


def chunked(
    layers: int,
    ranks: int,
    chunks: int,
    strategies: int,
    *,
    micro_batches: int = 64,
    tightness: float = 0.8,
    noise: float = 0.2,
    seed: int = 0,
    schedule: str = "interleaved",
) -> Problem:
    """A chain on ``ranks`` ranks of so many ``chunks`` each; see :class:`.problems.Shape` for the rest."""
    pipeline = Pipeline.of(schedule, ranks, chunks)
    plain = chain(Shape(layers, 1, strategies, micro_batches, 0.0, noise, seed=seed))
    rows = [replace(u, time_s=np.broadcast_to(u.time_s[0], (ranks, strategies))) for u in plain.layers]
    flights = pipeline.in_flight(micro_batches)
    small, fast = (_need(rows, pipeline, micro_batches, choice) for choice in (_smallest, _fastest))
    budget = float(np.rint(fast + tightness * (1.02 * small - fast)))
    held = tuple(Rank(budget + 1e9, 1e9, moments) for moments in flights)
    name = f"{layers} layers, {ranks} x {chunks} chunks, {strategies} strategies"
    weights = pipeline.weights(micro_batches)
    return Problem(name, micro_batches, weights, held, pipeline.chunks, tuple(rows), plain.edges)


def _need(
    layers: list[LayerTable], pipeline: Pipeline, micro_batches: int, choice: Callable[[LayerTable, float], float]
) -> float:
    """Bytes of the fullest rank on an even cut, every layer by the strategy that ``choice`` picks."""
    cuts = np.linspace(0, len(layers), len(pipeline.chunks) + 1).round().astype(int)
    most = 0.0
    for rank, moments in enumerate(pipeline.in_flight(micro_batches)):
        held = [j for j, i in enumerate(pipeline.chunks) if i == rank]
        for moment in moments:
            parts = [(layers[cuts[j] : cuts[j + 1]], f) for j, f in zip(held, moment, strict=True)]
            most = max(most, sum(choice(u, f) for part, f in parts for u in part))
    return most


def _smallest(layer: LayerTable, flight: float) -> float:
    return float((layer.state_bytes + flight * layer.stash_bytes).min())


def _fastest(layer: LayerTable, flight: float) -> float:
    return float((layer.state_bytes + flight * layer.stash_bytes)[layer.time_s[0].argmin()])
