"""Experts on a grid of their own, and sequences shared among ranks: who exchanges how much, and who holds what."""

from __future__ import annotations

import numpy as np
import pytest
from uniap_cost_analytic.constants import constants_of
from uniap_cost_analytic.context import context_bytes, context_s, variant
from uniap_cost_analytic.edges import edge_tables, rows_held
from uniap_cost_analytic.kernels import Cut, engine
from uniap_cost_analytic.links import collective_s, exposed_s, stage_group
from uniap_cost_analytic.memory import local_parameters
from uniap_cost_analytic.pricing import Pricing

from uniap_core import cluster, models
from uniap_core.axes import Span
from uniap_core.costs import Candidate, Training
from uniap_core.graph import TOKENS, Length, Operator
from uniap_core.strategy import Strategy, StrategySpace

MACHINE = cluster.load("2x8xH100-80G")
GRAPH = models.load("mixtral:layers=2,hidden=1024,heads=16,kv_heads=8,ffn=3584,vocab=1024,seq=8192,experts=8")
BLOCK = GRAPH.layers[1]
PRODUCTS = [op for op in BLOCK.operators if op.kind == "grouped_gemm"]
EXPERTS = sum(op.parameters for op in PRODUCTS)


def priced(*, imbalance=1.0, space=None):
    """Cost of the block by the name of a strategy."""
    candidate = Candidate.of(1, 1, Training(global_batch=16, imbalance=imbalance))
    tables = Pricing(GRAPH, MACHINE, space or StrategySpace(), candidate).tables().layers[1]
    values = zip(tables.strategies, tables.forward_s[0], tables.stash_bytes, strict=True)
    return {s.name: (float(f), float(q)) for s, f, q in values}


def folded(ep, etp=1):
    return Strategy(tp=4, dp=4, ep=ep, etp=etp, sharding="zero1", sequence_parallel=True)


@pytest.mark.parametrize(("ep", "etp", "parts", "copies"), [(8, 1, 8, 2), (4, 1, 4, 4), (4, 4, 16, 1), (1, 1, 1, 16)])
def test_experts_are_cut_and_copied_on_their_own_grid(ep, etp, parts, copies):
    strategy = folded(ep, etp)
    dense, experts = local_parameters(BLOCK.operators, strategy, copies=False)
    assert experts == EXPERTS / parts
    assert strategy.parts("optimizer") == (4, copies)
    assert dense == local_parameters(BLOCK.operators, folded(1, 4), copies=False)[0]


def test_whole_experts_need_no_collective_of_tensor_parallelism():
    """What tp exchanges for experts is gone, and each rank sends its own slice of the rows."""
    candidate = Candidate.of(1, 1, Training(global_batch=16))
    pricing = Pricing(GRAPH, MACHINE, StrategySpace(), candidate)

    def layout(ep, etp):
        strategy = folded(ep, etp)
        return pricing.layout(BLOCK, 0, pricing.cut(strategy), pricing.place(0, strategy))

    constants, group = constants_of("hopper"), stage_group(MACHINE, 0, 16, Span(4, 1), constants_of("hopper"))
    rows = 16 / 4 * 8192
    sizes = [rows * 2 * width * 2 for width in (PRODUCTS[0].inner, PRODUCTS[1].outer)]
    spared = collective_s("all_gather", sizes[0], group, constants)
    spared += collective_s("reduce_scatter", sizes[1], group, constants)
    assert layout(4, 4).tensor_forward_s - layout(4, 1).tensor_forward_s == pytest.approx(spared)
    inside = stage_group(MACHINE, 0, 16, Span(4, 1), constants)
    sent = sum(collective_s("all_to_all", size / 4, inside, constants) for size in sizes)
    assert layout(4, 1).other_forward_s == pytest.approx(sent)
    assert layout(1, 1).other_forward_s == 0


def test_the_fullest_rank_is_waited_for_and_must_hold_what_it_gets():
    even, uneven = priced(), priced(imbalance=1.5)
    for name, (seconds, stash) in even.items():
        spread = "-ep" in name
        assert (uneven[name][0] > seconds) == spread
        assert (uneven[name][1] > stash) == (spread and "full" not in name)
    twice = priced(imbalance=64.0)
    assert twice["tp1-dp16-ep2"][0] == priced(imbalance=2.0)["tp1-dp16-ep2"][0], "no rank gets more than all rows"


def test_layers_without_experts_have_none_to_spread():
    tables = Pricing(GRAPH, MACHINE, StrategySpace(), Candidate.of(1, 1, Training(global_batch=16))).tables()
    embedding, block, _, head = tables.layers
    assert {(s.ep, s.folded) for layer in (embedding, head) for s in layer.strategies} == {(1, False)}
    assert {s.ep for s in block.strategies} == {1, 2, 4, 8}
    assert {s.cp for layer in tables.layers for s in layer.strategies} == {1, 2, 4}
    uniform = Pricing(
        GRAPH, MACHINE, StrategySpace(max_strategies=1), Candidate.of(1, 1, Training(global_batch=16))
    ).tables()
    assert set(uniform.layers[0].strategies) >= set(uniform.layers[1].strategies)


