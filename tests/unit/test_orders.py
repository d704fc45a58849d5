"""The order of unequal nodes: which others there are, and that a faster one is found, said and planned on."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations

import pytest

from uniap_core.advise.orders import WORTH, better_order, orders
from uniap_core.advise.relax import relaxations
from uniap_core.cli.planning import ordered
from uniap_core.cluster import from_toml, load
from uniap_core.errors import BadValue, Infeasible, UsageError
from uniap_core.search import make, moved, sweep

MODEL = "gpt:layers=2,hidden=512,heads=8,seq=256"
NODE = '[[nodes]]\nkind = "{}"\ndevices = {}\n'


def boxes(*kinds: str, devices: int = 1) -> str:
    return 'name = "boxes"\n' + "".join(NODE.format(kind, devices) for kind in kinds)


@pytest.mark.parametrize(
    "kinds", [("T4", "A10"), ("T4", "T4", "A10"), ("T4", "A10", "T4", "A10"), ("T4", "A10", "L4"), ("T4", "T4")]
)
def test_all_other_orders_each_once(kinds):
    machine = from_toml(boxes(*kinds))
    found = [machine.reordered(order).nodes for order in orders(machine)]
    names = [tuple(node.device.name for node in nodes) for nodes in found]
    assert sorted(names) == sorted(set(permutations(kinds)) - {kinds})


def test_of_many_orders_those_that_keep_kinds_together():
    machine = from_toml(boxes(*["T4", "A10"] * 4))
    found = [[machine.nodes[i].device.name for i in order] for order in orders(machine)]
    assert found == [["T4"] * 4 + ["A10"] * 4, ["A10"] * 4 + ["T4"] * 4]


def test_equal_nodes_have_one_order():
    assert orders(load("64x8xH100-80G")) == ()


@pytest.mark.parametrize("kinds", [("T4", "A100-80G", "T4"), ("A100-80G", "T4", "T4")])
def test_the_order_found_is_the_best_of_all(kinds):
    search = make(MODEL, from_toml(boxes(*kinds)), 12, precision="fp16")
    found = sweep(search)
    given = found.plan.predicted.iteration_time_s
    times = {}
    for order in orders(search.cluster):
        turned = moved(search, search.cluster.reordered(order), search.training)
        times[order] = sweep(turned).plan.predicted.iteration_time_s
    best = better_order(search, found)
    if min(times.values()) < given * (1 - WORTH):
        assert best.iteration_time_s == pytest.approx(min(times.values()))
        assert times[best.order] == pytest.approx(best.iteration_time_s)
        assert f"{1 - best.iteration_time_s / given:.1%} faster: --node-order {best.text}" in best.sentence()
    else:
        assert best is None


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Boxes whose order matters: the last stage has the head, whose vocabulary is most of the model."""
    path = tmp_path_factory.mktemp("boxes") / "boxes.toml"
    path.write_text(boxes("A100-80G", "T4"))
    return str(path)


def run(*arguments: str):
    options = ["-b", "12", "--precision", "fp16", "--pin", "pp=2", "--pin", "micro_batches=12"]
    command = [sys.executable, "-m", "uniap_core.cli", "plan", MODEL, *options, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_command_says_that_another_order_is_faster_and_plans_on_it(file):
    said = run("-c", file).stdout
    assert "another order of the nodes would be" in said
    assert "--node-order 1,0" in said
    for order in ("1,0", "best"):
        turned = run("-c", file, "--node-order", order)
        assert "boxes (nodes 1,0)" in turned.stdout
        assert "another order" not in turned.stdout


@pytest.mark.parametrize("order", ["1", "0,0", "0,2", "a,b", "-1,0"])
def test_an_order_names_every_node_once(file, order):
    with pytest.raises((BadValue, UsageError), match="order"):
        ordered(file, order)


def test_another_order_may_be_what_makes_a_plan_fit():
    model = "llama:layers=2,hidden=256,heads=4,kv_heads=4,ffn=512,seq=512,vocab=64000"
    pins = ["pp=2", "sharding=none", "recompute=none", "micro_batches=1"]
    text = 'name = "boxes"\n' + "".join(f"{NODE.format('T4', 1)}memory_gib = {size}\n" for size in (14.0, 3.2))
    search = make(model, from_toml(text), 8, pins=pins, precision="fp16")
    with pytest.raises(Infeasible, match=r"layer head alone needs at least \d\.\d\d GiB per device .* 3\.20 GiB"):
        sweep(search)
    assert any("--node-order 1,0" in change.change for change in relaxations(search))
