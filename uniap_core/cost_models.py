"""Asking a cost model, by name: its tables are used only if they are of what was asked and make sense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from . import fence, registry
from .costs import MEMORY_PARTS, TIME_PARTS, Candidate, CostTables, identity
from .errors import BadValue, PluginError
from .posing import pose
from .strategy import Strategy
from .tables import EdgeTable, Rank

if TYPE_CHECKING:
    from .cluster import Cluster
    from .costs import CostModelPlugin, LayerCosts, Price
    from .graph import ModelGraph
    from .profile import Profile
    from .strategy import StrategySpace


def price(
    name: str,
    graph: ModelGraph,
    cluster: Cluster,
    space: StrategySpace,
    candidate: Candidate,
    profile: Profile | None = None,
) -> CostTables:
    """The tables of one candidate by the cost model of a name.

    Raises
    ------
    BadValue
        If the cost model says that it cannot be priced.
    UnknownName, PluginError
        If there is no such cost model, or what it returns are no tables of this candidate.
    """
    plugin: CostModelPlugin = registry.load("cost model", name)
    absent = registry.missing(plugin.modules)
    if absent:
        raise PluginError(f"cost model {name!r} needs {', '.join(absent)}, not installed here", plugin.install)
    tables = registry.call(plugin, "price", graph, cluster, space, candidate, profile, returns=CostTables)
    with fence.guard(f"cost model {name!r}: reading its tables", "correct the plugin"):
        mine = identity(plugin)
        wrong = "" if tables.model == mine else f"they say that {tables.model} priced them, and this is {mine}"
        wrong = wrong or next(_misfits(tables, graph, candidate), "")
    if wrong:
        raise PluginError(f"cost model {name!r} returned tables that are none: {wrong}", "correct the plugin")
    return tables


def pricer(name: str) -> Price:
    """:func:`price` of one cost model, as a function of the rest.

    Raises
    ------
    UnknownName, PluginError
        If there is no such cost model or it does not load.
    """
    registry.load("cost model", name)

    def of(
        graph: ModelGraph,
        cluster: Cluster,
        space: StrategySpace,
        candidate: Candidate,
        profile: Profile | None = None,
    ) -> CostTables:
        return price(name, graph, cluster, space, candidate, profile)

    return of


def _misfits(tables: CostTables, graph: ModelGraph, candidate: Candidate) -> Iterator[str]:
    """What is wrong with tables; their shapes, signs and edges are the problem's to judge."""
    if tables.candidate != candidate:
        yield "they are of another candidate"
    for field, kind in (("ranks", Rank), ("edges", EdgeTable)):
        if not _all(getattr(tables, field), kind):
            yield f"{field} is not a tuple of {kind.__name__}"
    if len(tables.ranks) != candidate.pp:
        yield f"{len(tables.ranks)} ranks, and {candidate.pp} were asked for"
    if [getattr(layer, "name", None) for layer in tables.layers] != [layer.name for layer in graph.layers]:
        yield "its layers are not those of the model"
    seen: set[tuple[int, ...]] = set()
    for layer in tables.layers:
        key = tuple(id(getattr(layer, name)) for name in ("forward_s", "backward_s", "iteration_s", "strategies"))
        if key not in seen:
            seen.add(key)
            yield from (f"layer {layer.name}: {wrong}" for wrong in _layer_misfits(layer, candidate.pp))
    for edge in tables.edges:
        for name in ("reshard_s", "cross_s"):
            if not _numbers(getattr(edge, name)):
                yield f"edge {edge.tensor}: {name} is not an array of float64"
    try:
        problem = pose(tables)
    except (BadValue, TypeError, ValueError, AttributeError) as error:
        yield f"they pose no problem: {error}".splitlines()[0]
        return
    if not sum(float(layer.time_s.min()) for layer in problem.layers) > 0:
        yield "every layer takes no time at all"


def _layer_misfits(layer: LayerCosts, depth: int) -> Iterator[str]:
    if not _all(layer.strategies, Strategy):
        yield "strategies is not a tuple of Strategy"
    count = len(layer.strategies)
    shaped = {
        **{name: ((depth, count), getattr(layer, name)) for name in ("forward_s", "backward_s", "iteration_s")},
        **{name: ((count,), getattr(layer, name)) for name in ("state_bytes", "stash_bytes")},
        **{name: ((depth, count), layer.time_parts_s[name]) for name in TIME_PARTS if name in layer.time_parts_s},
        **{name: ((count,), layer.state_parts_bytes[name]) for name in MEMORY_PARTS if name in layer.state_parts_bytes},
    }
    if layer.workspace_bytes is not None:
        shaped["workspace_bytes"] = (count,), layer.workspace_bytes
    for name, (shape, values) in shaped.items():
        if not _numbers(values):
            yield f"{name} is not an array of float64"
        elif values.shape != shape:
            yield f"{name} has shape {values.shape}, not {shape}"
        elif np.isnan(values).any() or (values < 0).any():
            yield f"{name} has an entry that is negative or not a number"


def _numbers(values: object) -> bool:
    return isinstance(values, np.ndarray) and values.dtype == np.float64


def _all(values: object, kind: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kind) for value in values)
