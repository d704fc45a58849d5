"""Exported scripts: strategies mean there what they mean here, and nothing of uniap is needed."""

from __future__ import annotations

import ast
import sys
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from uniap_fsdp import plan_types
from uniap_fsdp.script import LACKING, script, start

from tests.planned import planned
from uniap_core import axes
from uniap_core.cluster import preset
from uniap_core.strategy import AXES, StrategySpace

HAS = [axis.name for axis in AXES if axis.name not in LACKING]
STRATEGIES = StrategySpace(cp=(1, 2), ep=(1, 2)).strategies(8, 8)


def test_a_strategy_has_the_axes_of_the_core() -> None:
    assert [field.name for field in fields(plan_types.Strategy)] == ["name", *HAS]


@given(st.sampled_from(STRATEGIES))
def test_it_lies_on_the_ranks_as_in_the_core(strategy) -> None:
    made = plan_types.Strategy(name=strategy.name, **{name: strategy[name] for name in HAS})
    assert (made.grids, made.layout, made.devices) == (strategy.grids, strategy.layout, strategy.devices)


def test_a_script_names_the_stage_and_strategy_of_every_layer() -> None:
    """Its tables, evaluated with the words of an exported folder, are the plan."""
    plan = planned("gpt", lambda name: "tp1-dp4-zero1" if name == "embedding" else "tp2-dp2-zero3-full-sp", cuts=(3,))
    tables = {
        node.targets[0].id: ast.unparse(node.value)  # type: ignore[attr-defined]
        for node in ast.parse(script(plan)).body
        if isinstance(node, ast.Assign)
    }
    known = {
        "STRATEGIES": eval(tables["STRATEGIES"], {"Strategy": plan_types.Strategy}),
        "LAYERS": ast.literal_eval(tables["LAYERS"]),
    }
    read = eval(tables["PLAN"], {**known, "plan": plan_types.plan})
    assert [(x.name, x.stage, x.strategy.name) for x in read.layers] == [
        (x.name, x.stage, x.strategy.name) for x in plan.layers
    ]
    assert [x.strategy.grids for x in read.layers] == [x.strategy.grids for x in plan.layers]
    assert (read.pp, read.micro_batches, read.cluster.devices) == (plan.pp, plan.micro_batches, plan.cluster.devices)


def test_the_arrangement_of_ranks_imports_the_standard_library_alone() -> None:
    with open(axes.__file__) as file:
        tree = ast.parse(file.read())
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    modules = [alias.name for n in found if isinstance(n, ast.Import) for alias in n.names]
    modules += [n.module or "." for n in found if isinstance(n, ast.ImportFrom)]
    assert not [name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names]


@given(st.lists(st.integers(1, 16), min_size=1, max_size=5))
def test_the_script_says_how_every_node_starts_its_own_devices(counts) -> None:
    """Processes of the lines printed, one line a node, are the plan's ranks, wherever the nodes' sizes differ."""
    node = preset("8xA100-80G").nodes[0]
    machine = replace(preset("8xA100-80G"), nodes=tuple(replace(node, devices=count) for count in counts))
    plan = planned("gpt", "tp1-dp8")
    text = start(replace(plan, proposal=replace(plan.proposal, cluster=machine)))
    lines = [line.split() for line in text.splitlines() if "torchrun" in line]
    if len(counts) > 1 and len(set(counts)) == 1:
        lines = [[word.replace("=N", f"={n}") for word in lines[0]] for n in range(len(counts))]
    said = [dict(word.removeprefix("--").partition("=")[::2] for word in line) for line in lines]
    assert [int(words["nproc-per-node"]) for words in said] == counts
    if len(counts) > 1:
        assert all(words["nnodes"] == str(len(counts)) for words in said)
        assert [int(words["node-rank"]) for words in said] == list(range(len(counts)))
        assert all(words["master-addr"] == "HOST" for words in said)
