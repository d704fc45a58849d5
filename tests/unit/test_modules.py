"""Recomputation by sets of modules: how they are named, what they keep and run again, who is told."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uniap_cost_analytic.kernels import Cut
from uniap_cost_analytic.memory import kept_bytes, saved_bytes
from uniap_megatron.arguments import words
from uniap_megatron.expressible import express

from tests.planned import SMALL, planned
from uniap_core import models, registry
from uniap_core.api import Layer, Training
from uniap_core.cluster import preset
from uniap_core.cost_models import price
from uniap_core.costs import Candidate
from uniap_core.errors import BadValue, UsageError
from uniap_core.estimate.plan import _recompute
from uniap_core.export import obstacles
from uniap_core.models import Hyperparameters
from uniap_core.modules import HEAVY, LIGHT, again, found, menu, misspelt, own
from uniap_core.pins import Pins
from uniap_core.search import make
from uniap_core.strategy import FREE, Strategy, StrategySpace, parse
from uniap_core.verify.devices import recomputation
from uniap_zoo import deepseek

SIZES = Hyperparameters(layers=4, hidden=256, heads=8, ffn=512, vocab=1000, sequence=128, experts=4, top_k=2)
LATENT = deepseek.deepseek("DeepSeek-V3", "v3", SIZES._replace(moe_ffn=128, shared_experts=1), dense=1)
GRAPHS = [models.load(SMALL["llama"]), models.load(SMALL["bert"]), models.load(SMALL["mixtral"]), LATENT]
LAYERS = [layer for graph in GRAPHS for layer in graph.layers[1:-1:3]]
TRAINING = Training(global_batch=8)
CUT = Cut(samples=2.0, sequence=128, tp=1, cp=1, ep=1, sequence_parallel=False)


@st.composite
def sets(draw: st.DrawFn) -> str:
    light = draw(st.sampled_from(POWER))
    heavy = draw(st.sets(st.sampled_from(HEAVY)))
    return "+".join((*light, *(word for word in HEAVY if word in heavy))) or "none"


POWER = ((), ("selective",), ("core_attn",), ("norm",), ("activation",), ("core_attn", "activation"), LIGHT)


def test_modules_are_found_by_shape():
    dense, expert = LATENT.layers[1].operators, LATENT.layers[2].operators
    names = {key: [expert[i].name for i in members] for key, members in found(expert).items()}
    assert names["mla_up"] == ["query_up", "kv_up", "rotary"]
    assert names["shared_experts"] == ["shared_up", "swiglu", "shared_down"]
    assert (names["moe"][0], names["moe"][-1]) == ("router", "shared_down")
    assert {key: dense[members[-1]].name for key, members in found(dense).items()} == {
        "mla_up": "rotary",
        "mlp": "down",
    }
    assert [list(found(graph.layers[1].operators)) for graph in GRAPHS[:3]] == [["mlp"], ["mlp"], ["moe"]]
    assert not found(GRAPHS[0].layers[0].operators)


def test_menus_are_short_and_dense_blocks_have_what_they_had():
    assert [menu(graph.layers[1].operators) for graph in GRAPHS] == [
        (),
        (),
        ("norm+activation",),
        ("mla_up", "mla_up+mlp"),
    ]
    assert menu(LATENT.layers[2].operators) == ("mla_up",)
    assert all(menu(graph.layers[i].operators) == () for graph in GRAPHS for i in (0, -1))


@given(sets(), st.sampled_from(LAYERS))
def test_larger_sets_keep_less_and_run_more(name: str, layer: Layer) -> None:
    assert misspelt(name) == ""
    assert parse(Strategy(recompute=name).name).recompute == name
    ops = layer.operators
    kept = kept_bytes(ops, CUT, TRAINING, name)
    assert 0 <= kept <= kept_bytes(ops, CUT, TRAINING, "none")
    runs = [a.runs for a in again(ops, name)]
    same = own(ops, name)
    assert kept_bytes(ops, CUT, TRAINING, same) == pytest.approx(kept)
    assert [a.runs for a in again(ops, same)] == runs
    for word in () if name == "none" else name.split("+"):
        less = "+".join(other for other in name.split("+") if other != word) or "none"
        assert kept <= kept_bytes(ops, CUT, TRAINING, less) * (1 + 1e-12)
        assert all(more or not fewer for more, fewer in zip(runs, (a.runs for a in again(ops, less)), strict=True))


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.kind)
def test_selective_is_all_that_needs_no_product(layer):
    assert again(layer.operators, "+".join(LIGHT)) == again(layer.operators, "selective")
    assert own(layer.operators, "+".join(LIGHT)) == "selective"


def test_a_module_keeps_what_it_is_given_and_drops_what_it_makes():
    ops = GRAPHS[0].layers[1].operators
    by_name = {
        o.name: (saved_bytes(o, CUT, TRAINING, selective=False), a) for o, a in zip(ops, again(ops, "mlp"), strict=True)
    }
    dropped = sum(size for name, (size, _) in by_name.items() if name in ("swiglu", "down"))
    assert kept_bytes(ops, CUT, TRAINING, "none") - kept_bytes(ops, CUT, TRAINING, "mlp") == pytest.approx(dropped)
    assert [o.name for o, a in zip(ops, again(ops, "mlp"), strict=True) if a.runs] == ["gate_up", "swiglu", "down"]
    latent = LATENT.layers[2].operators
    core = next(o for o in latent if o.kind == "attention")
    given = 128 * 2.0 * sum(s.width * 2 for s in core.saved if not s.selective)
    assert kept_bytes(latent, CUT, TRAINING, "none") - kept_bytes(latent, CUT, TRAINING, "mla_up") == pytest.approx(
        given
    )


def test_prices_lie_between_none_and_full():
    names = ("none", "selective", "mla_up", "mla_up+moe", "selective+mla_up+moe", "full")
    space = StrategySpace(tp=(2,), cp=(1,), ep=(2,), shardings=("zero1",), recomputes=names)
    tables = price("analytic", LATENT, preset("8xA100-80G"), space, Candidate.of(1, 1, TRAINING), None)
    layer = tables.layers[2]
    rows = {s.recompute: k for k, s in enumerate(layer.strategies)}
    stash = [layer.stash_bytes[rows[name]] for name in names]
    seconds = [layer.backward_s[0, rows[name]] for name in names]
    assert stash[0] > stash[2] > stash[3] > stash[4] > stash[5]
    assert seconds[0] < seconds[2] < seconds[3] < seconds[4] < seconds[5]
    assert {layer.forward_s[0, k] for k in rows.values()} == {layer.forward_s[0, 0]}
    assert (layer.state_bytes == layer.state_bytes[0]).all() or layer.state_parts_bytes["workspace"].any()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mlp+mlp", "each once in the order"),
        ("moe+mlp", "each once in the order"),
        ("selective+norm", "names what selective contains"),
        ("mlp+gdn", "no module"),
    ],
)
def test_other_names_are_refused(name, said):
    with pytest.raises(BadValue, match=said):
        Strategy(recompute=name)
    with pytest.raises(UsageError, match="is not understood"):
        Pins.of([f"recompute={name}"])


def test_a_pin_names_any_set():
    search = make(SMALL["llama"], "8xA100-40G", 8, pins=["recompute=selective+mlp"])
    assert search.space.recomputes[-1] == "selective+mlp"
    bare = make(SMALL["llama"], "8xA100-40G", 8, pins=["recompute=mlp"], executor="fsdp")
    assert "mlp" not in bare.space.recomputes
    assert make(SMALL["llama"], "8xA100-40G", 8).space == FREE


def test_estimates_read_modules_by_megatrons_names():
    assert _recompute("selective: core_attn moe_act") == "core_attn+activation"
    assert _recompute("selective (layernorm,moe_act,mla_up_proj,mlp)") == "norm+activation+mla_up+mlp"
    assert _recompute("selective") == _recompute("selective: core_attn") == "selective"
    assert (_recompute("full"), _recompute("off"), _recompute("")) == ("full", "none", None)


def test_megatron_is_told_the_modules():
    plan = planned("mixtral", "tp2-dp4-ep2-zero1-moe-sp", micro_batches=2)
    assert express(plan) == []
    assert {"--recompute-granularity=selective", "--recompute-modules=moe"} <= set(words(plan))
    both = planned("mixtral", "tp2-dp4-ep2-zero1-selective+moe-sp", micro_batches=2)
    told = words(both)
    at = told.index("--recompute-modules")
    assert told[at + 1 : at + 3] == ["core_attn", "moe"]
    assert any("mixes otherwise" in reason for reason in express(planned("mixtral", "tp2-dp4-zero1-norm-sp")))


@pytest.mark.parametrize("executor", ["fsdp", "torchtitan"])
def test_others_refuse_by_cause(executor):
    plan = planned("llama", "tp2-dp4-zero3-mlp-sp")
    assert any("mlp" in reason for reason in obstacles(plan, registry.load("executor", executor)))


def test_the_fsdp_executor_refuses_replicas():
    plan = planned("llama", "tp1-dp16-zero3-replicate2", cluster="2x8xA100-80G")
    assert any("replicas of shard groups" in reason for reason in obstacles(plan, registry.load("executor", "fsdp")))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mlp+mla_up", "no set of modules"),
        ("selective+norm", "no set of modules"),
        ("mlp+gdn", "no set of modules"),
        ("moe", "no layer under moe has moe"),
        ("mlp", ""),
        ("selective+mlp", ""),
    ],
)
def test_the_verifier_holds_sets_against_an_account_of_its_own(name, said):
    plan = planned("llama", "tp1-dp8")
    strategy = Strategy(dp=8)
    msgspec.structs.force_setattr(strategy, "recompute", name)
    layers = tuple(msgspec.structs.replace(layer, strategy=strategy) for layer in plan.layers)
    found = recomputation(msgspec.structs.replace(plan.proposal, layers=layers))
    assert (said in found.evidence) if said else found.passed
