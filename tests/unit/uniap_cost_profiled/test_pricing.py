"""The profiled cost model meets measured points and says what it did not measure; Galvatron's files are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from uniap_cost_analytic.pricing import price as analytic
from uniap_cost_profiled.galvatron import alpha_beta, from_galvatron
from uniap_cost_profiled.pricing import price

from uniap_core import cluster as clusters
from uniap_core.api import (
    BadFile,
    BadValue,
    Candidate,
    CollectiveTiming,
    LayerTiming,
    Profile,
    StrategySpace,
    Training,
)
from uniap_core.posing import pose
from uniap_zoo.llama import llama

GRAPH = llama(layers=4, hidden=4096, heads=32, ffn=11008, vocab=32000, sequence=2048)
CLUSTER = clusters.load("8xA100-80G")
CANDIDATE = Candidate.of(1, 1, Training(global_batch=16))
PLAIN = StrategySpace(shardings=("none",), recomputes=("none",))


def timing(tp: int = 1, samples: int = 2, forward: float = 0.0123, **more: float) -> LayerTiming:
    return LayerTiming(
        layer="layers.0", tp=tp, samples=samples, sequence=2048, forward_s=forward, backward_s=2 * forward, **more
    )


def column(costs: object, name: str, layer: int = 1) -> tuple[float, float, float]:
    row = costs.layers[layer]
    k = [s.name for s in row.strategies].index(name)
    return float(row.forward_s[0, k]), float(row.backward_s[0, k]), float(row.stash_bytes[k])


def test_a_measured_point_is_met_and_shared_by_layers_alike() -> None:
    profile = Profile(device="A100", layers=[timing(saved_bytes=1e9)])
    costs = price(GRAPH, CLUSTER, PLAIN, CANDIDATE, profile)
    for layer in (1, 4):
        forward, backward, stash = column(costs, "tp1-dp8", layer)
        assert forward == pytest.approx(0.0123)
        assert backward == pytest.approx(0.0246)
        assert stash == pytest.approx(1e9)
    assert any("embedding" in note and "analytic" in note for note in costs.notes)
    assert costs.model.startswith("profiled/")


def test_between_points_and_other_widths_the_analytic_curve_carries() -> None:
    base = analytic(GRAPH, CLUSTER, PLAIN, CANDIDATE)
    slow = Profile(device="A100", layers=[timing(samples=1, forward=0.02), timing(samples=4, forward=0.08)])
    costs = price(GRAPH, CLUSTER, PLAIN, CANDIDATE, slow)
    assert 0.03 < column(costs, "tp1-dp8")[0] < 0.05
    assert column(costs, "tp2-dp4-sp")[0] > column(base, "tp2-dp4-sp")[0]
    assert any("tp 2" in note for note in costs.notes)


def test_measured_collectives_and_overlap_are_used() -> None:
    slow = CollectiveTiming(operation="all_reduce", ranks=8, alpha_s=1e-3, beta_s_per_byte=1e-8)
    p2p = CollectiveTiming(operation="p2p", ranks=2, alpha_s=1e-3, beta_s_per_byte=1e-8)
    base = analytic(GRAPH, CLUSTER, PLAIN, CANDIDATE)
    costs = price(GRAPH, CLUSTER, PLAIN, CANDIDATE, Profile(device="A100", collectives=[slow, p2p]))
    k = 0
    assert costs.layers[1].iteration_s[0, k] > base.layers[1].iteration_s[0, k]
    assert (costs.edges[1].reshard_s >= base.edges[1].reshard_s).all()
    assert any("were not measured" in note for note in costs.notes)


def test_what_the_runtime_makes_of_collectives_is_charged() -> None:
    """A region of tensor parallelism costs what was measured, twice per block; a sharded layer its gathering."""

    def line(operation: str, alpha: float, stride: int = 1, ranks: int = 2) -> CollectiveTiming:
        return CollectiveTiming(operation=operation, ranks=ranks, stride=stride, alpha_s=alpha, beta_s_per_byte=0.0)

    bare = [line("p2p", 1e-3), line("all_reduce", 1e-3), line("all_reduce", 1e-3, stride=2, ranks=4)]
    regions = [line("sequence_forward", 2.0), line("sequence_backward", 3.0)]
    gathers = [line("unshard", 5.0, stride=2, ranks=4), line("reduce_gradients", 7.0, stride=2, ranks=4)]
    space = StrategySpace(shardings=("none", "zero3"), recomputes=("none",))

    def block(collectives: list[CollectiveTiming], name: str) -> tuple[float, float]:
        profile = Profile(device="A100", layers=[timing(tp=2)], collectives=collectives)
        return column(price(GRAPH, CLUSTER, space, CANDIDATE, profile), name)[:2]

    plain = block(bare, "tp2-dp4-sp")
    wrapped = block(bare + regions, "tp2-dp4-sp")
    assert wrapped[0] - plain[0] == pytest.approx(2 * 2.0, rel=1e-2)
    assert wrapped[1] - plain[1] == pytest.approx(2 * 3.0, rel=1e-2)
    sharded, gathered = (block(bare + more, "tp2-dp4-zero3-sp") for more in ([], gathers))
    assert gathered[0] - sharded[0] > 4.0
    assert gathered[1] - sharded[1] > 11.0


def test_an_empty_profile_is_the_analytic_model() -> None:
    base = pose(analytic(GRAPH, CLUSTER, PLAIN, CANDIDATE))
    empty = pose(price(GRAPH, CLUSTER, PLAIN, CANDIDATE, Profile(device="A100")))
    for a, b in zip(base.layers, empty.layers, strict=True):
        assert (a.time_s == b.time_s).all()


def test_a_missing_or_alien_profile_is_refused() -> None:
    with pytest.raises(BadValue, match="needs a profile"):
        price(GRAPH, CLUSTER, PLAIN, CANDIDATE)
    with pytest.raises(BadValue, match="fp16"):
        price(GRAPH, CLUSTER, PLAIN, CANDIDATE, Profile(device="A100", precision="fp16"))


def test_galvatron_files_are_read(tmp_path: Path) -> None:
    files = {
        "computation_profiling_bf16_llama.json": {
            "layernum[2]_bsz1_seq2048": 14.7,
            "layertype_0_bsz2_seq2048": 4.0,
            "layertype_other_bsz2_seq2048": 3.0,
        },
        "memory_profiling_bf16_llama.json": {
            "1_1_8": {"layernum[1]_bsz8_seq2048_rank0_act": 800.0, "layernum[2]_bsz8_seq2048_rank0_act": 1300.0}
        },
        "allreduce_bandwidth_1nodes_8gpus_per_node.json": {
            "allreduce_size_8_consec_1": 150.0,
            "allreduce_size_2_consec_0": 140.0,
        },
        "sp_time_1nodes_8gpus_per_node.json": {f"allreduce_size_4_{m}MB_time": 0.05 + 0.01 * m for m in (1, 4, 16, 64)},
        "p2p_bandwidth_1nodes_8gpus_per_node.json": {"pp_size_2": 160.0, "pp_size_4": 140.0},
        "overlap_coefficient.json": {"overlap_coe": 1.125},
    }
    for name, table in files.items():
        (tmp_path / name).write_text(json.dumps(table))
    profile = from_galvatron([tmp_path / name for name in files], GRAPH)
    (block,) = (t for t in profile.layers if t.layer == "layers.0")
    assert (block.samples, block.forward_s, block.backward_s) == (2, pytest.approx(8e-3), pytest.approx(16e-3))
    assert block.saved_bytes == pytest.approx(2 * 500 * 2**20)
    assert profile.overlap == 1.125
    shapes = {(c.operation, c.ranks, c.stride, c.nodes) for c in profile.collectives}
    assert shapes == {
        ("all_reduce", 8, 1, 1),
        ("all_reduce", 2, 4, 1),
        ("all_reduce", 4, 1, 1),
        ("p2p", 2, 1, 1),
    }
    costs = price(GRAPH, CLUSTER, PLAIN, CANDIDATE, profile)
    assert column(costs, "tp1-dp8")[0] == pytest.approx(8e-3)


def test_alpha_and_beta_are_recovered() -> None:
    points = [(size, 50e-6 + size / 1e11) for size in (1e6, 4e6, 1e8, 1e9)]
    alpha, beta = alpha_beta(points)
    assert alpha == pytest.approx(50e-6)
    assert beta == pytest.approx(1e-11)


def test_other_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(BadValue, match="no measurement"):
        from_galvatron([tmp_path / "a.json"], GRAPH)
    (tmp_path / "a.json").write_text("[")
    with pytest.raises(BadFile, match=r"a\.json"):
        from_galvatron([tmp_path / "a.json"], GRAPH)