def test_what_lies_on_the_dense_grid_alone_needs_no_new_layout():
    tables = Pricing(GRAPH, MACHINE, StrategySpace(), Candidate.of(1, 1, Training(global_batch=16))).tables()
    edge = tables.edges[1]
    source, target = (tables.layers[u].strategies for u in (edge.source, edge.target))
    same = np.array([[a.layout == b.layout for b in target] for a in source])
    assert (edge.reshard_s[same] == 0).all()


@pytest.mark.parametrize(
    ("tp", "cp", "split"), [(4, 1, True), (2, 2, True), (1, 4, False), (2, 4, False), (4, 3, True)]
)
def test_ranks_hold_pieces_from_both_ends_of_a_sequence(tp, cp, split):
    layout = Strategy(tp=tp, cp=cp, dp=2, sequence_parallel=split).layout
    ranks = np.arange(2 * tp * cp)
    pieces = rows_held(layout, ranks)
    held = sum(end - begin for begin, end in pieces)
    assert held == pytest.approx(1 / layout.rows.size)
    middle = sum((end + begin) / 2 * (end - begin) for begin, end in pieces) / held
    own = {(rank // (tp * cp), rank // tp % cp, rank % tp if split else 0): m for rank, m in enumerate(middle)}
    by_context = [np.mean([m for key, m in own.items() if key[1] == c]) for c in range(cp)]
    assert by_context == pytest.approx([0.5] * cp), "a causal mask leaves all ranks equal work"


def test_slices_of_a_sequence_are_no_pieces_of_a_context():
    candidate = Candidate.of(1, 1, Training(global_batch=16))
    slices, pieces = Strategy(tp=4, dp=4, sequence_parallel=True), Strategy(cp=4, dp=4)
    flow = GRAPH.edges[1]
    inside, _ = edge_tables(flow, 8192, (slices, pieces), (slices, pieces), MACHINE, candidate, constants_of("hopper"))
    assert inside[0, 0] == inside[1, 1] == 0
    assert min(inside[0, 1], inside[1, 0]) > 0


# --- context ----------------------------------------------------------------------------------------------------

TRAINING = Training(global_batch=1)
CUT = Cut(1, 65536, 1, 4, 1, False)


def attention(**fields):
    usual = {"keys": TOKENS, "inner": 128, "heads": 32, "kv_heads": 8, "split": "heads", "causal": True}
    return Operator(name="core", kind="attention", rows=TOKENS, **(usual | fields))


@pytest.mark.parametrize(
    ("op", "cut", "training", "kind"),
    [
        (attention(), CUT, TRAINING, "ring"),
        (attention(keys=Length(4096)), CUT, TRAINING, "ulysses"),
        (attention(window=4096), CUT, TRAINING, "ulysses"),
        (attention(window=65536), CUT, TRAINING, "ring"),
        (attention(keys=Length(4096), kv_heads=2), CUT, TRAINING, "gather"),
        (attention(keys=Length(4096)), CUT._replace(tp=4), TRAINING, "gather"),
        (attention(), CUT, Training(global_batch=1, flash_attention=False), "ulysses"),
    ],
)
def test_the_first_variant_that_an_attention_allows(op, cut, training, kind):
    assert variant(op, cut, training) == kind


def test_a_ring_is_hidden_behind_attention_and_gathers_are_not():
    constants = constants_of("hopper")
    group = stage_group(MACHINE, 0, 16, Span(4, 1), constants)
    e = engine(MACHINE.device(0), TRAINING, constants)
    size = 65536 * 2 * 8 * 128 * 2
    passed = collective_s("all_gather", size, group, constants)
    long = context_s(attention(), CUT, e, group, 10.0, TRAINING, constants)
    bare = context_s(attention(), CUT, e, group, 0.0, TRAINING, constants)
    assert bare[0] == pytest.approx(passed)
    assert bare[1] == pytest.approx(passed * 7 / 3), "keys and values again, and their gradients once more"
    assert long[0] == pytest.approx(3 * exposed_s(passed / 3, 10.0 / 4, constants))
    windowed = attention(keys=Length(4096), kv_heads=2)
    gathered = [context_s(windowed, CUT, e, group, t, TRAINING, constants) for t in (0.0, 10.0)]
    assert gathered[0] == gathered[1]
    assert gathered[0][1] == pytest.approx(2 * gathered[0][0])
    assert context_s(attention(), CUT._replace(cp=1), e, group, 1.0, TRAINING, constants) == (0.0, 0.0)


def test_heads_are_exchanged_for_positions_four_times():
    constants = constants_of("hopper")
    group = stage_group(MACHINE, 0, 16, Span(4, 1), constants)
    e = engine(MACHINE.device(0), TRAINING, constants)
    queries = 65536 / 4 * 32 * 128 * 2
    exchange = 2 * (collective_s("all_to_all", queries, group, constants) * 1)
    exchange += 2 * collective_s("all_to_all", queries / 4, group, constants)
    found = context_s(attention(keys=Length(4096)), CUT, e, group, 1.0, TRAINING, constants)
    assert found == pytest.approx((exchange, exchange))


def test_a_context_needs_room_while_it_runs():
    whole = 65536 * 2 * 8 * 128 * 2
    assert context_bytes(attention(), CUT, TRAINING) == whole / 2
    assert context_bytes(attention(keys=Length(4096)), CUT, TRAINING) == 0
    assert context_bytes(attention(keys=Length(4096), kv_heads=2), CUT, TRAINING) == whole / 4
    assert context_bytes(attention(), CUT._replace(cp=1), TRAINING) == 0
