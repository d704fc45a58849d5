"""The order of each schedule: complete, without deadlock, as long and as full as its weights and moments say."""

from __future__ import annotations

from itertools import pairwise, product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniap_core import schedules
from uniap_core.pipeline import Pipeline, placements
from uniap_core.schedules.contract import group_size

SECONDS = {"F": 1.0, "I": 1.0, "W": 1.0, "B": 2.0}  # of one chunk: three equal parts
PLAIN, LOOPS = ("gpipe", "1f1b", "zb-h1"), ("interleaved", "interleaved-zb")
VEES = ("zbv", "dualpipev", "v-half", "v-min")


def units(steps, paired):
    """Steps that hand over together: alone, or a forward with the full backward after it."""
    at = 0
    while at < len(steps):
        both = paired and [step.kind for step in steps[at : at + 2]] == ["F", "B"]
        yield steps[at : at + 1 + both]
        at += 1 + both


def needs(step, last):
    """What must have run: the chunk before or after, the forward, the input gradient."""
    kind, chunk, m = step
    if kind == "F":
        return [("F", chunk - 1, m)] if chunk else []
    if kind == "W":
        return [("I", chunk, m)]
    return [("F", chunk, m), *([("I", chunk + 1, m)] if chunk < last else [])]


def makespan(shape, c, hop_s=0.0):
    """Seconds of an iteration in which every rank runs its order as soon as it can, or None if it never ends."""
    paired = schedules.find(shape.schedule).paired
    waiting = [list(units(steps, paired))[::-1] for steps in shape.order(c)]
    end, free, last = {}, [0.0] * shape.ranks, len(shape.chunks) - 1
    progress = True
    while progress:
        progress = False
        for rank, mine in enumerate(waiting):
            while mine:
                own = {name(step) for step in mine[-1]}
                wanted = [need for step in mine[-1] for need in needs(step, last) if need not in own]
                if any(need not in end for need in wanted):
                    break
                arrived = [end[need] + (hop_s if shape.chunks[need[1]] != rank else 0.0) for need in wanted]
                free[rank] = max([free[rank], *arrived]) + sum(SECONDS[step.kind] for step in mine[-1])
                end.update(dict.fromkeys(own, free[rank]))
                mine.pop()
                progress = True
    return None if any(waiting) else max(free)


def name(step):
    """What others wait for: a full backward gives the gradient of the input, too."""
    return ("I" if step.kind == "B" else step.kind, step.chunk, step.micro_batch)


def idle(shape, c):
    """Idle time of the slowest rank in whole-rank forwards."""
    return (makespan(shape, c) - 3 * shape.chunks_per_rank * c) / shape.chunks_per_rank


def peaks(shape, c):
    """The most that each rank holds, in whole-rank micro-batches."""
    return [max(map(sum, moments)) / shape.chunks_per_rank for moments in shape.in_flight(c)]


@st.composite
def runs(draw, ranks=6, most=20):
    """A shape and a number of micro-batches that its schedule can run."""
    name = draw(st.sampled_from(schedules.names()))
    v = draw(st.integers(2, 4)) if name in LOOPS else 1 if name in PLAIN else 2
    shape = Pipeline.of(name, draw(st.integers(2, ranks)), v)
    return shape, draw(st.integers(1, most).filter(lambda c: not shape.legal(c)))


@given(runs())
def test_each_rank_runs_all_of_its_own_once_and_in_turn(run):
    shape, c = run
    for rank, steps in enumerate(shape.order(c)):
        own = [j for j, owner in enumerate(shape.chunks) if owner == rank]
        halves = [(half, s.chunk, s.micro_batch) for s in steps for half in ("IW" if s.kind == "B" else s.kind)]
        assert sorted(halves) == sorted((half, j, m) for half in "FIW" for j in own for m in range(c))
        for half in "FIW":
            for j in own:
                assert [m for kind, chunk, m in halves if (kind, chunk) == (half, j)] == list(range(c))


@given(runs())
def test_no_order_waits_for_itself(run):
    assert makespan(*run) is not None


@given(runs())
def test_weights_are_the_idle_time_of_the_order(run):
    shape, c = run
    weights = shape.weights(c)
    assert weights.sum + weights.peak == pytest.approx(c)
    assert idle(shape, c) == pytest.approx(3 * weights.sum * (shape.ranks - 1))


@given(runs(ranks=4, most=50))
def test_moments_are_what_the_order_holds_at_worst(run):
    shape, c = run
    for rank, (steps, moments) in enumerate(zip(shape.order(c), shape.in_flight(c), strict=True)):
        own = [j for j, owner in enumerate(shape.chunks) if owner == rank]
        held, seen = dict.fromkeys(own, 0), set()
        for step in steps:
            held[step.chunk] += {"F": 1, "I": 0}.get(step.kind, -1)
            seen.add(tuple(held.values()))
        assert set(moments) <= seen
        for stash in [(1, 1, 1, 1), (1, 0, 0, 0), (0, 1, 0, 2), (0, 0, 1, 1), (3, 2, 1, 5), (1, 7, 2, 1)]:
            cost = lambda counts, stash=stash: sum(a * b for a, b in zip(counts, stash, strict=False))  # noqa: E731
            assert max(map(cost, moments)) == max(map(cost, seen))


def test_no_weight_is_negative_by_rounding():
    """Few micro-batches on many ranks: the ramp is the whole iteration."""
    for name, ranks, c in product(schedules.names(), range(2, 12), range(1, 12)):
        for v in placements(name, ranks, 9 * ranks):
            shape = Pipeline.of(name, ranks, v)
            if not shape.legal(c):
                assert min(msgspec.structs.astuple(shape.weights(c))) >= 0, (name, ranks, v, c)


