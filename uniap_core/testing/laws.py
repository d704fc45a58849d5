"""Metamorphic laws: changes to a problem whose effect on the optimum is known without knowing the optimum.

They reach where enumeration does not: a solver must obey them on problems of any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from uniap_core.problem import Problem
from uniap_core.tables import Array, EdgeTable, LayerTable, Weights

Rng = np.random.Generator


@dataclass(frozen=True)
class Law:
    """One law.

    Attributes
    ----------
    name
        What it says.
    change
        Makes the changed problem; the generator chooses permutations, factors and the like.
    expects
        ``equal``, ``at most`` or ``at least``: the changed optimum against ``factor`` times the original one.
        An infeasible problem has the optimum ``inf``.
    factor
        See ``expects``.
    applies
        Whether a problem has what the law needs.
    """

    name: str
    change: Callable[[Problem, Rng], Problem]
    expects: str = "equal"
    factor: float = 1.0
    applies: Callable[[Problem], bool] = lambda problem: True

    def holds(self, before: float, after: float, tolerance: float = 1e-6) -> bool:
        """Whether two optima (``inf`` for infeasible) are as the law says, to a relative tolerance."""
        expected = self.factor * before
        if math.isinf(expected) or math.isinf(after):
            close = expected == after
        else:
            close = abs(after - expected) <= tolerance * max(expected, after)
        ordered = {"equal": False, "at most": after < expected, "at least": after > expected}[self.expects]
        return close or ordered


def relabel_layers(problem: Problem, rng: Rng) -> Problem:
    """The same layers, listed in another order."""
    order = [int(u) for u in rng.permutation(len(problem.layers))]
    position = {u: at for at, u in enumerate(order)}
    edges = [replace(e, source=position[e.source], target=position[e.target]) for e in problem.edges]
    return replace(problem, layers=tuple(problem.layers[u] for u in order), edges=tuple(edges))


def relabel_strategies(problem: Problem, rng: Rng) -> Problem:
    """The same strategies of each layer, listed in another order."""
    orders = [rng.permutation(len(layer.strategies)) for layer in problem.layers]
    return _choose(
        problem,
        orders,
        [tuple(layer.strategies[k] for k in o) for layer, o in zip(problem.layers, orders, strict=True)],
    )


def scale_times(problem: Problem, rng: Rng, factor: float = 8.0) -> Problem:
    """All times in another unit."""
    layers = [replace(layer, time_s=layer.time_s * factor) for layer in problem.layers]
    edges = [replace(e, reshard_s=e.reshard_s * factor, cross_s=e.cross_s * factor) for e in problem.edges]
    return replace(problem, layers=tuple(layers), edges=tuple(edges))


def scale_bytes(problem: Problem, rng: Rng, factor: float = 1024.0) -> Problem:
    """All bytes in another unit."""
    layers = [
        replace(layer, state_bytes=layer.state_bytes * factor, stash_bytes=layer.stash_bytes * factor)
        for layer in problem.layers
    ]
    ranks = [
        replace(r, memory_bytes=r.memory_bytes * factor, reserved_bytes=r.reserved_bytes * factor)
        for r in problem.ranks
    ]
    return replace(problem, layers=tuple(layers), ranks=tuple(ranks))


def more_memory(problem: Problem, rng: Rng) -> Problem:
    """More memory on one stage."""
    chosen = int(rng.integers(len(problem.ranks)))
    ranks = [replace(r, memory_bytes=r.memory_bytes * 1.5) if i == chosen else r for i, r in enumerate(problem.ranks)]
    return replace(problem, ranks=tuple(ranks))


def more_micro_batches(problem: Problem, rng: Rng) -> Problem:
    """One more micro-batch of the same cost, with the same number in flight."""
    weights = problem.objective
    more = Weights(weights.sum, weights.cross, weights.peak + 1)
    return replace(problem, micro_batches=problem.micro_batches + 1, objective=more)


def add_dominated(problem: Problem, rng: Rng) -> Problem:
    """A strategy of one layer once more, no better in any respect and somewhat worse in time and memory."""
    chosen = int(rng.integers(len(problem.layers)))
    twin = int(rng.integers(len(problem.layers[chosen].strategies)))
    orders = [np.arange(len(layer.strategies)) for layer in problem.layers]
    orders[chosen] = np.append(orders[chosen], twin)
    names = [layer.strategies + (("dominated",) if u == chosen else ()) for u, layer in enumerate(problem.layers)]
    wider = _choose(problem, orders, names)
    worse = np.ones(len(orders[chosen]))
    worse[-1] = 1.25
    layer = wider.layers[chosen]
    layer = replace(layer, time_s=layer.time_s * worse, state_bytes=layer.state_bytes * worse)
    return replace(wider, layers=(*wider.layers[:chosen], layer, *wider.layers[chosen + 1 :]))


def reverse(problem: Problem, rng: Rng) -> Problem:
    """Data flowing the other way: edges turned round with transposed tables, chunks and ranks in the opposite order.

    Memory and numbers in flight go with their rank and chunk. A tensor of several edges has one producer but many
    consumers, so it has no reversed form.
    """
    edges = [EdgeTable(e.target, e.source, e.tensor, e.reshard_s.T, e.cross_s.T) for e in problem.edges]
    layers = [replace(layer, time_s=layer.time_s[::-1]) for layer in problem.layers]
    ranks = [replace(r, in_flight=tuple(moment[::-1] for moment in r.in_flight)) for r in problem.ranks[::-1]]
    chunks = [len(ranks) - 1 - i for i in problem.chunks[::-1]]
    return replace(problem, ranks=tuple(ranks), chunks=tuple(chunks), layers=tuple(layers), edges=tuple(edges))


def _own_tensors(problem: Problem) -> bool:
    return all(len(edges) == 1 for edges in problem.tensors.values())


LAWS = (
    Law("relabelling layers changes nothing", relabel_layers),
    Law("relabelling strategies changes nothing", relabel_strategies),
    Law("scaling times scales the optimum", scale_times, factor=8.0),
    Law("scaling bytes changes nothing", scale_bytes),
    Law("more memory is never worse", more_memory, "at most"),
    Law("more micro-batches are never faster", more_micro_batches, "at least"),
    Law("a dominated strategy changes nothing", add_dominated),
    Law("reversing the flow changes nothing", reverse, applies=_own_tensors),
)
"""All laws, by what they say."""


def _choose(problem: Problem, orders: list[Array], names: list[tuple[str, ...]]) -> Problem:
    """The problem with strategies ``orders[u]`` of each layer, named ``names[u]``."""
    layers = [
        LayerTable(name, strategies, layer.time_s[:, k], layer.state_bytes[k], layer.stash_bytes[k])
        for name, strategies, layer, k in zip(
            (x.name for x in problem.layers), names, problem.layers, orders, strict=True
        )
    ]
    edges = []
    for e in problem.edges:
        cells = np.ix_(orders[e.source], orders[e.target])
        edges.append(replace(e, reshard_s=e.reshard_s[cells], cross_s=e.cross_s[cells]))
    return replace(problem, layers=tuple(layers), edges=tuple(edges))
