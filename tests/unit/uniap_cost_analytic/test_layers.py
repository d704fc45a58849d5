"""One layer's time: what overlap hides, what a host adds, what each sharding moves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uniap_cost_analytic.constants import Constants
from uniap_cost_analytic.kernels import engine
from uniap_cost_analytic.layers import LayoutCosts, Place, exposed_s, price_layer
from uniap_cost_analytic.links import ALONE, collective_s, stage_group
from uniap_cost_analytic.memory import local_parameters, recipe

from uniap_core.api import Strategy, Training
from uniap_core.cluster import preset
from uniap_zoo.llama import llama

CONSTANTS = Constants()
TRAINING = Training(global_batch=8)
BLOCK = llama(layers=2, hidden=1024, heads=16, ffn=2816, vocab=32000, sequence=512).layers[1].operators
LONG = LayoutCosts(1.0, 2.0, 0.25, 0.125, 0.0625, 0.0, 0.0, 30, 30)
"""A pass so long that neither host nor collectives are to be seen beside it."""

seconds = st.floats(0, 10)


@given(seconds, seconds, seconds)
def test_overlap_hides_at_most_what_there_is_and_more_compute_never_hides_less(communication, compute, more):
    seen = exposed_s(communication, compute, CONSTANTS)
    assert 0 <= seen <= communication * (1 + 1e-12)
    assert exposed_s(communication, 0.0, CONSTANTS) == communication
    assert exposed_s(communication, compute + more, CONSTANTS) <= seen * (1 + 1e-12)
    assert exposed_s(communication + more, compute, CONSTANTS) >= seen * (1 - 1e-12)
    # The share that overlap cannot hide is always seen.
    assert seen >= communication * (1 - CONSTANTS.overlap) * (1 - 1e-12)


def place(strategy: Strategy, machine: str = "8xA100-80G") -> Place:
    cluster = preset(machine)
    share, copies = (
        stage_group(cluster, 0, cluster.devices, span, CONSTANTS) for span in strategy.shards(strategy.grids.data)
    )
    both = share, copies
    return Place(engine(cluster.device(0), TRAINING, CONSTANTS), ALONE, ALONE, ALONE, both, both)


def priced(strategy: Strategy, costs: LayoutCosts = LONG, turns: float = 4.0, machine: str = "8xA100-80G"):
    where = place(strategy, machine)
    return price_layer(BLOCK, costs, strategy, where, recipe(TRAINING), CONSTANTS, turns, copies=False)


@pytest.mark.parametrize("sharding", ["none", "zero1", "zero2", "zero3"])
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_parts_are_the_whole(sharding, recompute):
    found = priced(Strategy(dp=8, sharding=sharding, recompute=recompute))
    assert math.fsum(found.parts) == pytest.approx(found.forward_s + found.backward_s + found.iteration_s / 4)


def test_recomputation_runs_forward_again_and_nothing_else():
    plain, full = priced(Strategy(dp=8)), priced(Strategy(dp=8, recompute="full"))
    selective = priced(Strategy(dp=8, recompute="selective"))
    again = LONG.forward_s + LONG.tensor_forward_s + LONG.other_forward_s
    assert full.forward_s == plain.forward_s
    assert full.backward_s - plain.backward_s == pytest.approx(again, rel=1e-6)
    assert selective.backward_s - plain.backward_s == pytest.approx(LONG.selective_s, rel=1e-6)


def test_one_device_reduces_nothing_and_updates_everything():
    alone, shared = priced(Strategy()), priced(Strategy(dp=8, sharding="zero1"))
    assert alone.parts[3] == 0.0
    assert alone.forward_s == LONG.forward_s + LONG.tensor_forward_s
    assert shared.iteration_s > 0


def test_what_each_sharding_moves():
    """Gradients once or per micro-batch, weights gathered once or around every pass (Rajbhandari et al. 2020)."""
    group, moved = place(Strategy(dp=8, sharding="zero3")).data[0], recipe(TRAINING)
    count = local_parameters(BLOCK, Strategy(dp=8), copies=False)[0]
    gather = exposed_s(collective_s("unshard", count * moved.gathered, group, CONSTANTS), 10.0, CONSTANTS)
    plain, third = priced(Strategy(dp=8)), priced(Strategy(dp=8, sharding="zero3"))
    second, first = priced(Strategy(dp=8, sharding="zero2")), priced(Strategy(dp=8, sharding="zero1"))
    assert third.forward_s - plain.forward_s == pytest.approx(gather, rel=1e-6)
    assert second.forward_s == first.forward_s == plain.forward_s
    assert second.backward_s > first.backward_s == plain.backward_s
    assert third.backward_s > second.backward_s
    assert plain.iteration_s > third.iteration_s  # the update of one shard, and nothing left to move


def test_replicas_move_shards_inside_a_node_and_their_share_of_gradients_once():
    two = "2x8xA100-80G"
    far = priced(Strategy(dp=16, sharding="zero3"), machine=two)
    near = Strategy(dp=16, sharding="zero3", replicate=2)
    found, (share, copies) = priced(near, machine=two), place(near, two).data
    assert (share.size, share.nodes, copies.size, copies.nodes) == (8, 1, 2, 2)
    inside = priced(Strategy(dp=8, sharding="zero3"))
    assert (found.forward_s, found.backward_s) == (inside.forward_s, inside.backward_s)
    assert found.forward_s < far.forward_s
    count, moved = local_parameters(BLOCK, near, copies=False)[0], recipe(TRAINING)
    once = collective_s("all_reduce", count / 8 * moved.reduced, copies, CONSTANTS)
    hidden = exposed_s(once, 10.0, CONSTANTS)
    assert found.iteration_s - inside.iteration_s == pytest.approx(hidden, rel=1e-6)


def test_a_host_that_cannot_keep_up_is_waited_for():
    short = LayoutCosts(1e-4, 2e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 30, 30)
    found = priced(Strategy(), short)
    assert found.forward_s > max(1e-4, 30 * CONSTANTS.host_s) * (1 - 1e-12)
    assert found.forward_s < 1e-4 + 30 * CONSTANTS.host_s
