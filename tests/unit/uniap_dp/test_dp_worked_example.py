"""The numbers of the worked example in docs/exact-solver.md."""

import numpy as np
import pytest
from uniap_dp.lattice import cuts as bounds
from uniap_dp.lattice.downsets import build
from uniap_dp.solve import solve

from uniap_core.api import EdgeTable, LayerTable, Problem, Rank, SolveRequest, silent


def example():
    switch = np.array([[0.0, 0.5], [0.5, 0.0]])
    layer = {"time_s": np.array([[2.0, 3.0]] * 2), "state_bytes": np.array([6.0, 2.0]), "stash_bytes": np.zeros(2)}
    layers = tuple(LayerTable(f"layer{u}", ("fast", "lean"), **layer) for u in range(4))
    edges = tuple(EdgeTable(u, u + 1, f"t{u}", switch, np.ones((2, 2))) for u in range(3))
    return Problem.plain("worked example", 4, (Rank.of(10.0, 0.0, 1),) * 2, layers, edges)


def test_stage_bounds():
    lattice = build(example(), 1000)
    cuts = bounds.cut(lattice, 20.0, bounds.least_times(lattice))
    at = {int(target): x for x, target in enumerate(cuts.target[: cuts.count[0, 0]])}
    assert cuts.low[at[2]] == pytest.approx(4.5)
    assert cuts.high[at[2]] == pytest.approx(6.0)
    assert cuts.price[at[2]] == pytest.approx(0.25)
    assert cuts.low[at[3]] == pytest.approx(8.0)
    ahead = bounds.fronts(cuts, cuts.low, lattice.objective, 31.0, backward=False, relax=True)
    behind = bounds.fronts(cuts, cuts.low, lattice.objective, 31.0, backward=True, relax=True)
    assert bounds.least(ahead, 3.0, (2, 4)) == pytest.approx(23.5)
    limits = bounds.stage_limits(cuts, lattice.objective, 31.0, ahead, behind)
    assert limits[at[2]] == pytest.approx(6.375)
    assert limits[at[1]] == limits[at[3]] == -1


def test_optimum():
    problem = example()
    assert problem.evaluate(solve(problem, SolveRequest(), silent).assignment).objective_s == 28.5
