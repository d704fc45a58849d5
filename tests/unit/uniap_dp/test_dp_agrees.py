"""Graphs that are no chains, at full size: the same optimum as a MIP solver, by another road entirely."""

from __future__ import annotations

import pytest
from uniap_cost_analytic.pricing import price

import uniap_zoo
from bench.dp.problems import Shape, two_towers
from uniap_core import cluster as clusters
from uniap_core.api import Candidate, Problem, SolveRequest, Stop, StrategySpace, Training
from uniap_core.posing import pose
from uniap_core.solve.driver import solve

pytest.importorskip("highspy")


def agree(problem: Problem) -> None:
    ours, theirs = (solve(problem, solver, SolveRequest(time_limit_s=300)) for solver in ("dp", "highs"))
    assert ours.stop is theirs.stop is Stop.OPTIMAL
    assert ours.objective_s == pytest.approx(theirs.objective_s, rel=1e-9)
    assert ours.bound_s >= ours.objective_s * (1 - 1e-9)


@pytest.mark.parametrize(("cluster", "precision"), [("2x8xA100-40G", "bf16"), ("2x8xTITANXp-12G", "fp32")])
def test_t5_large_in_two_stages_on_sixteen_devices(cluster: str, precision: str) -> None:
    training = Training(global_batch=64, precision=precision)
    machine = clusters.load(cluster)
    agree(pose(price(uniap_zoo.build("t5-large"), machine, StrategySpace(), Candidate.of(2, 4, training))))


def test_two_towers_joined_at_a_head() -> None:
    agree(two_towers(Shape(49, 2, 6, 8, 0.6, 0.2, layout_free_cross=True)))
