"""Moves between layouts deliver what the target layout means, whatever the two layouts are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from uniap_fsdp.relayout import plan_move  # noqa: E402

from uniap_core.api import Layout, arrange  # noqa: E402

pytestmark = pytest.mark.torch


def laid(ranks: int, tp: int, *, split: bool = False) -> Layout:
    return Layout(arrange(tp=tp, dp=ranks // tp).dense, split)


@st.composite
def moves(draw: st.DrawFn) -> tuple[Layout, Layout, int, int]:
    ranks = draw(st.sampled_from([1, 2, 3, 4, 6, 8, 12]))
    divisors = [d for d in range(1, ranks + 1) if ranks % d == 0]
    pair = [
        laid(ranks, tp, split=tp > 1 and draw(st.booleans()))
        for tp in draw(st.tuples(*[st.sampled_from(divisors)] * 2))
    ]
    batch = math.lcm(*(layout.samples.size for layout in pair)) * draw(st.integers(1, 2))
    rows = math.lcm(*(layout.grid.size("tp") for layout in pair)) * draw(st.integers(1, 2))
    return pair[0], pair[1], batch, rows


@given(moves())
def test_a_move_delivers_the_target_layout(case: tuple[Layout, Layout, int, int]) -> None:
    a, b, batch, rows = case
    whole = torch.arange(batch * rows).reshape(batch, rows)
    had = [whole[a.samples.part(r, batch), a.rows.part(r, rows)] for r in range(a.grid.ranks)]
    planned = [plan_move(a, b, r, batch, rows) for r in range(a.grid.ranks)]
    for rank, move in enumerate(planned):
        wanted = whole[b.samples.part(rank, batch), b.rows.part(rank, rows)]
        got = torch.full_like(wanted, -1)
        if move.group == 1:
            got = had[rank][move.receive[0]]
        else:
            first = rank // move.group * move.group
            for i, box in enumerate(move.receive):
                sent = planned[first + i].send[rank - first]
                assert (sent is None) == (box is None)
                if sent is not None and box is not None:
                    got[box] = had[first + i][sent]
        assert torch.equal(got, wanted)


@given(moves())
def test_no_element_is_sent_to_a_rank_twice_or_needlessly(case: tuple[Layout, Layout, int, int]) -> None:
    a, b, batch, rows = case
    for rank in range(a.grid.ranks):
        move = plan_move(a, b, rank, batch, rows)
        received = sum(
            (box[0].stop - box[0].start) * (box[1].stop - box[1].start) for box in move.receive if box is not None
        )
        assert received == math.prod(move.shape)


def test_a_layout_that_is_there_already_needs_no_exchange() -> None:
    whole, sliced = laid(4, 2), laid(4, 2, split=True)
    assert plan_move(whole, sliced, 1, 8, 16).group == 1
    assert plan_move(sliced, whole, 1, 8, 16).group == 2
    assert plan_move(laid(4, 4), laid(4, 1), 3, 8, 16).group == 1
