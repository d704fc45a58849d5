"""The semantics: evaluate by hand-computed cases, and what a problem file may not say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

from uniap_core import artifact, problem
from uniap_core.errors import BadFile, BadValue
from uniap_core.problem import Assignment
from uniap_core.testing import problems

TOY = """
{"schema": "uniap.problem/1", "name": "toy", "micro_batches": 4,
 "stages": [{"memory_bytes": 100, "reserved_bytes": 10, "in_flight": 2},
            {"memory_bytes": 100, "reserved_bytes": 10, "in_flight": 1}],
 "layers": [
  {"name": "a", "strategies": ["x", "y"], "time_s": [1, 2], "state_bytes": [10, 5], "stash_bytes": [4, 2]},
  {"name": "b", "strategies": ["x"], "time_s": [[3], [null]], "state_bytes": [20], "stash_bytes": [1]},
  {"name": "c", "strategies": ["x", "y"], "time_s": [5, 7], "state_bytes": [30, 3], "stash_bytes": [8, 1]}],
 "edges": [
  {"source": "a", "target": "b", "tensor": "a.out", "reshard_s": [[0], [0.5]], "cross_s": [[0.1], [0.2]]},
  {"source": "a", "target": "c", "tensor": "a.out", "reshard_s": [[0, 1], [1, 0]], "cross_s": [[0.3, 0.3], [0.4, 0.4]]},
  {"source": "b", "target": "c", "reshard_s": [[0, 0.25]], "cross_s": [[0.6, 0.7]]}]}
