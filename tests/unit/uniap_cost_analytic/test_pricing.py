"""The analytic cost model: complete, consistent, and monotone where physics is."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uniap_cost_analytic.memory import local_parameters
from uniap_cost_analytic.pricing import price

from uniap_core import cluster as clusters
from uniap_core.api import (
    Assignment,
    BadValue,
    Candidate,
    Cluster,
    CostTables,
    ModelGraph,
    Operator,
    Strategy,
    StrategySpace,
    Training,
)
from uniap_core.graph import TOKENS
from uniap_core.posing import pose
from uniap_zoo.gpt import gpt
from uniap_zoo.llama import llama

GIB = 2**30


def small(layers: int = 4, **changes: int) -> ModelGraph:
    shape = {"hidden": 1024, "heads": 16, "kv_heads": 8, "ffn": 2816, "vocab": 32000, "sequence": 1024} | changes
    return llama(layers=layers, **shape)


def tables(
    graph: ModelGraph | None = None,
    cluster: Cluster | str = "8xA100-80G",
    pp: int = 1,
    c: int = 1,
    batch: int = 16,
    space: StrategySpace | None = None,
    schedule: str = "1f1b",
    **training: object,
) -> CostTables:
    where = clusters.load(cluster) if isinstance(cluster, str) else cluster
    candidate = Candidate.of(pp, c, Training(global_batch=batch, **training), schedule)
    return price(graph or small(), where, space or StrategySpace(), candidate)


def by_name(costs: CostTables, layer: int = 1) -> dict[str, dict[str, float]]:
    row = costs.layers[layer]
    turns = costs.candidate.turns
    return {
        s.name: {
            "time": float(row.forward_s[0, k] + row.backward_s[0, k] + row.iteration_s[0, k] / turns),
            "forward": float(row.forward_s[0, k]),
            "backward": float(row.backward_s[0, k]),
            "iteration": float(row.iteration_s[0, k]),
            "state": float(row.state_bytes[k]),
            "stash": float(row.stash_bytes[k]),
            "tensor": float(row.time_parts_s["tensor_parallel"][0, k]),
        }
        for k, s in enumerate(row.strategies)
    }


def with_links(cluster: Cluster, factor: float) -> Cluster:
    def faster(link: object) -> object:
        return msgspec.structs.replace(link, bandwidth_Bps=link.bandwidth_Bps * factor)

    nodes = tuple(msgspec.structs.replace(node, link=faster(node.link)) for node in cluster.nodes)
    return msgspec.structs.replace(cluster, nodes=nodes, inter=faster(cluster.inter))


@pytest.mark.parametrize("cluster", ["8xA100-80G", "2x4xTITANXp-12G", "2x8xH100-80G"])
@pytest.mark.parametrize("pp", [1, 2, 4])
def test_every_candidate_poses_a_valid_problem(cluster: str, pp: int) -> None:
    precision = "fp16" if "TITAN" in cluster else "bf16"
    costs = tables(cluster=cluster, pp=pp, c=2, precision=precision)
    problem = pose(costs)  # validates shapes, signs and finiteness
    assert problem.depth == pp
    for layer in costs.layers:
        parts = sum(layer.time_parts_s.values())
        total = layer.forward_s + layer.backward_s + layer.iteration_s / (2 + pp - 1)
        np.testing.assert_allclose(parts, total, rtol=1e-9)
        np.testing.assert_allclose(sum(layer.state_parts_bytes.values()), layer.state_bytes, rtol=1e-9)
    reserved = np.sum(list(costs.reserved_parts_bytes.values()), axis=0)
    np.testing.assert_allclose(reserved, [stage.reserved_bytes for stage in costs.ranks])


def test_identical_layers_share_arrays() -> None:
    costs = tables()
    one, two = pose(costs).layers[1], pose(costs).layers[2]
    assert one.time_s is two.time_s
    assert one.state_bytes is two.state_bytes
    assert costs.edges[1].reshard_s is costs.edges[2].reshard_s


def test_a_plan_can_be_evaluated() -> None:
    costs = tables(pp=2, c=4)
    problem = pose(costs)
    assignment = Assignment((0, 0, 0, 1, 1, 1), (0,) * 6)
    result = problem.evaluate(assignment)
    assert result.feasible
    assert 0.001 < result.objective_s < 1


def test_state_bytes_follow_zero() -> None:
    found = by_name(tables(space=StrategySpace(tp=(1,), recomputes=("none",))))
    parameters = small().layers[1].parameters
    assert found["tp1-dp8"]["state"] == pytest.approx(18 * parameters)
    assert found["tp1-dp8-zero1"]["state"] == pytest.approx((2 + 4 + 12 / 8) * parameters)
    assert found["tp1-dp8-zero2"]["state"] == pytest.approx((2 + 4 / 8 + 12 / 8) * parameters)
    ordered = [found[name]["state"] for name in ("tp1-dp8", "tp1-dp8-zero1", "tp1-dp8-zero2", "tp1-dp8-zero3")]
    assert ordered == sorted(ordered, reverse=True)


def test_a_norm_of_heads_is_whole_on_every_rank_of_a_tensor_parallel_group() -> None:
    norm = Operator(name="q_norm", kind="norm", rows=TOKENS, inner=128, split="heads", parameters=128)
    product = Operator(
        name="q_proj", kind="gemm", rows=TOKENS, inner=1024, outer=1024, split="column", parameters=1024 * 1024
    )
    assert local_parameters((norm, product), Strategy(tp=4, dp=2), copies=True) == (128 + 1024 * 256, 0)


def test_fp32_and_fp16_recipes() -> None:
    parameters = small().layers[1].parameters
    for precision, size in (("fp32", 16), ("fp16", 20)):
        found = by_name(tables(space=StrategySpace(tp=(1,)), precision=precision))
        assert found["tp1-dp8"]["state"] == pytest.approx(size * parameters)


def test_recomputation_saves_memory_and_costs_time() -> None:
    found = by_name(tables())
    for base in ("tp1-dp8", "tp2-dp4-sp", "tp8-dp1-sp"):
        none, some, full = (
            found[base],
            found[f"{base}-selective".replace("-sp-selective", "-selective-sp")],
            found[f"{base}-full".replace("-sp-full", "-full-sp")],
        )
        assert none["stash"] > some["stash"] > full["stash"]
        assert none["backward"] < some["backward"] < full["backward"]


def test_overlapped_tensor_parallelism_hides_some_of_its_collectives_and_nothing_else() -> None:
    plain, some, most = (tables(batch=64, tensor_overlap=word).layers[1] for word in ("none", "backward", "all"))
    for k, strategy in enumerate(plain.strategies):
        times = [float(row.time_parts_s["tensor_parallel"][0, k]) for row in (most, some, plain)]
        assert times[0] < times[1] < times[2] if strategy.tp > 1 else times == [0, 0, 0]
        for row in (some, most):
            assert row.time_parts_s["compute"][0, k] == plain.time_parts_s["compute"][0, k]


@given(st.sampled_from(["2x4xT4", "2x8xA100-80G", "4x4xV100-16G"]), st.sampled_from([8, 32]))
@settings(max_examples=10, deadline=None)
def test_messages_in_parts_help_where_ranks_that_hold_the_same_share_nics(cluster: str, batch: int) -> None:
    space = StrategySpace(sequence_parallel=False)
    whole, parts = (
        tables(cluster=cluster, pp=2, c=2, batch=batch, space=space, precision="fp16", scatter_gather=on)
        for on in (False, True)
    )
    for a, b in zip(whole.edges, parts.edges, strict=True):
        np.testing.assert_array_equal(a.reshard_s, b.reshard_s)
        tp = [s.tp for s in whole.layers[a.source].strategies]
        for k, degree in enumerate(tp):
            same = a.cross_s[k, k] == b.cross_s[k, k]
            assert same if degree == 1 else b.cross_s[k, k] < a.cross_s[k, k]


def test_a_tied_head_is_charged_as_a_copy_and_said_to_be_one_on_the_stage_of_the_embedding() -> None:
    """Its layout may differ from the embedding's, and then the runtime holds two."""
    model = gpt(layers=2, hidden=1024, heads=16, vocab=50304, sequence=1024)
    alone, apart = tables(model, pp=1), tables(model, pp=2, cluster="2x8xA100-80G")
    one, two = (by_name(costs, layer=3)["tp1-dp8"]["state"] for costs in (alone, apart))
    assert one == pytest.approx(two)
    copy = alone.layers[3].state_parts_bytes["tied"]
    assert copy[[s.name for s in alone.layers[3].strategies].index("tp1-dp8")] == pytest.approx(18 * 50304 * 1024)
    assert not apart.layers[3].state_parts_bytes["tied"].any()
    assert not alone.layers[0].state_parts_bytes["tied"].any()


