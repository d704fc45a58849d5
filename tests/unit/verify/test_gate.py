"""The gate and the dry run: what reaches devices, and who works with whom there."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tests import synthetic
from tests.editing import changed
from tests.planned import planned
from uniap_core.cluster import preset
from uniap_core.errors import Unverified
from uniap_core.execute import Capability, ExecutorPlugin, RankLayout, admit, dry_run, rank_layout
from uniap_core.plan import seal
from uniap_core.strategy import Strategy
from uniap_core.verify import verify
from uniap_core.verify.layout import checks, groups


@pytest.fixture(scope="module")
def subject():
    return synthetic.subject(pp=2, cluster="2x4xA100-80G")


@pytest.fixture(scope="module")
def plan(subject):
    return synthetic.plan(subject)


def test_a_sealed_plan_is_admitted(plan, subject):
    admit(plan)
    admit(plan, subject.tables, graph=plan.model, cluster=plan.cluster)


def test_with_tables_everything_is_checked_again(plan, subject):
    slower = tuple(replace(layer, forward_s=layer.forward_s * 2) for layer in subject.tables.layers)
    with pytest.raises(Unverified, match="tables is not the one"):
        admit(plan, replace(subject.tables, layers=slower))


def test_another_cluster_or_model_is_refused(plan):
    with pytest.raises(Unverified, match="another cluster than 8xA100-80G"):
        admit(plan, cluster=preset("8xA100-80G"))
    with pytest.raises(Unverified, match="another model than toy"):
        admit(plan, graph=synthetic.graph(blocks=5))


def test_a_failed_verdict_is_never_sealed(subject):
    wrong = changed(subject.proposal, pp=1)
    verdict = verify(wrong, subject.tables)
    with pytest.raises(Unverified, match="the verifier rejects the plan"):
        seal(wrong, (), verdict)
    with pytest.raises(Unverified, match="about another proposal"):
        seal(wrong, (), verify(subject.proposal, subject.tables))


# --- layouts ----------------------------------------------------------------------------------------------------


def test_layout_by_hand(plan):
    layout = rank_layout(plan)
    assert layout.stages == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert layout.pipelines == ((0, 4), (1, 5), (2, 6), (3, 7))
    strategy = Strategy(tp=2, dp=2, ep=2)
    assert groups((4, 5, 6, 7), strategy) == {
        "tp": ((4, 5), (6, 7)),
        "cp": ((4,), (5,), (6,), (7,)),
        "dp": ((4, 6), (5, 7)),
        "ep": ((4, 6), (5, 7)),
        "etp": ((4, 5), (6, 7)),
        "edp": ((4,), (5,), (6,), (7,)),
    }
    strategy = Strategy(tp=2, cp=2, dp=2)
    assert groups(range(8), strategy)["cp"] == ((0, 2), (1, 3), (4, 6), (5, 7))
    assert groups(range(8), strategy)["dp"] == ((0, 4), (1, 5), (2, 6), (3, 7))


def lay(plan):
    """The layout function of a test executor."""
    return rank_layout(plan)


def wrong_order(plan):
    """An executor that puts data parallel innermost."""
    built = rank_layout(plan)
    swapped = {name: {**kinds, "tp": kinds["dp"], "dp": kinds["tp"]} for name, kinds in built.groups.items()}
    return msgspec.structs.replace(built, groups=swapped)


def forgets_groups(plan):
    """An executor that builds no groups."""
    return msgspec.structs.replace(rank_layout(plan), groups={})


def loses_a_rank(plan):
    """An executor that leaves the last rank out."""
    built = rank_layout(plan)
    return msgspec.structs.replace(built, stages=(*built.stages[:-1], built.stages[-1][:-1]))


@pytest.mark.parametrize(
    ("function", "caught_by"),
    [
        ("lay", None),
        ("wrong_order", "layout-groups"),
        ("forgets_groups", "layout-groups"),
        ("loses_a_rank", "layout-ranks"),
    ],
)
def test_a_dry_run_is_held_against_the_plan(plan, function, caught_by):
    executor = ExecutorPlugin(
        name="test", summary="", capability=Capability(), layout=f"tests.unit.verify.test_gate:{function}"
    )
    layout, found = dry_run(plan, executor)
    assert isinstance(layout, RankLayout)
    failed = {check.name for check in found if not check.passed}
    assert failed == ({caught_by} if caught_by else set())


def test_groups_across_nodes_are_named(plan):
    across = {"embed": {"tp": ((3, 4),)}}
    named = {c.name: c for c in checks(plan, world=8, stages=[s.ranks for s in plan.stages], built=across)}
    assert "tp group [3, 4] of embed spans nodes" in named["layout-nodes"].evidence


def test_groups_of_replicas_are_held_against_the_plan():
    plan = planned("llama", "tp2-dp8-zero1-replicate2-sp", cluster="2x8xA100-80G")
    laid = rank_layout(plan)
    built = laid.groups["layers.0"]
    assert built["shard"][0] == (0, 2, 4, 6)
    assert built["replicate"][0] == (0, 8)
    for kind in ("shard", "replicate"):
        for odd in (None, built[kind][1:]):
            spoiled = {k: odd if k == kind else v for k, v in built.items() if k != kind or odd}
            groups = {**laid.groups, "layers.0": spoiled}
            found = checks(plan.proposal, world=16, stages=laid.stages, built=groups)
            assert [check.name for check in found if not check.passed] == ["layout-groups"]


def test_a_thousand_ranks():
    subject = synthetic.subject(pp=4, cluster="128x8xA100-80G", batch=8192, micro_batches=2)
    plan = synthetic.plan(subject)
    layout, found = dry_run(plan, ExecutorPlugin(name="none", summary="", capability=Capability()))
    assert all(check.passed for check in found)
    assert layout.world == 1024
    assert len(layout.pipelines) == 256
