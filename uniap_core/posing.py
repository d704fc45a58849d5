"""From cost tables to the problem that they pose: the only place that knows both."""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

from . import artifact
from .costs import CostTables
from .problem import Problem
from .tables import LayerTable

_POSED: WeakKeyDictionary[CostTables, Problem] = WeakKeyDictionary()
"""Tables are frozen and equal to themselves alone: what they pose is kept as long as they are."""


def pose(tables: CostTables) -> Problem:
    """The candidate as a :class:`~uniap_core.problem.Problem`.

    A micro-batch takes forward + backward + iteration / turns under each strategy (:attr:`Candidate.turns`).
    """
    if tables not in _POSED:
        _POSED[tables] = _problem(tables)
    return _POSED[tables]


def digest(tables: CostTables) -> str:
    """Hash of who priced and of the problem that the tables pose."""
    return artifact.digest([tables.model, pose(tables).hash])


def _problem(tables: CostTables) -> Problem:
    pipeline, c = tables.candidate.pipeline, tables.candidate.micro_batches
    turns = tables.candidate.turns
    made: dict[int, LayerTable] = {}
    layers = []
    for kind, layer in zip(tables.kinds.layers, tables.layers, strict=True):
        if kind not in made:
            names = tuple(s.name for s in layer.strategies)
            time_s = layer.forward_s + layer.backward_s + layer.iteration_s / turns
            made[kind] = LayerTable(layer.name, names, time_s, layer.state_bytes, layer.stash_bytes)
        layers.append(replace(made[kind], name=layer.name))
    return Problem(
        tables.candidate.name,
        c,
        pipeline.weights(c),
        tables.ranks,
        pipeline.chunks,
        tuple(layers),
        tables.edges,
        tables.kinds,
    )