def test_sequence_parallelism_saves_activations() -> None:
    spread = by_name(tables(space=StrategySpace(tp=(4,))))["tp4-dp2-sp"]["stash"]
    whole = by_name(tables(space=StrategySpace(tp=(4,), sequence_parallel=False)))["tp4-dp2"]["stash"]
    assert spread < whole


def test_materialized_attention_keeps_probabilities() -> None:
    flash = by_name(tables())["tp1-dp8"]["stash"]
    plain = by_name(tables(flash_attention=False))["tp1-dp8"]["stash"]
    assert plain - flash >= 2 * 16 * 1024 * 1024 * 2


def test_layouts_that_do_not_divide_are_left_out() -> None:
    costs = tables(small(heads=12, kv_heads=6, hidden=768), batch=4)
    assert {s.tp for s in costs.layers[1].strategies} == {2}
    assert {s.tp for s in costs.layers[0].strategies} == {2, 4, 8}


@pytest.mark.parametrize(("heads", "tp"), [(1, 2), (1, 8), (2, 4), (2, 8), (4, 8)])
def test_key_heads_below_tp_are_repeated(heads: int, tp: int) -> None:
    """Each rank keeps a head of keys and values; weights are split as ever, and what they make is gathered."""
    name = f"tp{tp}-dp{8 // tp}"
    space = StrategySpace(tp=(tp,), sequence_parallel=False)
    few, own = (by_name(tables(small(kv_heads=n), space=space))[name] for n in (heads, tp))
    assert few["stash"] == pytest.approx(own["stash"])
    assert few["state"] < own["state"]
    assert few["tensor"] > own["tensor"]


