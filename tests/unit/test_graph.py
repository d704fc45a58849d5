"""Graphs: counts, validation, the networkx view."""

from __future__ import annotations

import msgspec
import networkx as nx
import pytest

from uniap_core import artifact, graph
from uniap_core.errors import BadFile, BadValue
from uniap_core.graph import TOKENS, Flow, Layer, Length, ModelGraph, Operator, Saved


def block(name, **more):
    gemm = Operator(name="w", kind="gemm", rows=TOKENS, inner=8, outer=16, parameters=128, saved=(Saved(8),))
    attention = Operator(name="a", kind="attention", rows=TOKENS, keys=TOKENS, heads=2, inner=4)
    return Layer(name, "block", (gemm, attention), **more)


def make(names="abc", edges=("ab", "bc"), **more):
    flows = tuple(Flow(s, t, f"{s}.out", TOKENS, 8) for s, t in edges)
    return ModelGraph(name="m", family="toy", sequence=32, layers=tuple(map(block, names)), edges=flows, **more)


def test_counts_follow_batch_and_sequence():
    layer = block("x")
    assert layer.flops(3, 32) == 3 * (2 * 32 * 8 * 16 + 4 * 32 * 32 * 2 * 4)
    assert layer.flops(6, 32) == 2 * layer.flops(3, 32)
    assert layer.saved_bytes(3, 32, 2) == 3 * 32 * 8 * 2
    assert Length(5, 2).at(10) == 25


def test_tied_parameters_count_once():
    g = make()
    tied = Operator(name="t", kind="gemm", rows=TOKENS, parameters=128, tied="a/w")
    last = msgspec.structs.replace(g.layers[-1], operators=(*g.layers[-1].operators, tied))
    again = msgspec.structs.replace(g, layers=(*g.layers[:-1], last))
    assert again.parameters == g.parameters == 384
    assert again.layers[-1].parameters == 256


def test_the_networkx_view_is_the_dag():
    dag = make(edges=("ab", "ac", "bc")).network
    assert nx.is_directed_acyclic_graph(dag)
    assert nx.has_path(dag, "a", "c")
    assert dag.nodes["b"]["layer"].name == "b"
    assert dag.edges["a", "c"]["flows"][0].tensor == "a.out"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": "aab"}, "two layers named 'a'"),
        ({"names": ""}, "no layer"),
        ({"edges": ("ab", "bz")}, "unknown layer 'z'"),
        ({"edges": ("ab", "bc", "ca")}, "cycle through a, b, c"),
    ],
)
def test_what_is_no_model_is_refused(arguments, message):
    with pytest.raises(BadValue, match=message):
        make(**arguments)


def test_a_tensor_has_one_producer():
    flows = (Flow("a", "b", "t", TOKENS, 8), Flow("b", "c", "t", TOKENS, 8))
    with pytest.raises(BadValue, match="two producers"):
        ModelGraph(name="m", family="toy", sequence=8, layers=tuple(map(block, "abc")), edges=flows)


def test_a_graph_is_a_document(tmp_path):
    g = make()
    artifact.write(tmp_path / "g.json", g)
    assert graph.read(tmp_path / "g.json") == g
    assert graph.read(tmp_path / "g.json").hash == g.hash


def test_a_file_with_an_unknown_field_is_refused():
    text = artifact.encode(make()).decode().replace('"kind":"block"', '"kind":"block","speed":1', 1)
    with pytest.raises(BadFile, match="speed"):
        artifact.decode(text, ModelGraph)
