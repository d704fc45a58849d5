"""Attention that is written out, found and replaced by a fused kernel: nothing else of a graph changes."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniap_core.attention import fused, written_out
from uniap_core.graph import TOKENS, Flow, Layer, Length, ModelGraph, Operator, Saved
from uniap_core.growth import Growth

HEADS, SIZE, SEQUENCE = 4, 16, 256
SCORES = HEADS * SEQUENCE


def half(name: str, **changes: object) -> Operator:
    """One of the two products: queries by keys, or scores by values. It keeps its operands, one of them the scores."""
    kept = (Saved(HEADS * SIZE, split=True), Saved(SCORES if name == "values" else HEADS * SIZE, split=True))
    same = {"rows": TOKENS, "keys": TOKENS, "inner": SIZE // 2, "heads": HEADS, "split": "heads", "saved": kept}
    return Operator(name=name, kind="attention", **(same | changes))  # type: ignore[arg-type]


def stream(name: str, parameters: int = 0, frozen: int = 0) -> Operator:
    """A softmax, a mask, a soft cap or sinks, over the scores."""
    return Operator(
        name=name,
        kind="pointwise",
        rows=TOKENS,
        inner=SCORES,
        parameters=parameters,
        frozen=frozen,
        split="heads",
        saved=(Saved(SCORES, split=True, selective=True),),
    )


def gemm(name: str) -> Operator:
    return Operator(name=name, kind="gemm", rows=TOKENS, inner=64, outer=64, parameters=64 * 64, saved=(Saved(64),))


def norm(name: str) -> Operator:
    return Operator(name=name, kind="norm", rows=TOKENS, inner=64, parameters=64, saved=(Saved(64),))


def model(*layers: tuple[Operator, ...], sequence: int = SEQUENCE) -> ModelGraph:
    made = tuple(Layer(f"layers.{i}", "decoder", operators) for i, operators in enumerate(layers))
    edges = tuple(Flow(a.name, b.name, f"{a.name}.out", TOKENS, 64) for a, b in pairwise(made))
    return ModelGraph(name="m", family="traced", sequence=sequence, layers=made, edges=edges)


WRITTEN = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(
    lambda between: (
        half("scores"),
        *(stream(f"s{i}", size, size // 2) for i, size in enumerate(between)),
        half("values"),
    )
)
OTHER = st.sampled_from(
    [
        (gemm("up"),),
        (norm("n"), stream("mask")),
        (half("alone"),),  # a fused kernel, as it is
        (half("one"), half("two")),  # two kernels with nothing between them
        (half("queries"), gemm("between"), half("values")),
        (half("queries"), stream("s"), half("values", keys=Length(7))),  # of different keys
        (half("queries"), stream("s"), half("values", inner=SIZE)),
    ]
)
# A gemm stands between pieces, so that no two of them make a pair.
LAYERS = st.lists(st.one_of(WRITTEN, OTHER), max_size=4).map(
    lambda pieces: tuple(op for piece in pieces for op in (gemm("g"), *piece)) + (gemm("last"),)
)


@given(st.lists(LAYERS, min_size=1, max_size=3))
def test_a_fused_kernel_does_the_same_work_and_keeps_no_scores(layers):
    graph = model(*layers)
    found = fused(graph)
    assert written_out(found) == ()
    assert fused(found) == found
    assert (found.parameters, found.trained) == (graph.parameters, graph.trained)
    assert found.flops(3) == pytest.approx(graph.flops(3))
    for before, after in zip(graph.layers, found.layers, strict=True):
        if before.name not in written_out(graph):
            assert after is before
            continue
        kept = [sum(op.saved_bytes(1, SEQUENCE, 2) for op in layer.operators) for layer in (before, after)]
        assert kept[1] < kept[0]
    assert msgspec.structs.replace(found, layers=graph.layers) == graph


@given(WRITTEN)
def test_the_kernel_keeps_operands_and_a_statistic_per_head(operators):
    (kernel,) = fused(model(operators)).layers[0].operators
    assert (kernel.kind, kernel.heads, kernel.inner, kernel.split) == ("attention", HEADS, SIZE, "heads")
    assert kernel.saved[-1] == Saved(HEADS, bytes=4, split=True, selective=True)
    assert all(saved.width <= HEADS * SIZE for saved in kernel.saved)
    assert kernel.parameters == sum(op.parameters for op in operators)


@given(st.integers(1, SIZE), st.sampled_from([2, 16, 1000]))
def test_scores_of_a_short_sequence_are_no_operands_of_a_long_one(short, factor):
    scores = Saved(HEADS * short, split=True, growth=(Growth(field="width", linear=HEADS),))
    graph = model((half("scores"), stream("softmax"), half("values", saved=(scores,))), sequence=short)
    kernel = fused(graph).layers[0].operators[0]
    per_row = [kernel.at(n).saved_bytes(1, n, 2) / n for n in (short, factor * short)]
    assert per_row[0] == per_row[1]


@given(OTHER)
def test_what_is_no_written_out_attention_is_left_alone(operators):
    graph = model((gemm("g"), *operators))
    assert written_out(graph) == ()
    assert fused(graph) == graph
