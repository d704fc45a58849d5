"""Synthetic chains that look like transformers: joint strategies, 1F1B memory, layouts that must be resharded.

Nothing here is measured; what counts is structure: ten to a hundred strategies per layer that trade time for
memory, resharding that depends on the layouts of both sides, stages of unequal memory pressure.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from uniap_core.api import EdgeTable, LayerTable, Problem, Rank

Array = np.ndarray


@dataclass(frozen=True)
class Shape:
    """Size of a synthetic problem.

    ``tightness`` 0 lets every layer take its fastest strategy, 1 leaves just enough for the smallest; ``noise``
    multiplies every entry of every layer's tables by an own factor in 1 +- noise; ``random_edges`` gives every pair of
    strategies an own resharding cost instead of one per pair of layouts; ``layout_free_cross`` lets a boundary cost
    what the producer's layout says, whatever the consumer's.
    """

    layers: int = 34
    stages: int = 8
    strategies: int = 16
    micro_batches: int = 32
    tightness: float = 0.6
    noise: float = 0.0
    random_edges: bool = False
    seed: int = 0
    schedule: str = "1f1b"
    layout_free_cross: bool = False


def menu(count: int) -> list[tuple[int, float, float]]:
    """``count`` strategies (log2 tp, sharding, recompute), spread evenly over a full menu."""
    tps = range(max(2, min(7, count // 4 + 1)))
    shard = (0.0, 0.5, 1.0)
    recompute = (0.0, 0.5, 1.0)
    full = list(itertools.product(tps, shard, recompute))
    while len(full) < count:
        full += [(tp, s + 0.1 * len(full) / count, r) for tp, s, r in full]
    picked = np.unique(np.linspace(0, len(full) - 1, count).round().astype(int))
    rest = [x for x in range(len(full)) if x not in set(picked.tolist())]
    return [full[x] for x in sorted([*picked.tolist(), *rest[: count - len(picked)]])]


def chain(shape: Shape) -> Problem:
    """A chain: embedding, blocks, head."""
    weights = [0.4, *[1.0] * (shape.layers - 2), 0.8][: shape.layers]
    return assemble(shape, weights, [(at, at + 1, f"t{at}") for at in range(shape.layers - 1)])


def encoder_decoder(shape: Shape) -> Problem:
    """Half the layers encode; the last of them is read by every layer of the other half (T5)."""
    half = shape.layers // 2
    edges = [(at, at + 1, f"t{at}") for at in range(shape.layers - 1)]
    edges += [(half - 1, at, f"t{half - 1}") for at in range(half + 1, shape.layers)]
    return assemble(shape, [1.0] * half + [1.3] * (shape.layers - half), edges)


def two_towers(shape: Shape) -> Problem:
    """Two chains joined at a head, the last layer."""
    half = (shape.layers - 1) // 2
    edges = [(at, at + 1, f"t{at}") for at in range(2 * half - 1) if at != half - 1]
    edges += [(half - 1, 2 * half, f"t{half - 1}"), (2 * half - 1, 2 * half, f"t{2 * half - 1}")]
    return assemble(shape, [1.0] * half + [0.7] * half + [0.3], edges)


def u_net(shape: Shape, skips: int = 3) -> Problem:
    """A chain whose first layers feed their mirror images too."""
    edges = [(at, at + 1, f"t{at}") for at in range(shape.layers - 1)]
    edges += [(at, shape.layers - 1 - at, f"t{at}") for at in range(skips)]
    return assemble(shape, [1.0] * shape.layers, edges)


def assemble(shape: Shape, weights: list[float], flows: list[tuple[int, int, str]]) -> Problem:
    """Layers of given weights (1 is a block) joined by given flows (source, target, tensor)."""
    rng = np.random.default_rng(shape.seed)
    options = menu(shape.strategies)
    tp = np.array([2.0**t for t, _, _ in options])
    level = np.array([t for t, _, _ in options])
    shard, recompute = np.array([s for _, s, _ in options]), np.array([r for _, _, r in options])
    group = tp.max() * 2
    time = 10e-3 * (1 + 0.3 * recompute) * (1 + 0.06 * (tp - 1) ** 0.8) + 1.2e-3 * shard + 0.4e-3 * (tp < group)
    state = 4e9 * (1 / tp) * ((1 - 0.75 * shard) + 0.75 * shard / (group / tp))
    stash = 3e8 * (1 - 0.9 * recompute) * (0.4 + 0.6 / tp)
    flights = [
        shape.micro_batches if shape.schedule == "gpipe" else min(shape.micro_batches, shape.stages - i)
        for i in range(shape.stages)
    ]

    def noisy(values: Array) -> Array:
        return values * (1 + shape.noise * rng.uniform(-1, 1, np.shape(values))) if shape.noise else values

    names = tuple(f"s{k}" for k in range(len(options)))
    layers = []
    for at, weight in enumerate(weights):
        t = noisy(time * weight)
        state_bytes = np.rint(noisy(state * (1.5 if weight in (0.4, 0.8) else 1.0)))
        layers.append(
            LayerTable(
                f"layer{at}",
                names,
                np.broadcast_to(t, (shape.stages, len(t))),
                state_bytes,
                np.rint(noisy(stash * weight)),
            )
        )
    gap = np.abs(level[:, None] - level[None, :])
    reshard, cross = 0.25e-3 * gap, 0.5e-3 + 0.1e-3 * gap
    if shape.layout_free_cross:
        cross = np.broadcast_to(0.5e-3 + 0.1e-3 * level[:, None], gap.shape)
    edges = []
    for source, target, tensor in flows:
        r, x = reshard, cross
        if shape.random_edges:
            r, x = 0.5e-3 * rng.random(r.shape) * (gap + 0.2), 1e-3 * rng.random(x.shape)
        elif shape.noise:
            r, x = reshard * rng.uniform(0.8, 1.2), cross * rng.uniform(0.8, 1.2)
        edges.append(EdgeTable(source, target, tensor, r, x))
    budget = _budgets(layers, flights, shape)
    stages = tuple(Rank.of(b + 1e9, 1e9, f) for b, f in zip(budget, flights, strict=True))
    return Problem.plain(str(shape), shape.micro_batches, stages, tuple(layers), tuple(edges))


def _budgets(layers: list[LayerTable], flights: list[int], shape: Shape) -> list[float]:
    """One budget for all stages, between the need of smallest and fastest strategies on an even cut."""
    cuts = np.linspace(0, len(layers), shape.stages + 1).round().astype(int)
    small, fast = 0.0, 0.0
    for i, flight in enumerate(flights):
        part = layers[cuts[i] : cuts[i + 1]]
        need = [layer.state_bytes + flight * layer.stash_bytes for layer in part]
        small = max(small, sum(float(n.min()) for n in need))
        fast = max(fast, sum(float(n[layer.time_s[i].argmin()]) for n, layer in zip(need, part, strict=True)))
    return [float(np.rint(fast + shape.tightness * (1.02 * small - fast)))] * shape.stages


def one_stage(layers: int, strategies: int, tightness: float = 0.5, seed: int = 0) -> Problem:
    """One stage of 40 GB with fine-grained trade-offs: every layer's byte counts differ."""
    problem = chain(Shape(layers, 1, strategies, 1, tightness, 0.2, seed=seed))
    scale = 40e9 / problem.ranks[0].budget_bytes
    layers_ = tuple(
        LayerTable(u.name, u.strategies, u.time_s, np.rint(u.state_bytes * scale), np.rint(u.stash_bytes * scale))
        for u in problem.layers
    )
    return Problem.plain(problem.name, 1, (Rank.of(40e9, 0.0, 1),), layers_, problem.edges)
