"""The verifier's own orders: published figures, completeness, and what it says of an order that was spoiled."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from uniap_core import schedules
from uniap_core.errors import BadValue, UniapError, UnknownName
from uniap_core.verify import replay as replays
from uniap_core.verify.orders import (
    BACKWARD,
    FORWARD,
    INPUT,
    LETTERS,
    WEIGHT,
    Step,
    known,
    orders,
)
from uniap_core.verify.orders.step import loop, vee
from uniap_core.verify.replay import Replay, held, replay
from uniap_core.verify.simulate import TimedPipeline, run, simulate

LOOPED, FOLDED = ("interleaved", "interleaved-zb"), ("zbv", "dualpipev", "v-half", "v-min")
PLAIN = ("gpipe", "1f1b", "zb-h1")


def placed(schedule, ranks, v):
    return vee(ranks) if schedule in FOLDED else loop(ranks, ranks * v)


def uniform(schedule, ranks, v, c, forward=2.0, backward=4.0):
    """Ranks of ``forward`` and ``backward`` seconds in v equal chunks, no transfers."""
    chunks = placed(schedule, ranks, v)
    each = np.ones(len(chunks)) / v
    return TimedPipeline(
        schedule=schedule,
        micro_batches=c,
        forward_s=forward * each,
        backward_s=backward * each,
        iteration_s=0 * each,
        activation_s=0 * each[1:],
        gradient_s=0 * each[1:],
        chunks=chunks,
    )


def idle(schedule, ranks, v, c, **times):
    """Idle time of the iteration in forwards of a whole rank."""
    p = uniform(schedule, ranks, v, c, **times)
    return (simulate(p).makespan_s - c * float(p.forward_s[:1].item() * v + p.backward_s[0] * v)) / (p.forward_s[0] * v)


def whole_rank_peaks(schedule, ranks, v, c):
    return [rows.sum(axis=1).max() / v for rows in held(schedule, placed(schedule, ranks, v), c)]


# --- published figures: idle time on uniform pipelines with F = I = W, and what is alive --------------------------


@pytest.mark.parametrize("ranks", [2, 4, 7])
@pytest.mark.parametrize("v", [2, 3, 8])
@pytest.mark.parametrize("rounds", [1, 3])
def test_interleaving_idles_p_minus_one_over_v(ranks, v, rounds):
    c = rounds * ranks
    assert idle("interleaved", ranks, v, c) == pytest.approx(3 * (ranks - 1) / v, abs=1e-9)
    expected = [min((2 * (ranks - i - 1) + (v - 1) * ranks + 1) / v, c) for i in range(ranks)]
    assert whole_rank_peaks("interleaved", ranks, v, c) == pytest.approx(expected)


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("c", [8, 16, 37])
def test_zero_bubble_figures(ranks, c):
    if c < 2 * ranks:
        c = 2 * ranks
    assert idle("zb-h1", ranks, 1, c) == pytest.approx(ranks - 1)  # (P - 1)(F + B - 2 W)
    assert whole_rank_peaks("zb-h1", ranks, 1, c) == [ranks] * ranks
    assert idle("zbv", ranks, 2, c) == pytest.approx((ranks - 1) / 2)
    assert whole_rank_peaks("zbv", ranks, 2, c) == [ranks] * ranks
    assert idle("dualpipev", ranks, 2, c) == pytest.approx(ranks - 1)  # (P - 1)(F&B + B - 3 W) of chunks
    assert whole_rank_peaks("dualpipev", ranks, 2, c) == [ranks + 0.5] * ranks


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("v", [2, 4])
def test_interleaved_zero_bubble_figures(ranks, v):
    assert idle("interleaved-zb", ranks, v, 3 * ranks) == pytest.approx((ranks - 1) / v)
    assert whole_rank_peaks("interleaved-zb", ranks, v, 3 * ranks) == [ranks] * ranks


@pytest.mark.parametrize("ranks", [2, 3, 4, 5, 6, 8, 9])
@pytest.mark.parametrize("rounds", [2, 5, 20])
def test_v_half_and_v_min_halve_and_third_the_memory(ranks, rounds):
    """Idle time as in sail-sg/zero-bubble-pipeline-parallelism; of V-Min on 3n ranks half a unit more than there."""
    half, least = "v-half", "v-min"
    c = rounds * ranks
    assert idle(half, ranks, 2, c) == pytest.approx(max(0.5, 1.5 * ranks - (3.5 if ranks % 2 == 0 else 2.0)))
    assert max(whole_rank_peaks(half, ranks, 2, c)) == ranks // 2 + 1
    assert idle(least, ranks, 2, c) == pytest.approx(2 * ranks - (3.0 if ranks % 3 == 0 else 2.5))
    assert max(whole_rank_peaks(least, ranks, 2, c)) == (ranks + 4) // 3


def test_zb_h1_of_unequal_parts():
    """(P - 1)(F + B - 2 W), with W the part that the tables state."""
    p = replace(uniform("zb-h1", 4, 1, 12, forward=5.0, backward=8.0), weight_s=np.full(4, 3.0))
    assert simulate(p).makespan_s - 12 * 13 == pytest.approx(3 * (5 + 8 - 2 * 3))


# --- every order is complete and comes to an end ------------------------------------------------------------------


@st.composite
def shapes(draw, names=PLAIN + LOOPED + FOLDED):
    schedule = draw(st.sampled_from(names))
    ranks = draw(st.integers(1 if schedule in PLAIN else 2, 9))
    v = 1 if schedule in PLAIN else 2 if schedule in FOLDED else draw(st.integers(2, 5))
    least = 2 * ranks if schedule == "dualpipev" else 1
    return schedule, placed(schedule, ranks, v), draw(st.integers(least, least + 40))


@settings(max_examples=200, deadline=None)
@given(shapes())
def test_every_order_is_complete_and_ends(shape):
    schedule, chunks, c = shape
    seen = Replay(chunks, c, orders(schedule, chunks, c))  # refuses what is not
    each = [(j, m) for j in range(len(chunks)) for m in range(c)]
    steps = [step for order in seen.orders for step in order]
    letters = {"F": [], "BI": []}
    for kind, j, m in steps:
        if LETTERS[kind] == "F":
            letters["F"].append((j, m))
        elif LETTERS[kind] in "BI":
            letters["BI"].append((j, m))
    assert sorted(letters["F"]) == sorted(letters["BI"]) == each
    for rows in seen.alive:
        assert rows.min() >= 0
        assert rows[-1].sum() == 1  # the last step lets go of the last one


@st.composite
def uneven(draw):
    schedule, chunks, c = draw(shapes())
    seconds = st.integers(0, 30).map(float)
    row = [draw(st.lists(seconds, min_size=len(chunks), max_size=len(chunks))) for _ in range(5)]
    moved = np.array([[i != k for i, k in pairwise(chunks)]] * 2, dtype=float) * np.array(row[3:])[:, 1:]
    return TimedPipeline(
        schedule=schedule,
        micro_batches=c,
        forward_s=np.array(row[0]),
        backward_s=np.array(row[1]),
        iteration_s=np.array(row[2]),
        activation_s=moved[0],
        gradient_s=moved[1],
        chunks=chunks,
    )


def one_by_one(p):
    """The same simulation, slow and plain: run whatever can run, until nothing can."""
    queues = [list(order) for order in orders(p.schedule, p.placed, p.micro_batches)]
    free, links, done, arrived = [0.0] * p.ranks, {}, {}, {}
    spent = {"F": p.forward_s, "B": p.backward_s, "I": p.backward_s - p.weights_s, "W": p.weights_s}

    def ready(kind, j, m):
        if kind == "F":
            return 0.0 if j == 0 else arrived.get(("F", j - 1, m))
        if kind == "W":
            return 0.0
        return 0.0 if j == p.depth - 1 else arrived.get(("B", j + 1, m))

    def send(kind, j, m, at):
        row = "F" if kind == "F" else "B"
        k = j + 1 if row == "F" else j - 1
        if kind != "W" and 0 <= k < p.depth:
            end = p.placed[j], p.placed[k]
            if end[0] != end[1]:
                at = max(at, links.get(end, 0.0)) + (p.activation_s[j] if row == "F" else p.gradient_s[k])
                links[end] = at
            arrived[row, j, m] = at

    moved = True
    while moved:
        moved = False
        for rank, queue in enumerate(queues):
            while queue:
                together = queue[:2] if queue[0].kind == replays.BESIDE else queue[:1]
                named = [(LETTERS[step.kind], step.chunk, step.micro_batch) for step in together]
                starts = [ready(*one) for one in named]
                if None in starts:
                    break
                free[rank] = max(free[rank], *starts) + sum(spent[kind][j] for kind, j, _ in named)
                for one in named:
                    done[one] = free[rank]
                    send(*one, free[rank])
                del queue[: len(together)]
                moved = True
    assert not any(queues)
    return max(at + once for at, once in zip(free, p.by_rank(p.iteration_s), strict=True))


@settings(max_examples=150, deadline=None)
@given(uneven())
def test_equals_the_plain_simulation(p):
    assert simulate(p).makespan_s == pytest.approx(one_by_one(p), abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(shapes(), st.data())
def test_never_holds_more_than_was_priced(shape, data):
    """The planner's moments cover every event, whatever a chunk's micro-batch weighs."""
    schedule, chunks, c = shape
    known_there = schedules.find(schedule)
    v = len(chunks) // (max(chunks) + 1)
    assume(not known_there.legal(max(chunks) + 1, v, c))
    priced = known_there.in_flight(chunks, c)
    for i, rows in enumerate(held(schedule, chunks, c)):
        stash = np.array(data.draw(st.lists(st.integers(0, 9), min_size=v, max_size=v)))
        assert (rows @ stash).max() <= (np.array(priced[i]) @ stash).max() + 1e-9


@settings(max_examples=100, deadline=None)
@given(shapes(PLAIN + LOOPED + ("zbv", "dualpipev")))
def test_the_planner_and_the_verifier_run_the_same_steps(shape):
    """Written apart. (Of V-Half and V-Min the planner prices the block alone, and the verifier squeezes it.)"""
    schedule, chunks, c = shape
    theirs = schedules.find(schedule).order(chunks, c)
    own = orders(schedule, chunks, c)
    assert [[(LETTERS[kind], j, m) for kind, j, m in order] for order in own] == [list(map(tuple, o)) for o in theirs]


@pytest.mark.parametrize("schedule", known())
@pytest.mark.parametrize("ranks", [2, 4, 5])
def test_closed_forms_are_exact_on_uniform_pipelines(schedule, ranks):
    v, c = 1 if schedule in PLAIN else 2, 6 * ranks
    p = uniform(schedule, ranks, v, c)
    weights = schedules.find(schedule).weights(p.placed, c)
    closed = weights.sum * ranks * 6 + weights.peak * 6
    # V-Half on an even number of ranks is squeezed by two forwards more than its weights say, V-Min by half of one.
    slack = {"v-half": 2 * 2.0 * (ranks % 2 == 0), "v-min": 2.0 * (ranks == 2)}.get(schedule, 0.0)
    assert closed - slack - 1e-9 <= simulate(p).makespan_s <= closed + 1e-9


# --- what is wrong is said ------------------------------------------------------------------------------------------


def spoiled(schedule, edit, ranks=4, v=2, c=8):
    chunks = placed(schedule, ranks, v)
    steps = [list(order) for order in orders(schedule, chunks, c)]
    edit(steps)
    return Replay(chunks, c, tuple(steps))


def swap(steps, rank, a, b):
    order = steps[rank]
    order[a], order[b] = order[b], order[a]


def test_a_weight_gradient_that_never_runs_is_missed():
    def drop(steps):
        steps[1].remove(Step(WEIGHT, 1, 3))

    with pytest.raises(BadValue, match="rank 1 runs W of chunk 1, micro-batch 3 0 times instead of 1"):
        spoiled("zbv", drop)


def test_a_step_on_another_rank_is_missed():
    def move(steps):
        steps[0].remove(Step(FORWARD, 4, 0))
        steps[1].insert(0, Step(FORWARD, 4, 0))

    with pytest.raises(BadValue, match="rank 0 runs F of chunk 4, micro-batch 0 0 times"):
        spoiled("interleaved", move)
    with pytest.raises(BadValue, match="does not lay its chunks"):
        orders("interleaved", (0, 1, 1, 0), 4)
    with pytest.raises(BadValue, match="does not lay its chunks"):
        orders("zbv", (0, 1, 0, 1), 4)


def test_steps_out_of_turn_are_seen():
    def early(steps):
        order = steps[3]
        swap(steps, 3, order.index(Step(FORWARD, 7, 0)), order.index(Step(BACKWARD, 7, 0)))

    with pytest.raises(BadValue, match="rank 3 runs B of chunk 7, micro-batch 0 before what it needs"):
        spoiled("interleaved", early)

    def twice(steps):
        steps[2].append(Step(INPUT, 2, 0))

    with pytest.raises(BadValue, match="twice"):
        spoiled("zbv", twice)


def test_ranks_that_wait_for_each_other_are_seen():
    # Complete on every rank, but rank 0 wants the first micro-batch back before it sends the second.
    def greedy(steps):
        order = steps[0]
        order.remove(Step(BACKWARD, 0, 0))
        order.insert(1, Step(BACKWARD, 0, 0))

    with pytest.raises(BadValue, match="rank 0 waits for ever to run B of chunk 0, micro-batch 0"):
        spoiled("interleaved", greedy)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["interleaved", "zb-h1", "zbv", "v-half"]), st.randoms())
def test_a_swap_of_two_steps_never_goes_by_unpriced(schedule, random):
    """It is refused, or it is another schedule, with a time of its own: no faster than its busiest rank."""
    v = 1 if schedule == "zb-h1" else 2

    def edit(steps):
        order = random.choice(steps)
        a, b = random.sample(range(len(order)), 2)
        order[a], order[b] = order[b], order[a]

    p = uniform(schedule, 4, v, 8)
    try:
        other = spoiled(schedule, edit, v=v)
    except BadValue:
        return
    assert run(p, other).makespan_s >= 8 * 6 - 1e-9


def test_an_unknown_schedule_is_refused_never_passed():
    with pytest.raises(UnknownName, match="the verifier does not know the schedule 'chimera'"):
        replay("chimera", (0, 1), 4)
    assert set(PLAIN + LOOPED + FOLDED) == set(known())
    with pytest.raises(BadValue, match="dualpipev needs 8 micro-batches"):
        orders("dualpipev", vee(4), 7)


def test_every_schedule_of_the_planner_is_known_here():
    assert set(schedules.names()) <= set(known())


# --- very many micro-batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved", "zbv", "v-half"])
def test_many_micro_batches_go_on_at_the_rate_of_the_steady_state(schedule, monkeypatch):
    ranks, v, c = 4, 1 if schedule in PLAIN else 2, 151
    rng = np.random.default_rng(3)
    p = uniform(schedule, ranks, v, c)
    p = replace(p, forward_s=p.forward_s * rng.uniform(0.8, 1.2, p.depth), iteration_s=rng.uniform(0, 5, p.depth))
    whole, counts = simulate(p), held(schedule, p.placed, c)
    monkeypatch.setattr(replays, "MOST_EVENTS", 600)
    replay.cache_clear()
    few = simulate(p)
    assert few.rest
    assert few.makespan_s == pytest.approx(whole.makespan_s, rel=1e-9)
    assert few.bubble_share == pytest.approx(whole.bubble_share, rel=1e-6)
    for rows, more in zip(held(schedule, p.placed, c), counts, strict=True):
        assert rows.max(axis=0).tolist() == more.max(axis=0).tolist()


def test_too_few_micro_batches_end_all_the_same():
    for schedule in known():
        if schedule == "dualpipev":
            continue
        for c in range(1, 9):
            try:
                replay(schedule, placed(schedule, 4, 1 if schedule in PLAIN else 2), c)
            except UniapError as error:  # pragma: no cover
                pytest.fail(f"{schedule} with {c}: {error}")
