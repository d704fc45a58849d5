"""How a graph's numbers grow with the sequence: windows, chunks, squares."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniap_core import artifact
from uniap_core.errors import BadValue
from uniap_core.graph import TOKENS, Layer, Length, ModelGraph, Operator, Saved, at_sequence
from uniap_core.growth import Growth, value_at


def one(operator, sequence=64):
    return ModelGraph(name="m", family="toy", sequence=sequence, layers=(Layer("a", "block", (operator,)),), edges=())


ATTENTION = Operator(name="a", kind="attention", rows=TOKENS, keys=TOKENS, heads=2, inner=8, causal=True)


@given(window=st.integers(1, 80), sequence=st.integers(1, 64))
def test_a_causal_window_is_counted_as_its_mask(window, sequence):
    """Against the mask itself, whose diagonal fused kernels count by half (as they do without a window)."""
    pairs = sum(min(i, window) for i in range(1, sequence + 1)) - min(window, sequence) / 2
    seen = msgspec.structs.replace(ATTENTION, window=window).seen_keys(sequence)
    assert seen * sequence == pytest.approx(pairs)


@pytest.mark.parametrize("causal", [True, False])
def test_a_window_as_wide_as_the_sequence_is_none(causal):
    whole = msgspec.structs.replace(ATTENTION, causal=causal)
    for window in (64, 100):
        assert msgspec.structs.replace(whole, window=window).seen_keys(64) == whole.seen_keys(64)
    assert msgspec.structs.replace(whole, window=8).seen_keys(64) < whole.seen_keys(64)


def test_numbers_follow_windows_chunks_and_squares():
    assert [Growth(field="keys", linear=1, most=32).at(s) for s in (8, 32, 100)] == [8, 32, 32]
    assert [Growth(field="rows", linear=2, chunk=16).at(s) for s in (16, 17, 32, 33)] == [32, 64, 64, 96]
    assert Growth(field="width", fixed=3, square=0.5).at(10) == 53
    assert Growth(field="rows", fixed=-8, linear=1).at(4) == 0
    both = (
        Growth(field="passes", fixed=2),
        Growth(field="passes", linear=3, total=True),
        Growth(field="keys", fixed=9),
    )
    assert value_at(both, "passes", 10, 15) == 2 + 30 / 15
    assert value_at(both, "rows", 10, 1) is None


def test_operators_move_to_other_sequences():
    keys = Growth(field="keys", linear=1, most=32)
    scores = Saved(2 * 32, growth=(Growth(field="width", linear=2, most=64),))
    chunks = Growth(field="rows", linear=1, chunk=48)
    graph = one(msgspec.structs.replace(ATTENTION, keys=Length(32), saved=(scores,), growth=(keys,)))
    moved = at_sequence(graph, 16).layers[0].operators[0]
    assert (moved.keys.at(16), moved.saved[0].width) == (16, 32)
    assert at_sequence(graph, 640).flops(1) == 10 * graph.flops(1)
    assert at_sequence(at_sequence(graph, 16), 64).flops(1) == graph.flops(1)
    padded = one(Operator(name="g", kind="gemm", rows=Length.through(96, 64), inner=8, outer=8, growth=(chunks,)))
    assert at_sequence(padded, 49).flops(1) == padded.flops(1) == 2 * 96 * 8 * 8


def test_numbers_and_their_growth_must_agree():
    grown = msgspec.structs.replace(ATTENTION, keys=Length(32), growth=(Growth(field="keys", linear=1, most=32),))
    data = json.loads(artifact.pretty(one(grown)))
    assert artifact.decode(json.dumps(data), ModelGraph) == one(grown)
    data["layers"][0]["operators"][0]["growth"][0]["most"] = 31
    with pytest.raises(BadValue, match="a/a in m are not those of its growth at 64"):
        artifact.decode(json.dumps(data), ModelGraph)


def test_what_does_not_grow_otherwise_is_written_as_before():
    written = artifact.pretty(one(msgspec.structs.replace(ATTENTION, saved=(Saved(4),))))
    assert "growth" not in written
    assert "window" not in written
