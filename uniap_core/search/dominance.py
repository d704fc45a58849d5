"""Strategies that no best plan needs: another one of the layer is nowhere worse and reshards and crosses for the same.

Exact: in any assignment the other one may stand in its place. They are left out before anything is solved, and the
proof says how many (Kellerer, Pferschy and Pisinger 2004, section 11.2.1, for knapsacks of choices).
"""

from __future__ import annotations

import numpy as np

from ..costs import CostTables
from ..posing import pose
from ..tables import Array, numbered

WIDEST = 64
"""Pairs are compared among so many strategies at a time."""


def undominated(tables: CostTables) -> tuple[Array, ...]:
    """Per layer, the indices of the strategies that remain, in order."""
    problem = pose(tables)
    ends: dict[int, dict[tuple[int, bool], Array]] = {kind: {} for kind in tables.kinds.layers}
    for edge, flow in zip(tables.edges, tables.kinds.edges, strict=True):
        for end, leaves in ((edge.source, True), (edge.target, False)):
            mine = ends[tables.kinds.layers[end]]
            if (flow, leaves) not in mine:
                both = edge.reshard_s, edge.cross_s
                mine[flow, leaves] = np.hstack(both if leaves else [table.T for table in both])
    found: dict[int, Array] = {}
    for u, kind in enumerate(tables.kinds.layers):
        if kind not in found:
            table = problem.layers[u]
            alike = numbered(zip(*(_content(rows) for rows in ends[kind].values()), strict=True))
            time_s = table.time_s[:1] if (table.time_s == table.time_s[:1]).all() else table.time_s
            costs = np.vstack([time_s, table.state_bytes, table.stash_bytes])
            found[kind] = _best(costs, np.array(alike if alike else (0,) * costs.shape[1]))
    return tuple(found[kind] for kind in tables.kinds.layers)


def _content(rows: Array) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(rows)]


def _best(costs: Array, alike: Array) -> Array:
    """Columns of ``costs`` of which none that is alike is nowhere higher; of equal ones the first."""
    kept = []
    for group in range(int(alike.max()) + 1):
        columns = np.flatnonzero(alike == group)
        # Whoever is nowhere higher comes earlier in this order, or is equal and has a lower number.
        columns = columns[np.lexsort(costs[::-1, columns])]
        front = columns[:0]
        for first in range(0, len(columns), WIDEST):
            block = columns[first : first + WIDEST]
            block = block[~_beaten(costs[:, block], costs[:, front])]
            own = costs[:, block]
            no_higher = (own[:, :, None] <= own[:, None, :]).all(axis=0)
            block = block[~np.triu(no_higher, 1).any(axis=0)]
            front = np.concatenate([front, block])
        kept.append(front)
    return np.sort(np.concatenate(kept))


def _beaten(columns: Array, others: Array) -> Array:
    """Which columns have another one that is nowhere higher."""
    return np.asarray((others[:, :, None] <= columns[:, None, :]).all(axis=0).any(axis=0))
