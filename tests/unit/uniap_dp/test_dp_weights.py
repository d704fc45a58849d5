"""Any weights of the objective, any counts in flight: the optimum by every way."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from uniap_dp.solve import lower_bound, solve

from uniap_core import problem as problems
from uniap_core.api import Problem, Rank, SolveRequest, Stop, Weights, silent
from uniap_core.testing.oracle import optimum
from uniap_core.testing.problems import Limits, random_problem

FOLDER = Path(__file__).parents[2] / "data" / "problems2"
OPTIMA = json.loads((FOLDER / "optima.json").read_text())

WAYS = {
    "first choice": {},
    "lattice": {"max_steps": 0, "max_nodes": 0, "max_states": 5_000},
    "depth first": {"max_steps": 0},
}


def weighted(seed):
    """A random problem with random weights, and a second, less full moment on every rank."""
    rng = np.random.default_rng(seed)
    plain = random_problem(rng, Limits(layers=(1, 5)), shape="chain" if seed % 3 == 0 else None)
    weights = Weights(*(float(rng.choice(w)) for w in ((1 / 3, 0.5, 1, 2), (0, 1 / 3, 0.5, 1, 2), (0, 0.5, 3.5, 7))))
    ranks = []
    for rank in plain.ranks:
        (count,) = rank.peak_in_flight
        count = count - 1 / 3 if count and rng.integers(2) else count
        ranks.append(Rank(rank.memory_bytes, rank.reserved_bytes, ((count / 2,), (count,), (0.0,))))
    return Problem(plain.name, plain.micro_batches, weights, tuple(ranks), plain.chunks, plain.layers, plain.edges)


def holds(problem, truth_s, options):
    """Hold one way against the optimum; False if it is no way for this problem."""
    raw = solve(problem, SolveRequest(options=options), silent)
    if raw.stop is Stop.UNSUPPORTED:
        return False
    if truth_s == math.inf:
        assert raw.stop is Stop.INFEASIBLE
        return True
    assert raw.stop is Stop.OPTIMAL
    value = problem.evaluate(raw.assignment)
    assert value.feasible
    assert value.objective_s == pytest.approx(truth_s, rel=1e-9, abs=1e-15)
    assert raw.bound_s <= truth_s * (1 + 1e-13)
    assert raw.bound_s >= truth_s * (1 - 1e-9) - 1e-15
    return True


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("block", range(4))
def test_any_weights_agree_with_enumeration(block, way):
    held = []
    for seed in range(60 * block, 60 * (block + 1)):
        problem = weighted(seed)
        truth_s = optimum(problem).objective_s
        assert lower_bound(problem) <= truth_s
        held.append(holds(problem, truth_s, WAYS[way]))
    assert sum(held) >= 50


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [name for name in OPTIMA if name.startswith("plain")])
def test_published_optima_of_plain_pipelines_are_met(name, way):
    truth_s = math.inf if OPTIMA[name] is None else OPTIMA[name]
    assert holds(problems.read(FOLDER / f"{name}.json"), truth_s, WAYS[way])
