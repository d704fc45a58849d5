"""A profile of the machine at hand: complete, resumable, refused where it does not belong, and used by planning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import msgspec
import pytest

pytest.importorskip("torch")

import torch
from uniap_torch import companions, links, profiler

import uniap
from uniap_core.api import BadFile, BadValue, Collective, CollectiveTiming, Profile, Progress, Span, read, write
from uniap_zoo import build

pytestmark = pytest.mark.torch

TOY = "llama:layers=3,hidden=64,heads=4,ffn=128,vocab=256,seq=32"

AS_MADE = {"tp": (1, 2), "samples": (1, 2)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The graph, the file and the profile of a toy model."""
    graph = build(TOY)
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    return graph, path, profiler.profile(graph, "cpu", path, tp=(1, 2), samples=(1, 2), ranks=2, budget_s=0.02)


def test_it_has_one_timing_for_each_kind_of_layer_width_and_batch(made):
    _, path, profile = made
    assert read(path, Profile) == profile
    found = {(t.layer, t.tp, t.samples) for t in profile.layers}
    assert found == {(x, tp, b) for x in ("embedding", "layers.0", "head") for tp in (1, 2) for b in (1, 2)}
    assert all(t.forward_s > 0 and t.backward_s > 0 and t.optimizer_s >= 0 for t in profile.layers)
    assert {c.operation for c in profile.collectives} == set(get_args(Collective))
    assert all(c.alpha_s >= 0 and c.beta_s_per_byte >= 0 for c in profile.collectives)
    assert profile.overlap >= 1
    assert profile.matmul_flops["fp32"] > 1e8
    assert 0 < profile.launch_s < 1e-3


def test_blocks_keep_what_the_zoo_says(made):
    graph, _, profile = made
    block = next(layer for layer in graph.layers if layer.name == "layers.0")
    timed = next(t for t in profile.layers if t.layer == "layers.0" and t.tp == 1 and t.samples == 2)
    # fp32 here: at most twice what the zoo's half precision operators keep, and no less than their largest input.
    assert timed.saved_bytes is not None
    assert timed.saved_bytes > 2 * 32 * 64 * 4 * len([op for op in block.operators if op.kind == "gemm"]) / 2


def test_a_finished_profile_measures_nothing_again(made):
    graph, path, profile = made
    events = []
    again = profiler.profile(graph, "cpu", path, events.append, tp=(1, 2), samples=(1, 2), ranks=2, budget_s=0.02)
    assert again == profile
    assert not events


def test_an_interrupted_profile_goes_on_where_it_stopped(made, tmp_path):
    graph, _, profile = made
    half = msgspec.structs.replace(profile, layers=profile.layers[:5])
    write(tmp_path / "half.json", half)
    events = []
    done = profiler.profile(
        graph, "cpu", tmp_path / "half.json", events.append, tp=(1, 2), samples=(1, 2), ranks=2, budget_s=0.02
    )
    assert done.layers[:5] == profile.layers[:5]
    assert len(done.layers) == len(profile.layers)
    assert [e.done for e in events if isinstance(e, Progress)] == list(range(8, 15))


@pytest.mark.parametrize("what", ["model", "precision", "device"])
def test_a_profile_of_something_else_is_not_gone_on_with(made, tmp_path, what):
    graph, _, profile = made
    other = {"model": {"graph": "sha256:0"}, "precision": {"precision": "bf16"}, "device": {"device": "abacus"}}[what]
    write(tmp_path / "other.json", msgspec.structs.replace(profile, **other))
    with pytest.raises(BadValue, match=f"is a profile of another {what}"):
        profiler.profile(graph, "cpu", tmp_path / "other.json", ranks=0)


@pytest.mark.parametrize(("device", "precision"), [("tpu", None), ("cpu", "fp8")])
def test_what_cannot_be_measured_is_refused(device, precision):
    with pytest.raises(BadValue):
        profiler.profile(build(TOY), device, precision=precision, ranks=0)


def test_plans_are_priced_by_it(made, tmp_path):
    graph, path, profile = made
    slow = [
        msgspec.structs.replace(t, forward_s=10 * t.forward_s, backward_s=10 * t.backward_s) for t in profile.layers
    ]
    write(tmp_path / "slow.json", msgspec.structs.replace(profile, layers=slow))
    seconds = []
    for file in (path, tmp_path / "slow.json"):
        found = uniap.plan(
            graph, "1x2xRTX3090", batch=4, precision="fp32", pins=["pp=1", "tp=1"], cost_model="profiled", profile=file
        )
        seconds.append(found.plan.predicted.iteration_time_s)
    assert seconds[1] > 1.5 * seconds[0]


def test_links_of_several_nodes_are_taken_in(made, tmp_path):
    graph, _, profile = made
    write(tmp_path / "links.json", links.Links(profile.collectives, 1.25))
    bare = msgspec.structs.replace(profile, collectives=[], overlap=None)
    write(tmp_path / "profile.json", bare)
    found = profiler.profile(graph, "cpu", tmp_path / "profile.json", ranks=0, links=tmp_path / "links.json", **AS_MADE)
    assert found.collectives == profile.collectives
    assert found.overlap == 1.25
    write(tmp_path / "profile.json", bare)
    with pytest.raises(BadFile, match="links"):
        profiler.profile(graph, "cpu", tmp_path / "profile.json", ranks=0, links=tmp_path / "no-links.json", **AS_MADE)


def test_group_shapes_tile_the_world():
    shapes = list(links.shapes(8, 4))
    assert (2, 1, 1) in shapes
    assert (2, 4, 2) in shapes
    for ranks, stride, nodes in shapes:
        groups = Span(ranks, stride).groups(range(8))
        assert sorted(r for members in groups for r in members) == list(range(8))
        assert all(len({r // 4 for r in members}) == nodes for members in groups)


def test_a_line_is_found_again():
    alpha, beta = links.fit([1e3, 1e5, 1e7], [2e-5 + 1e-9 * s for s in (1e3, 1e5, 1e7)])
    assert alpha == pytest.approx(2e-5, rel=1e-6)
    assert beta == pytest.approx(1e-9, rel=1e-6)
    assert links.fit([1e3, 1e5], [2e-5, 1e-5])[1] == 0.0
    assert CollectiveTiming(operation="p2p", ranks=2, alpha_s=alpha, beta_s_per_byte=beta).nodes == 1


def test_ranks_that_work_beside_a_measurement_end_with_it():
    threads, others = torch.get_num_threads(), children()
    with companions.busy(2):
        assert torch.get_num_threads() == 1
        mine = children() - others
        assert len(mine) == 2
    assert torch.get_num_threads() == threads
    assert not mine & children()


def children() -> set[int]:
    """Processes that this one started."""
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return {int(pid) for pid in found.split()}