def test_no_strategy_names_layer_and_cause() -> None:
    with pytest.raises(BadValue, match=r"layers.0.*micro-batch of 1 does not divide by dp"):
        tables(small(heads=3, kv_heads=3, hidden=768), batch=1)
    with pytest.raises(BadValue, match="no bf16 figure"):
        tables(cluster="8xV100-32G")
    with pytest.raises(BadValue, match="do not divide"):
        tables(pp=3)


def test_unequal_devices_have_times_per_stage() -> None:
    text = """
    name = "mixed"
    [[nodes]]
    kind = "A100-80G"
    devices = 4
    [[nodes]]
    kind = "RTX3090"
    devices = 4
    """
    costs = tables(cluster=clusters.from_toml(text), pp=2, c=2)
    fast, slow = costs.layers[1].forward_s
    assert (fast < slow).all()
    assert costs.ranks[0].memory_bytes > costs.ranks[1].memory_bytes


def box(*kinds: str) -> Cluster:
    """One node of such devices, joined as RTX4090s are."""
    link, inter = (getattr(clusters.kinds()["RTX4090"], end) for end in ("link", "inter"))
    banks = [clusters.Bank(clusters.kinds()[kind].device, 1) for kind in kinds]
    node = clusters.Node(banks[0].device, len(banks), link, tuple(banks[1:]))
    return Cluster(name="box", nodes=(node,), inter=inter)


def test_a_stage_of_several_kinds_takes_the_time_and_the_memory_of_the_slowest() -> None:
    # fp8 is no argument: there the RTX4090 has more than the A100 has in bf16, and it is the slower of the two.
    mixed, slow = tables(cluster=box("A100-PCIe-80G", *["RTX4090"] * 3)), tables(cluster=box(*["RTX4090"] * 4))
    assert any(s.tp == 4 for s in mixed.layers[1].strategies)
    for ours, theirs in zip(mixed.layers, slow.layers, strict=True):
        np.testing.assert_allclose(ours.forward_s, theirs.forward_s)
        np.testing.assert_allclose(ours.backward_s, theirs.backward_s)
        np.testing.assert_allclose(ours.iteration_s, theirs.iteration_s)
    assert mixed.ranks[0].memory_bytes == clusters.kinds()["RTX4090"].device.memory_bytes


