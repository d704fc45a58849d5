"""The simulation: textbook bubbles, a slow second opinion, and the closed forms that bound it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniap_core.errors import BadValue, UnknownName
from uniap_core.pipeline import Pipeline as Shape
from uniap_core.verify.replay import held
from uniap_core.verify.simulate import TimedPipeline, simulate
from uniap_core.verify.timing import bracket, period


def pipeline(schedule, c, forward, backward, *, once=None, down=None, up=None, chunks=()):
    depth = len(forward)
    return TimedPipeline(
        schedule=schedule,
        micro_batches=c,
        forward_s=np.array(forward, dtype=float),
        backward_s=np.array(backward, dtype=float),
        iteration_s=np.array(once if once is not None else [0.0] * depth),
        activation_s=np.array(down if down is not None else [0.0] * (depth - 1), dtype=float),
        gradient_s=np.array(up if up is not None else [0.0] * (depth - 1), dtype=float),
        chunks=chunks,
    )


def order(schedule, stage, depth, c):
    """Events of one stage in order, written out from the papers."""
    if schedule == "gpipe":
        return [("F", m) for m in range(c)] + [("B", m) for m in range(c)]
    warm = min(c, depth - stage)
    events = [("F", m) for m in range(warm)]
    for m in range(c):
        events.append(("B", m))
        if warm + m < c:
            events.append(("F", warm + m))
    return events


def by_events(p):
    """The same simulation, one event at a time, as soon as its inputs have arrived: slow and plain."""
    depth, c = p.depth, p.micro_batches
    queues = [order(p.schedule, i, depth, c) for i in range(depth)]
    ends, arrivals = {}, {}
    free, channel = [0.0] * depth, {}
    while any(queues):
        for i, queue in enumerate(queues):
            while queue:
                kind, m = queue[0]
                step = 1 if kind == "F" else -1
                outermost = i == (0 if kind == "F" else depth - 1)
                needed = 0.0 if outermost else arrivals.get((kind, i, m))
                if kind == "B":
                    needed = None if needed is None else max(needed, ends.get(("F", i, m), math.inf))
                if needed is None or math.isinf(needed):
                    break
                queue.pop(0)
                seconds = (p.forward_s if kind == "F" else p.backward_s)[i]
                free[i] = ends[kind, i, m] = max(free[i], needed) + seconds
                if 0 <= i + step < depth:
                    moved = p.activation_s[i] if kind == "F" else p.gradient_s[i - 1]
                    start = max(free[i], channel.get((kind, i), 0.0))
                    channel[kind, i] = arrivals[kind, i + step, m] = start + moved
    return max(free[i] + p.iteration_s[i] for i in range(depth)), ends


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize("depth", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("c", [1, 2, 7, 16, 40])
def test_textbook_bubble_exactly(schedule, depth, c):
    seen = simulate(pipeline(schedule, c, [1.0] * depth, [2.0] * depth))
    assert seen.makespan_s == 3 * (c + depth - 1)
    assert seen.bubble_share == (depth - 1) / (c + depth - 1)


@st.composite
def pipelines(draw, schedules=("gpipe", "1f1b")):
    depth = draw(st.integers(1, 6))
    c = draw(st.integers(1, 12))
    seconds = st.integers(0, 50).map(float)

    def row(length):
        return draw(st.lists(seconds, min_size=length, max_size=length))

    forward, backward, once = row(depth), row(depth), row(depth)
    down, up = row(depth - 1), row(depth - 1)
    return pipeline(draw(st.sampled_from(schedules)), c, forward, backward, once=once, down=down, up=up)


@settings(max_examples=150, deadline=None)
@given(pipelines())
def test_equals_the_event_by_event_simulation(p):
    makespan, ends = by_events(p)
    seen = simulate(p)
    assert seen.makespan_s == makespan
    for (kind, i, m), end in ends.items():
        table = seen.forward_end_s if kind == "F" else seen.backward_end_s
        assert table[i, m] == end


@settings(max_examples=200, deadline=None)
@given(pipelines())
def test_lies_between_the_bounds_of_theory(p):
    low, high = bracket(p)
    assert low * (1 - 1e-12) <= simulate(p).makespan_s <= high * (1 + 1e-12)


@settings(max_examples=60, deadline=None)
@given(pipelines(("1f1b",)), st.integers(30, 300))
def test_period_is_the_rate_of_the_steady_state(p, c):
    many = pipeline("1f1b", c, p.forward_s, p.backward_s, down=p.activation_s, up=p.gradient_s)
    # The critical cycle of at most P stages repeats from end to end; bracket() has the other side.
    assert simulate(many).makespan_s >= (c - p.depth) * period(p) * (1 - 1e-12)


def test_period_by_hand():
    # Stages of 3 s and boundaries of 2 s: down one stage and back takes 3 + 2 + 3 s, for two micro-batches.
    assert period(pipeline("1f1b", 9, [1, 1], [2, 2], down=[1], up=[1])) == 4
    assert period(pipeline("1f1b", 9, [1, 1], [2, 2], down=[9], up=[0])) == 9
    ends = simulate(pipeline("1f1b", 9, [1, 1], [2, 2], down=[1], up=[1])).backward_end_s[0]
    assert (ends[8] - ends[4]) / 4 == 4


@settings(max_examples=60, deadline=None)
@given(pipelines(("gpipe",)))
def test_gpipe_closed_form(p):
    def flow(stage, cross):
        times = [*stage, *cross]
        return sum(times) + (p.micro_batches - 1) * max(times)

    seen = simulate(pipeline("gpipe", p.micro_batches, p.forward_s, p.backward_s, down=p.activation_s, up=p.gradient_s))
    assert seen.makespan_s == flow(p.forward_s, p.activation_s) + flow(p.backward_s, p.gradient_s)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("depth", "c"), [(1, 1), (1, 5), (4, 2), (4, 4), (4, 9), (7, 3)])
def test_micro_batches_held_at_every_event(schedule, depth, c):
    rows = held(schedule, tuple(range(depth)), c)
    assert [len(row) for row in rows] == [2 * c] * depth
    for i in range(depth):
        count, expected = 0, []
        for kind, _ in order(schedule, i, depth, c):
            count += kind == "F"
            expected.append(count)
            count -= kind == "B"
        assert rows[i][:, 0].tolist() == expected
        assert Shape.of(schedule, depth).in_flight(c)[i] == ((rows[i].max(),),)


def test_refusals():
    with pytest.raises(UnknownName, match="does not know the schedule 'chimera'"):
        simulate(pipeline("chimera", 2, [1.0], [1.0]))
    with pytest.raises(BadValue, match="interleaved does not lay its chunks"):
        simulate(pipeline("interleaved", 2, [1.0] * 4, [1.0] * 4, chunks=(0, 1, 1, 0)))
    with pytest.raises(BadValue, match="one time per stage"):
        pipeline("1f1b", 2, [1.0, 1.0], [1.0])