"""


def toy(**changes):
    text = TOY
    for old, new in changes.items():
        text = text.replace(old, new)
    return problem.from_file(artifact.decode(text, problem.ProblemFile))


def test_times_by_hand():
    value = toy().evaluate(Assignment((0, 0, 1), (1, 0, 0)))
    assert value.rank_s == (2 + 3 + 0.5, 5)
    assert value.cross_s == pytest.approx((0.4 + 0.6,))
    assert value.objective_s == pytest.approx(5.5 + 5 + 1.0 + 3 * 5.5)
    assert value.memory_bytes == (10 + 5 + 2 * 2 + 20 + 2 * 1, 10 + 30 + 8)
    assert value.feasible


def test_a_tensor_crosses_a_boundary_once_at_the_price_of_its_dearest_edge():
    p = toy(**{'"time_s": [[3], [null]]': '"time_s": [3]'})
    value = p.evaluate(Assignment((0, 1, 1), (1, 0, 0)))
    assert value.cross_s == pytest.approx((max(0.2, 0.4),))


def test_an_edge_that_skips_a_stage_pays_at_every_boundary():
    text = TOY.replace('{"memory_bytes": 100, "reserved_bytes": 10, "in_flight": 2},', 2 * (
        '{"memory_bytes": 100, "reserved_bytes": 10, "in_flight": 2},'
    )).replace('"time_s": [[3], [null]]', '"time_s": [3]')  # fmt: skip
    p = problem.from_file(artifact.decode(text, problem.ProblemFile))
    value = p.evaluate(Assignment((0, 1, 2), (0, 0, 0)))
    assert value.cross_s == pytest.approx((0.3, 0.3 + 0.6))


@pytest.mark.parametrize(
    ("stage", "strategy", "reason"),
    [
        ((0, 1, 1), (0, 0, 0), "strategy x is not possible on stage 1"),
        ((0, 0, 0), (0, 0, 0), "stage 1 has no layer"),
        ((1, 0, 1), (0, 0, 0), "order: a on stage 1 feeds b on the earlier stage 0"),
    ],
)
def test_violations_are_named(stage, strategy, reason):
    value = toy().evaluate(Assignment(stage, strategy))
    assert not value.feasible
    assert any(reason in violation for violation in value.violations)


def test_memory_exactly_at_the_limit_fits_and_one_byte_more_does_not():
    where = Assignment((0, 0, 1), (0, 0, 0))
    need = 10 + 10 + 2 * 4 + 20 + 2 * 1
    at = toy(**{'"memory_bytes": 100': f'"memory_bytes": {need}'})
    assert at.evaluate(where).feasible
    below = toy(**{'"memory_bytes": 100': f'"memory_bytes": {need - 1}'})
    assert "stage 0 needs 50 B of memory and has 49 B" in below.evaluate(where).violations


def test_an_impossible_strategy_has_infinite_time():
    assert math.isinf(toy().evaluate(Assignment((0, 1, 1), (0, 0, 0))).objective_s)


@pytest.mark.parametrize(
    ("stage", "strategy"),
    [((0, 0), (0, 0)), ((0, 0, 2), (0, 0, 0)), ((0, 0, 1), (0, 1, 0)), ((0, 0, -1), (0, 0, 0))],
)
def test_what_is_no_assignment_is_refused(stage, strategy):
    with pytest.raises(BadValue):
        toy().evaluate(Assignment(stage, strategy))


@given(problems())
def test_a_problem_survives_its_file(p):
    again = problem.from_file(artifact.decode(artifact.encode(problem.to_file(p)), problem.ProblemFile))
    assert again.hash == p.hash
    assert again.order == p.order


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"time_s": [1, 2]', '"time_s": [-1, 2]', "layer a: time_s has the negative entry -1"),
        ('"time_s": [1, 2]', '"time_s": [1, 2, 3]', "layer a: time_s has shape"),
        ('"time_s": [1, 2]', '"time_s": [[1, 2]]', "layer a: time_s has shape"),
        ('"time_s": [1, 2]', '"time_s": [1, [2, 2]]', "layer a: time_s mixes"),
        ('"state_bytes": [20]', '"state_bytes": [-20]', "layer b: state_bytes has the negative"),
        ('"strategies": ["x", "y"], "time_s": [1', '"strategies": ["x", "x"], "time_s": [1', "lists a strategy twice"),
        ('"micro_batches": 4', '"micro_batches": 0', "micro_batches is 0"),
        ('"name": "b"', '"name": "a"', "two layers are named 'a'"),
        ('"source": "b", "target": "c"', '"source": "b", "target": "z"', "unknown layer 'z'"),
        ('"source": "b", "target": "c"', '"source": "b", "target": "b"', "does not join two different layers"),
        ('"reshard_s": [[0, 0.25]]', '"reshard_s": [[0]]', "edge b -> c: reshard_s has shape"),
        ('"in_flight": 2', '"in_flight": -2', "in_flight is -2"),
        ('"reserved_bytes": 10', '"reserved_bytes": -1', "reserved_bytes is -1"),
    ],
)
def test_what_means_nothing_is_refused(old, new, message):
    with pytest.raises(BadValue, match=message):
        toy(**{old: new})


def test_a_cycle_is_named():
    text = TOY.replace(
        '{"source": "b", "target": "c", "reshard_s": [[0, 0.25]], "cross_s": [[0.6, 0.7]]}',
        '{"source": "b", "target": "c", "reshard_s": [[0, 0.25]], "cross_s": [[0.6, 0.7]]},'
        '{"source": "c", "target": "b", "reshard_s": [[0], [0]], "cross_s": [[0], [0]]}',
    )
    with pytest.raises(BadValue, match="cycle through b, c"):
        problem.from_file(artifact.decode(text, problem.ProblemFile))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"name": "toy"', '"name": "toy", "speed": 1', "unknown field `speed`"),
        ('"schema": "uniap.problem/1"', '"schema": "uniap.problem/9"', r"\$\.schema"),
        ('"in_flight": 2', '"in_flight": 1.5', r"\$\.stages\[0\]\.in_flight"),
        ('"time_s": [1, 2]', '"time_s": [1, "fast"]', r"\$\.layers\[0\]\.time_s\[1\]"),
        ('"time_s": [1, 2]', '"time_s": [1, NaN]', "not a complete JSON document"),
    ],
)
def test_bad_fields_are_refused_with_their_path(old, new, message):
    with pytest.raises(BadFile, match=message):
        toy(**{old: new})