def test_stages_of_a_node_of_several_kinds_are_priced_by_their_own_device() -> None:
    mixed = tables(cluster=box("A100-PCIe-80G", *["RTX4090"] * 3), pp=4, c=4)
    for stage, kind in enumerate(["A100-PCIe-80G", *["RTX4090"] * 3]):
        pure = tables(cluster=box(*[kind] * 4), pp=4, c=4)
        assert mixed.ranks[stage].memory_bytes == clusters.kinds()[kind].device.memory_bytes
        for ours, theirs in zip(mixed.layers, pure.layers, strict=True):
            np.testing.assert_allclose(ours.forward_s[stage], theirs.forward_s[stage])


def test_a_stage_runs_at_the_slowest_engine_and_the_slowest_memory() -> None:
    fast, narrow = (clusters.kinds()[kind].device for kind in ("A100-PCIe-80G", "RTX4090"))
    narrow = msgspec.structs.replace(narrow, memory_Bps=2 * fast.memory_Bps)
    node = clusters.Node(fast, 2, clusters.kinds()["RTX4090"].link, (clusters.Bank(narrow, 1),))
    both = Cluster(name="both", nodes=(node,), inter=box("RTX4090").inter)
    worst = msgspec.structs.replace(narrow, memory_Bps=fast.memory_Bps)
    alike = msgspec.structs.replace(both, nodes=(clusters.Node(worst, 2, node.link),))
    for ours, theirs in zip(tables(cluster=both).layers, tables(cluster=alike).layers, strict=True):
        np.testing.assert_allclose(ours.forward_s, theirs.forward_s)


@pytest.mark.parametrize("name", ["8xA100-80G", "2x8xH100-80G", "2x4xTITANXp-12G"])
@given(factor=st.floats(1.01, 20))
@settings(max_examples=5, deadline=None)
def test_more_bandwidth_is_never_slower(name: str, factor: float) -> None:
    slow = clusters.load(name)
    fast = with_links(slow, factor)
    precision = slow.best_precision
    for pp in (1, 2):
        a, b = (tables(cluster=c, pp=pp, c=2, precision=precision) for c in (slow, fast))
        for x, y in zip(pose(a).layers, pose(b).layers, strict=True):
            assert (y.time_s <= x.time_s * (1 + 1e-12)).all()
        for e, f in zip(a.edges, b.edges, strict=True):
            assert (f.reshard_s <= e.reshard_s * (1 + 1e-12)).all()
            assert (f.cross_s <= e.cross_s * (1 + 1e-12)).all()


@given(st.sampled_from([8, 16, 32, 64]), st.sampled_from(["bf16", "fp32", "tf32"]))
@settings(max_examples=8, deadline=None)
def test_more_batch_is_never_faster_nor_smaller(batch: int, precision: str) -> None:
    less, more = (tables(batch=b, precision=precision) for b in (batch, 2 * batch))
    for x, y in zip(pose(less).layers, pose(more).layers, strict=True):
        common = [name for name in x.strategies if name in y.strategies]
        i, j = ([t.strategies.index(name) for name in common] for t in (x, y))
        assert (x.time_s[:, i] <= y.time_s[:, j] * (1 + 1e-12)).all()
        assert (x.stash_bytes[i] <= y.stash_bytes[j]).all()


def test_pipeline_boundaries_over_a_network_cost_more() -> None:
    near = tables(cluster="8xA100-80G", pp=2, c=2).edges[1].cross_s
    far = tables(cluster="2x4xA100-80G", pp=2, c=2).edges[1].cross_s
    assert (near > 0).all()
    assert far.min() >= near.min()


def test_resharding_is_free_only_between_equal_layouts() -> None:
    costs = tables()
    edge, layer = costs.edges[1], costs.layers[1]
    for i, a in enumerate(layer.strategies):
        for j, b in enumerate(layer.strategies):
            assert (edge.reshard_s[i, j] == 0) == (a.layout == b.layout)
