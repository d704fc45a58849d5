"""What a problem charges of work that ranks do once per iteration: once, whatever the schedule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniap_core import schedules
from uniap_core.costs import Candidate, CostTables, LayerCosts, Training, pipeline_ranks
from uniap_core.errors import BadValue
from uniap_core.pipeline import Pipeline
from uniap_core.posing import pose
from uniap_core.problem import Assignment
from uniap_core.strategy import Strategy
from uniap_core.tables import EdgeTable


def seconds(pipeline: Pipeline, micro_batches: int, once: list[float], per_micro_batch: float = 3.0) -> float:
    """The objective if every chunk is one layer, transfers take no time, and rank i works ``once[i]`` per iteration."""
    v, ranks = pipeline.chunks_per_rank, pipeline.ranks
    candidate = Candidate(pipeline, micro_batches, Training(global_batch=micro_batches))
    forward, backward = np.full((ranks, 1), per_micro_batch / 3), np.full((ranks, 1), 2 * per_micro_batch / 3)
    work, nothing = np.array(once)[:, None] / v, np.zeros(1)
    layers = tuple(
        LayerCosts(f"layer{j}", (Strategy(),), forward, backward, work, nothing, nothing)
        for j in range(len(pipeline.chunks))
    )
    free = np.zeros((1, 1))
    edges = tuple(EdgeTable(j, j + 1, f"out{j}", free, free) for j in range(len(layers) - 1))
    tables = CostTables("toy/1", candidate, pipeline_ranks([1.0] * ranks, [0.0] * ranks, candidate), layers, edges)
    return pose(tables).evaluate(Assignment(tuple(range(len(layers))), (0,) * len(layers))).objective_s


def shapes() -> list[Pipeline]:
    """A pipeline of every schedule, and of every number of chunks per rank that it has."""
    found = []
    for name in schedules.names():
        for ranks, chunks in ((1, 1), (2, 1), (4, 1), (2, 2), (4, 2), (4, 3)):
            try:
                found.append(Pipeline.of(name, ranks, chunks))
            except BadValue:
                continue
    return found


SHAPES = shapes()


@pytest.mark.parametrize("micro_batches", [1, 4, 12])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.schedule}-{shape.name}")
def test_equal_ranks_pay_their_work_once(shape, micro_batches):
    none = seconds(shape, micro_batches, [0.0] * shape.ranks)
    assert seconds(shape, micro_batches, [5.0] * shape.ranks) == pytest.approx(none + 5.0, rel=1e-12)


def test_every_schedule_is_among_the_shapes():
    assert {shape.schedule for shape in SHAPES} == set(schedules.names())


@given(st.sampled_from(SHAPES), st.integers(1, 40), st.data())
def test_unequal_ranks_pay_neither_less_than_the_least_nor_more_than_the_most(shape, micro_batches, data):
    once = data.draw(st.lists(st.floats(0, 100), min_size=shape.ranks, max_size=shape.ranks))
    paid = seconds(shape, micro_batches, once) - seconds(shape, micro_batches, [0.0] * shape.ranks)
    assert min(once) - 1e-9 <= paid <= max(once) + 1e-9
