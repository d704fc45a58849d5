"""Tuples of arrays that several compiled loops take, as numba spells their types."""

WEIGHTS = "UniTuple(f8, 3)"
"""What the objective multiplies: (sum of stage times, sum of boundary times, the longest of all)."""
STEPS = "Tuple((i8[::1], i8[::1], i8[::1], i8[::1], f8[::1]))"
"""``Lattice.arcs``: (residuals, first, group, source, cost)."""
COSTS = "Tuple((f8, i8[::1], i8[::1], i8[::1], f8[::1], f8[::1]))"
"""``StageClass.arrays``: (cap, start, enter, leave, time, memory)."""
TREE = "Tuple((i8[::1], i8[::1], i8[::1]))"
"""(parent, type, base): items of a tree of downsets; states of item ``x`` are ``base[x] .. base[x + 1]``."""

TABLES = "Tuple((f8[:, :, :, ::1], f8[:, :, :, ::1], f8[::1], f8[::1]))"
"""(own, link, border, cap): seconds and bytes of a strategy (L, P, K, 2), resharding and crossing (2, L - 1, K, K), the
least of a boundary before each layer (L,), and what layers may use on each stage, bytes (P,)."""
ROWS = "Tuple((i8[:, ::1], i8[:, ::1], i8[::1]))"
"""(row of each strategy, first strategy of each row, number of rows): (L, K) twice and (L,). Strategies with the same
rows in both tables of the link behind them have the same row."""
PRICED = "Tuple((f8[:, ::1], i8[::1], f8[:, :, :, :, ::1]))"
"""(price, count, to go): (P, R), (P,) and (P, L, rows, L, R + 1), for R prices. ``to_go[i, u, q, b]`` is the least of
the layers ``u + 1 .. b`` on stage ``i`` behind row ``q``: seconds and priced bytes above the cap, and last bytes alone,
a rounding less."""
FRONTS = "Tuple((f8[:, :, :, ::1], i8[:, ::1]))"
"""((sum, peak), size): (P + 1, L + 1, corners, 2) and (P + 1, L + 1): the boundary before a layer, and all behind it
from a stage on."""
