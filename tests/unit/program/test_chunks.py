"""Problems whose ranks hold several chunks, through every backend: the published optima and random ones."""

import json
import math
import os
from itertools import cycle, product
from pathlib import Path

import numpy as np
import pytest

from uniap_core.problem import read
from uniap_core.program import pipe
from uniap_core.program.form import Form
from uniap_core.program.ladder import lower
from uniap_core.solve import driver
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import Stop
from uniap_core.tables import Rank
from uniap_core.testing import availability, corpus, optimum, random_problem
from uniap_core.testing.problems import CHUNKED, MEMORIES, SHAPES, SMALL_CHUNKED

FOLDER = Path(__file__).parents[2] / "data" / "problems2"
OPTIMA = {
    name: math.inf if value is None else value
    for name, value in json.loads((FOLDER / "optima.json").read_text()).items()
}
COUNT = int(os.environ.get("UNIAP_CHUNKED_BULK", "0"))
"""Random problems per backend and form, for nightly runs; the defaults below keep the gate short."""

WAYS = [
    ("highs", Form.MILP, "joint", 60, 1),
    ("highs", Form.MILP, "paper", 10, 3),
    ("scip", Form.QUADRATIC, "joint", 6, 6),
    ("scip", Form.MILP, "joint", 6, 6),
    ("cbc", Form.MILP, "joint", 15, 3),
    ("cpsat", Form.INTEGER, "joint", 15, 3),
    ("gurobi", Form.QUADRATIC, "joint", 15, 3),
]
"""Solver, form, formulation, random problems, and every how many-th published one."""


def solved(problem, way, expected_s):
    solver, form, pose, *_ = way
    result = driver.solve(problem, solver, SolveRequest(time_limit_s=120), form=form, pose=pose)
    assert result.stop is (Stop.INFEASIBLE if math.isinf(expected_s) else Stop.OPTIMAL), (
        problem.name,
        result.raw_status,
    )
    assert (math.inf if result.objective_s is None else result.objective_s) == pytest.approx(expected_s, rel=1e-6)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way[:3])))
def test_published_optima(way):
    availability.plugin("solver", way[0])
    for name in sorted(OPTIMA)[:: 1 if COUNT else way[4]]:
        solved(read(FOLDER / f"{name}.json"), way, OPTIMA[name])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way[:3])))
def test_random_chunked_problems(way):
    availability.plugin("solver", way[0])
    kinds = cycle(product(SHAPES, MEMORIES, CHUNKED))
    for seed, (shape, memory, placement) in zip(range(COUNT or way[3]), kinds, strict=False):
        rng = np.random.default_rng(seed)
        problem = random_problem(rng, SMALL_CHUNKED, shape=shape, memory=memory, placement=placement)
        solved(problem, way, optimum(problem).objective_s)


def test_moments_that_another_exceeds_get_no_row():
    rank = Rank(1.0, 0.0, ((2.0, 1.0), (1.0, 1.0), (1.0, 3.0), (2.0, 1.0), (0.5, 3.0)))
    assert set(pipe.deciding(rank)) == {(2.0, 1.0), (1.0, 3.0)}


def test_boundaries_are_grouped_by_the_ranks_that_they_join():
    problem = read(FOLDER / "vee001.json")
    links = {tuple(problem.chunks[j : j + 2]) for link in pipe.links(problem) for j in link}
    assert len(pipe.links(problem)) == len(links)
    assert all(a != b for a, b in links)
    joined = [j for link in pipe.links(problem) for j in link]
    changes = pipe.rank_changes(problem)
    assert sorted(joined) == [j for j in range(problem.depth - 1) if changes[j] != changes[j + 1]]


SIZES = json.loads((FOLDER.parent / "program_sizes.json").read_text())
"""Columns, rows, nonzeros and products of version 0.1's programs, when a rank was one stage; null: not solvable."""


@pytest.mark.parametrize("name", sorted({key.partition("/")[0] for key in SIZES}))
def test_a_plain_problem_pays_nothing_for_chunks(name):
    problem = corpus.decoded(dict(corpus.cases())[name])
    for key, size in SIZES.items():
        case, pose, form = key.split("/")
        if case == name:
            program = lower(problem, Form(form), pose).program
            found = program.size if program.solvable else None
            assert (found and [found.columns, found.rows, found.nonzeros, found.products]) == size, key
