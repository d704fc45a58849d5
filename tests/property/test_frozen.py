"""Freezing any layers never raises time or memory of any strategy, and takes their gradients and optimizer states."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uniap_cost_analytic.pricing import price

from uniap_core import cluster
from uniap_core.costs import Candidate, CostTables, Training
from uniap_core.graph import ModelGraph
from uniap_core.models import load
from uniap_core.strategy import StrategySpace
from uniap_core.testing.cost_models import frozen

GRAPHS = [
    load("gpt:layers=4,hidden=256,heads=8,vocab=1001,seq=128"),
    load("mixtral:layers=3,hidden=256,heads=8,kv_heads=4,ffn=512,experts=4,vocab=1000,seq=128"),
    load("t5:layers=2,hidden=64,heads=4,ffn=128,vocab=100,seq=64"),
]
MACHINES = ["8xA100-40G", "2x4xV100-32G"]


def priced(graph: ModelGraph, machine: str, pp: int, training: Training) -> CostTables:
    """The tables of a candidate of two micro-batches, experts in parallel too."""
    candidate = Candidate.of(pp, 2, training)
    return price(graph, cluster.load(machine), StrategySpace(ep=(1, 2)), candidate)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_freezing_more_costs_no_more(data):
    graph = data.draw(st.sampled_from(GRAPHS))
    names = st.sets(st.sampled_from([layer.name for layer in graph.layers]), min_size=1)
    some = data.draw(names)
    more = some | data.draw(names)
    machine, pp = data.draw(st.sampled_from(MACHINES)), data.draw(st.sampled_from([1, 2]))
    overlap = data.draw(st.sampled_from(["none", "all"]))
    training = Training(global_batch=16, precision="fp16", tensor_overlap=overlap)
    tables = [priced(frozen(graph, found), machine, pp, training) for found in (set(), some, more)]
    for before, after in pairwise(tables):
        for a, b in zip(before.layers, after.layers, strict=True):
            for field in ("forward_s", "backward_s", "iteration_s", "stash_bytes", "workspace_bytes"):
                assert (getattr(b, field) <= getattr(a, field) * (1 + 1e-9)).all(), (a.name, field)
            for part in ("parameters", "gradients", "optimizer", "tied"):
                assert (b.state_parts_bytes[part] <= a.state_parts_bytes[part] * (1 + 1e-9)).all(), (a.name, part)
            # What is set aside for all may shrink, and the excess of one over it grow by as much.
            kept = [
                np.array([rank.reserved_bytes for rank in t.ranks]).max() + u.state_bytes
                for t, u in ((before, a), (after, b))
            ]
            assert (kept[1] <= kept[0] * (1 + 1e-9)).all(), a.name
    for name in some:
        layer = next(layer for layer in graph.layers if layer.name == name)
        old, new = (next(x for x in t.layers if x.name == name) for t in tables[:2])
        parts = [x.state_parts_bytes["gradients"] + x.state_parts_bytes["optimizer"] for x in (old, new)]
        assert not parts[1].any()
        # On one stage a tied weight is its owner's.
        assert (parts[0] > 0).all() or not any(op.parameters for op in layer.operators if pp > 1 or not op.tied)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.family)
def test_what_gradients_do_not_reach_has_no_backward_pass(graph):
    first = {layer.name for layer in graph.layers[: len(graph.layers) // 2]}
    part = frozen(graph, first)
    tables = priced(part, "8xA100-40G", 2, Training(global_batch=16, precision="fp16"))
    silent = [layer for layer in tables.layers if layer.name in part.without_backward]
    assert silent
    for layer in silent:
        assert not layer.backward_s.any()
        assert not layer.iteration_s.any()
        assert not layer.stash_bytes.any()
    assert all(layer.backward_s.all() for layer in tables.layers if layer.name not in part.without_backward)
