"""The heart of the executor: under any plan a model trains as it does in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import fsdp_parity as parity
import msgspec
import pytest
from fsdp_plans import proposal
from fsdp_ranks import Ranks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uniap_fsdp.schedules import SPLIT as SPLIT_SCHEDULES

from uniap_core.api import ModelGraph
from uniap_zoo import build

pytestmark = pytest.mark.torch

World = Callable[[int], Ranks]
SIZES = "hidden=32,heads=4,vocab=64,seq=16"
MODELS = {
    "llama": f"llama:layers=4,ffn=64,kv_heads=2,{SIZES}",
    "tied": f"llama:layers=4,ffn=64,tied=true,{SIZES}",
    "gpt": f"gpt:layers=4,{SIZES}",
    "bert": f"bert:layers=4,{SIZES}",
    "t5": f"t5:layers=2,head_size=8,ffn=64,{SIZES}",
}


@dataclass(frozen=True)
class Case:
    """A plan in short: strategies by layer (embedding, blocks, head), cuts, and the rest of the options."""

    model: str
    ranks: int
    strategies: str
    cuts: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def plan(self) -> Any:
        names = self.strategies.split()
        return proposal(
            graph(self.model), self.ranks, names if len(names) > 1 else names[0], cuts=self.cuts, **self.options
        )


SETTINGS = {"qkv_bias": True, "qk_norm": "head", "head_size": 16, "rotary_base": 1e6, "norm_eps": 1e-5}
"""What Qwen models have and the zoo's Llama does not."""


@cache
def graph(model: str) -> ModelGraph:
    if model == "qwen":
        llama = build(MODELS["llama"])
        return msgspec.structs.replace(llama, architecture=llama.architecture | SETTINGS)
    return build(MODELS[model])


SPLIT = "tp1-dp2 tp2-dp1-sp tp1-dp2-zero1 tp2-dp1 tp1-dp2-zero1 tp2-dp1-sp"
"""Strategies that go with backward passes in two halves."""