@pytest.mark.parametrize("schedule", [*LOOPS, *VEES, "zb-h1"])
def test_huge_numbers_of_micro_batches_cost_no_more_than_a_few_groups(schedule):
    shape = Pipeline.of(schedule, 64, 8 if schedule in LOOPS else 1 if schedule in PLAIN else 2)
    assert shape.in_flight(64 * 64) is shape.in_flight(64 * 10**9)


def waits(shape, c):
    """Transfers, there or back, that an iteration waits for when they are short."""
    return (makespan(shape, c, hop_s=1e-3) - makespan(shape, c)) / 1e-3


def priced(shape, c):
    """The same, by the weights."""
    hops = sum(a != b for a, b in pairwise(shape.chunks))
    return 2 * hops * shape.weights(c).cross


@pytest.mark.parametrize("name", [*PLAIN, *LOOPS, *VEES])
@pytest.mark.parametrize("ranks", [2, 3, 4, 6])
def test_transfers_weigh_what_the_order_waits_for(name, ranks):
    for v in (2, 3, 4) if name in LOOPS else (1,) if name in PLAIN else (2,):
        shape = Pipeline.of(name, ranks, v)
        for c in (2 * ranks, 3 * ranks, 4 * ranks):
            if name == "1f1b":  # UniAP's objective has the ramp alone; the settled order waits every P micro-batches
                assert priced(shape, c) == pytest.approx(2 * (ranks - 1))
                assert waits(shape, c) == pytest.approx(2 * (ranks - 1) * (1 + (c - 1) // ranks) + 2 * (ranks - 2))
            elif name == "v-min" and ranks % 3:  # the pattern has ticks to spare then, and the price has not
                assert 0.6 * priced(shape, c) < waits(shape, c) <= priced(shape, c)
            else:
                assert priced(shape, c) == pytest.approx(waits(shape, c))


@given(runs())
def test_interleaved_transfers_weigh_what_the_order_waits_for_at_any_number(run):
    shape, c = run
    if shape.schedule in ("interleaved", "zb-h1"):
        assert priced(shape, c) == pytest.approx(waits(shape, c))


@pytest.mark.parametrize("ranks", [2, 4, 6, 8])
def test_published_idle_time(ranks):
    c, others = 2 * ranks, ranks - 1
    assert idle(Pipeline.of("1f1b", ranks), c) == pytest.approx(3 * others)
    assert idle(Pipeline.of("zb-h1", ranks), c) == pytest.approx(3 * others / 3)
    for v in (2, 3, 4):
        assert idle(Pipeline.of("interleaved", ranks, v), c) == pytest.approx(3 * others / v)
        assert idle(Pipeline.of("interleaved-zb", ranks, v), c) == pytest.approx(others / v)
    assert idle(Pipeline.of("zbv", ranks, 2), c) == pytest.approx(others / 2)
    assert idle(Pipeline.of("dualpipev", ranks, 2), c) == pytest.approx(others)  # 3.0 at P = 4, 7.0 at P = 8
    assert idle(Pipeline.of("v-half", ranks, 2), c) == pytest.approx(3 * others / 2)
    assert idle(Pipeline.of("v-min", ranks, 2), c) == pytest.approx(3 * others * 2 / 3, abs=0.5)


@pytest.mark.parametrize("ranks", [2, 4, 6, 8, 9])
def test_published_memory(ranks):
    for c in (2 * ranks, 8 * ranks):
        for v in (2, 4):
            most = [(2 * (ranks - i - 1) + (v - 1) * ranks + 1) / v for i in range(ranks)]
            assert peaks(Pipeline.of("interleaved", ranks, v), c) == pytest.approx(most)
            assert peaks(Pipeline.of("interleaved-zb", ranks, v), c) == [ranks] * ranks
        assert peaks(Pipeline.of("zb-h1", ranks), c) == [ranks] * ranks
        assert peaks(Pipeline.of("zbv", ranks, 2), c) == [ranks] * ranks
        assert peaks(Pipeline.of("dualpipev", ranks, 2), c) == [ranks + 0.5] * ranks
        assert peaks(Pipeline.of("v-half", ranks, 2), c) == [ranks // 2 + 1] * ranks
        assert max(peaks(Pipeline.of("v-min", ranks, 2), c)) == ranks // 3 + {0: 1, 1: 1, 2: 2}[ranks % 3]


@pytest.mark.parametrize(
    ("name", "v", "c", "reason"),
    [
        ("dualpipev", 2, 7, "8 micro-batches or more, not 7"),
        ("interleaved-zb", 2, 3, "4 micro-batches or more"),
        ("v-half", 2, 3, "4 micro-batches or more"),
        ("v-min", 2, 3, "4 micro-batches or more"),
    ],
)
def test_a_schedule_says_how_many_micro_batches_it_needs(name, v, c, reason):
    shape = Pipeline.of(name, 4, v)
    assert reason in shape.legal(c)
    assert not shape.legal(2 * c + 2)


@pytest.mark.parametrize("name", VEES)
def test_a_vee_goes_there_and_back(name):
    assert Pipeline.of(name, 3, 2).chunks == (0, 1, 2, 2, 1, 0)


def test_groups_are_the_smallest_that_leave_no_smaller_one():
    assert [group_size(4, c) for c in (1, 3, 4, 5, 7, 8, 9, 10, 12, 13)] == [1, 3, 4, 5, 7, 4, 5, 5, 4, 7]