CASES = {
    "accumulation": Case("llama", 1, "tp1-dp1", options={"micro_batches": 4}),
    "replicated": Case("llama", 2, "tp1-dp2", options={"optimizer": "sgd"}),
    "zero3-full-recompute": Case("llama", 2, "tp1-dp2-zero3-full", options={"micro_batches": 4}),
    "zero2-selective-recompute": Case("gpt", 2, "tp1-dp2-zero2-selective"),
    "tp-without-sequence-parallel": Case("gpt", 2, "tp2-dp1"),
    "uneven-cut-tied-across-stages": Case("tied", 2, "tp1-dp1", (4,), {"micro_batches": 4, "optimizer": "sgd"}),
    "every-layer-another-strategy": Case(
        "gpt", 4, "tp4-dp1-sp tp2-dp2-zero3-sp tp1-dp4-zero2 tp2-dp2-zero1 tp4-dp1 tp2-dp2-sp",
        options={"optimizer": "sgd"},
    ),
    "tied-same-stage-other-cuts": Case("tied", 4, "tp1-dp4-zero3 tp2-dp2 tp2-dp2-sp tp2-dp2 tp2-dp2 tp4-dp1-sp"),
    "gpipe-mixed": Case(
        "llama", 4, "tp1-dp2 tp2-dp1-sp tp1-dp2-zero3-full tp2-dp1-selective tp1-dp2-zero2 tp1-dp2-zero1", (2,),
        {"schedule": "gpipe", "optimizer": "sgd"},
    ),
    "1f1b-mixed-recompute-sp": Case(
        "llama", 4, "tp2-dp1-sp tp2-dp1-selective-sp tp2-dp1-full-sp tp1-dp2-zero1-full tp1-dp2-selective tp2-dp1-sp",
        (3,), {"micro_batches": 4},
    ),
    "four-stages-1f1b": Case("gpt", 4, "tp1-dp1", (1, 2, 5), {"micro_batches": 8}),
    "four-stages-fewer-micro-batches": Case("gpt", 4, "tp1-dp1", (1, 3, 4), {"micro_batches": 2}),
    "four-stages-gpipe": Case("bert", 4, "tp1-dp1-full", (2, 3, 5), {"schedule": "gpipe", "micro_batches": 4}),
    "bert-two-results": Case(
        "bert", 4, "tp2-dp1-sp tp2-dp1-sp tp1-dp2 tp1-dp2-zero3 tp2-dp1-sp tp2-dp1-sp", (2,), {"optimizer": "sgd"}
    ),
    "t5-relayed-memory": Case("t5", 4, "tp1-dp1", (2, 4, 6), {"micro_batches": 4, "optimizer": "sgd"}),
    "t5-mixed": Case(
        "t5", 4,
        "tp2-dp1-sp tp2-dp1-sp tp1-dp2 tp2-dp1-sp tp1-dp2-zero3 tp2-dp1-sp tp1-dp2 tp2-dp1-sp", (3,),
    ),
    "norms-of-heads": Case("qwen", 2, "tp2-dp1 tp2-dp1-sp tp2-dp1 tp2-dp1-full tp2-dp1-selective-sp tp2-dp1-sp"),
    "norms-of-heads-mixed": Case(
        "qwen", 4, "tp1-dp2 tp2-dp1-sp tp2-dp1 tp2-dp1-full-sp tp1-dp2-zero3 tp2-dp1", (3,), {"micro_batches": 4}
    ),
    "norms-of-heads-sharded": Case(
        "qwen", 4, "tp2-dp2-sp tp2-dp2-zero3 tp2-dp2-zero1-sp tp2-dp2-zero2 tp1-dp4 tp2-dp2-sp"
    ),
    "eight-ranks": Case(
        "llama", 8,
        "tp1-dp4-zero3 tp2-dp2-sp tp2-dp2-zero3-sp tp1-dp4-zero2 tp2-dp2-zero1-selective-sp tp2-dp2-zero3-sp",
        (2,), {"optimizer": "sgd"},
    ),
    # With chunks: uneven ones, and ends of the model that are tied on one rank under V placements.
    "interleaved-mixed": Case(
        "tied", 4, "tp1-dp2-zero1 tp2-dp1-sp tp1-dp2-zero3-full tp2-dp1-selective tp1-dp2-zero2 tp2-dp1-sp", (1, 3, 4),
        {"schedule": "interleaved", "vpp": 2, "micro_batches": 4, "optimizer": "sgd"},
    ),
    "interleaved-three-chunks": Case(
        "gpt", 2, "tp1-dp1", (1, 2, 3, 4, 5), {"schedule": "interleaved", "vpp": 3, "micro_batches": 4},
    ),
    "zb-h1": Case("tied", 4, SPLIT, (4,), {"schedule": "zb-h1", "micro_batches": 4, "optimizer": "sgd"}),
    "interleaved-zb": Case(
        "tied", 4, SPLIT, (1, 3, 4), {"schedule": "interleaved-zb", "vpp": 2, "micro_batches": 4, "optimizer": "sgd"}
    ),
    "zbv": Case("tied", 4, SPLIT, (1, 3, 4), {"schedule": "zbv", "vpp": 2, "micro_batches": 4}),
    "dualpipev": Case(
        "tied", 4, SPLIT, (1, 3, 4), {"schedule": "dualpipev", "vpp": 2, "micro_batches": 4, "optimizer": "sgd"}
    ),
    # A chunk that begins anew from tokens: torch alone would lose the gradients of its embedding.
    "zbv-embedding-in-a-later-chunk": Case(
        "t5", 2, "tp1-dp1", (2, 3, 5), {"schedule": "zbv", "vpp": 2, "micro_batches": 2, "optimizer": "sgd"}
    ),
    "eight-ranks-zbv": Case(
        "tied", 8, "tp1-dp4 tp2-dp2-sp tp1-dp4-zero1 tp4-dp1 tp2-dp2-zero1-sp tp2-dp2-zero1", (1, 3, 4),
        {"schedule": "zbv", "vpp": 2, "optimizer": "sgd"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def reference(world: World) -> Callable[[str, str], parity.Outcome]:
    @cache
    def train(model: str, optimizer: str) -> parity.Outcome:
        outcome: parity.Outcome = world(1).run(parity.alone, graph(model), 8, parity.JOB, optimizer)[0]
        return outcome

    return train


SLOW = ("eight-ranks-zbv",)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CASES])
def test_a_plan_trains_as_one_process_does(
    name: str, world: World, reference: Callable[[str, str], parity.Outcome]
) -> None:
    case = CASES[name]
    results = world(case.ranks).run(parity.under_plan, case.plan())
    parity.compare(reference(case.model, case.options.get("optimizer", "adamw")), results)


SHAPES = [
    *((schedule, pp, 1, c) for schedule in ("gpipe", "1f1b") for pp in (1, 2, 4) for c in (1, 2)),
    *(("interleaved", 2, v, c) for v in (2, 3) for c in (1, 2, 4)),
    ("zb-h1", 2, 1, 2),
    ("interleaved-zb", 2, 2, 2),
    *(("zbv", 2, 2, c) for c in (1, 2, 4)),
    ("dualpipev", 2, 2, 4),
]
"""Schedules, pipeline ranks, chunks per rank, micro-batches."""


@st.composite
def plans(draw: st.DrawFn) -> Case:
    """Plans of 4 ranks: any pipeline, cuts, strategies and micro-batches that divide."""
    model = draw(st.sampled_from(["tied", "gpt", "t5"]))
    layers = len(graph(model).layers)
    schedule, pp, vpp, micro_batches = draw(st.sampled_from(SHAPES))
    depth, whole = pp * vpp, schedule not in SPLIT_SCHEDULES
    cuts = sorted(draw(st.sets(st.integers(1, layers - 1), min_size=depth - 1, max_size=depth - 1)))
    width = 4 // pp
    strategies = []
    for _ in range(layers):
        tp = draw(st.sampled_from([d for d in (1, 2, 4) if width % d == 0]))
        name = f"tp{tp}-dp{width // tp}"
        if width > tp:
            name += draw(st.sampled_from(["", "-zero1", "-zero2", "-zero3"] if whole else ["", "-zero1"]))
        name += draw(st.sampled_from(["", "-selective", "-full"] if whole else [""]))
        strategies.append(name + (draw(st.sampled_from(["", "-sp"])) if tp > 1 else ""))
    options = {"schedule": schedule, "vpp": vpp, "micro_batches": micro_batches, "optimizer": "sgd"}
    return Case(model, 4, " ".join(strategies), tuple(cuts), options)


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=plans())
def test_any_plan_trains_as_one_process_does(
    case: Case, world: World, reference: Callable[[str, str], parity.Outcome]
) -> None:
    parity.compare(reference(case.model, "sgd"), world(4).run(parity.under_plan, case.plan()))
