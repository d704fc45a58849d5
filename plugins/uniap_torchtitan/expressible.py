"""Why torchtitan could not run a plan as it stands, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from uniap_core.api import (
    ANY,
    AXES,
    SHAPES,
    Cluster,
    Inexpressible,
    LayerPlan,
    ModelGraph,
    Plan,
    Training,
    Value,
    beyond,
    complete,
    divisors,
    idle,
    mistyped,
)

from . import FAMILIES, GENERATIONS, PRECISIONS, TORCHTITAN
from .schedules import SPLIT, able, objections

READ: dict[str, tuple[Value, ...]] = {
    "family": FAMILIES,
    **dict.fromkeys((*SHAPES, "tied", "norm_eps", "rotary_base"), ANY),
    **dict.fromkeys(("rotary_factor", "rotary_low", "rotary_high", "rotary_positions"), ANY),
    "rotary": ("default", "llama3"),
    "activation": ("swiglu",),
    "norm": ("rms",),
}
"""Entries of an architecture that the configuration module is written of, and the values that its Llama has."""


def fit(graph: ModelGraph, cluster: Cluster, training: Training, schedule: str) -> tuple[tuple[str, ...], ...]:
    """The alternative sets of pins under which a model can be run.

    No pipeline for a tied model, in one the micro-batches that its schedule runs with, sharding as :func:`_sharding`
    says, tensor parallel degrees that divide the sequence and the heads of keys.

    Raises
    ------
    Inexpressible
        If the model is none that is exported.
    """
    reasons = list(_model(graph))
    if reasons:
        raise Inexpressible("; ".join(reasons), f"choose another executor, or a model of {', '.join(FAMILIES)}")
    always = tuple(f"tp!={tp}" for tp in divisors(cluster.node_size) if graph.sequence % tp or _keys(graph) % tp)
    alone = [("pp=1", "micro_batches=1"), ("pp=1", "dp=1"), ("pp=1", "sharding=zero3", "replicate=1")]
    kept = ("sharding!=zero2", "sharding!=zero3")
    piped: list[tuple[str, ...]] = []
    if graph.architecture["tied"]:
        pass
    elif schedule == "gpipe":
        piped = [("pp>=2", "micro_batches=1"), ("pp>=2", *kept)]
    else:
        once = ("recompute=none",) if schedule in SPLIT else ()
        counts = divisors(training.global_batch)
        for pp in divisors(cluster.devices)[1:]:
            wrong = tuple(f"micro_batches!={c}" for c in counts if not able(schedule, pp, c))
            if len(wrong) < len(counts):
                piped.append((f"pp={pp}", *wrong, *kept, *once))
            if able(schedule, pp, 1) and not once:
                piped.append((f"pp={pp}", "micro_batches=1"))
    return tuple((*regime, *always) for regime in (*alone, *piped))


def express(plan: Plan) -> list[str]:
    """Every reason why stock torchtitan cannot run this plan; empty if it can."""
    reasons = list(_model(plan.model))
    if not reasons:
        reasons += [*_pipeline(plan), *_strategies(plan), *_sharding(plan), *_recompute(plan), *_rest(plan)]
    return reasons


def blocks(plan: Plan) -> list[LayerPlan]:
    """The plan's transformer blocks, in order."""
    kinds = {layer.name: layer.kind for layer in plan.model.layers}
    return [layer for layer in plan.layers if kinds[layer.name] == "decoder"]


def facts_of(graph: ModelGraph) -> dict[str, Value]:
    """The complete architecture of a graph."""
    return complete({"family": graph.family, **graph.architecture})


def _keys(graph: ModelGraph) -> int:
    """Heads of keys and values."""
    return int(facts_of(graph)["kv_heads"])


def _model(graph: ModelGraph) -> Iterator[str]:
    if graph.family not in FAMILIES:
        yield f"torchtitan {TORCHTITAN} is exported for {', '.join(FAMILIES)}, not for the family {graph.family!r}"
        return
    lacking = [key for key in (*SHAPES, "tied") if key not in graph.architecture]
    if lacking:
        yield f"the graph of {graph.name} does not say its {', '.join(lacking)}"
        return
    kinds = [layer.kind for layer in graph.layers]
    if kinds != ["embedding", *["decoder"] * int(graph.architecture["layers"]), "head"]:
        yield f"{graph.name} is not an embedding, {graph.architecture['layers']} blocks (layers) and a head in a row"
        return
    facts = facts_of(graph)
    if wrong := list(mistyped(facts)):
        yield f"the architecture of {graph.name}: {', '.join(wrong)}"
        return
    dropouts = {name: 0.0 for name in facts if name.endswith("_dropout")}
    told = [f"torchtitan's Llama has no {entry}" for entry in beyond(facts | dropouts, READ)]
    told += [f"the graph of {graph.name} contradicts itself: {entry}" for entry in idle(facts)]
    if facts["rotary"] == "llama3" and not (facts["rotary_positions"] and facts["rotary_high"]):
        told.append(f"the graph of {graph.name} does not say its rotary_low, rotary_high and rotary_positions")
    yield from told


def _pipeline(plan: Plan) -> Iterator[str]:
    if plan.pp > 1 and plan.model.architecture["tied"]:
        yield "torchtitan does not tie the embedding and the head across pipeline stages"
    if plan.pp > 1:
        yield from objections(plan)


def _strategies(plan: Plan) -> Iterator[str]:
    for axis in (axis for axis in AXES if axis.name != "recompute"):
        values = dict.fromkeys(layer.strategy[axis.name] for layer in plan.layers)
        if len(values) > 1:
            yield f"torchtitan takes one {axis.title} for the whole model; the plan has {', '.join(map(str, values))}"
    first = plan.layers[0].strategy
    if _keys(plan.model) % first.tp:
        yield f"{_keys(plan.model)} key heads do not divide by tp {first.tp}, and torchtitan does not repeat them"
    if first.cp > 1:
        yield "torchtitan's context parallelism needs its spmd_types backend, which the export does not switch on"
    if first.sequence_parallel and plan.sequence % first.tp:
        yield f"the sequence of {plan.sequence} does not divide by tp {first.tp}, as its sequence parallelism needs"


def _sharding(plan: Plan) -> Iterator[str]:
    """What FSDP2 does between micro-batches.

    In a pipeline torch postpones reduction to the last micro-batch and keeps parameters and gradients whole until
    then (torch.distributed.pipelining.stage, ``backward_maybe_with_nosync``): with ``reshard_after_forward="never"``
    that is zero1. Without a pipeline torchtitan's accumulation gathers and reduces in every micro-batch
    (torchtitan.trainer, ``train_step``): with ``"always"`` that is zero3. With one micro-batch all four agree with
    what a plan means by them, or need less memory.
    """
    strategy = plan.layers[0].strategy
    if strategy.grids.data.size == 1:
        return
    if plan.pp > 1 and plan.schedule in SPLIT and strategy.sharding in ("zero2", "zero3"):
        yield f"torch's {plan.schedule} splits backward passes, and loses gradients of {strategy.sharding}"
        return
    if strategy.dp % strategy.replicate:
        yield f"torchtitan's replicas are of data parallelism: {strategy.replicate} do not divide dp {strategy.dp}"
    if plan.micro_batches == 1:
        return
    if plan.pp > 1 and strategy.sharding in ("zero2", "zero3"):
        yield f"torchtitan keeps gradients whole between micro-batches of a pipeline, which is not {strategy.sharding}"
    if plan.pp == 1 and strategy.sharding != "zero3":
        kind = "no sharding" if strategy.sharding == "none" else strategy.sharding
        yield f"torchtitan gathers or reduces in every accumulated micro-batch, which is not {kind}"
    elif plan.pp == 1 and strategy.replicate > 1:
        yield (
            f"torchtitan reduces between the {strategy.replicate} replicas in every accumulated micro-batch, and the "
            "plan once"
        )


def _recompute(plan: Plan) -> Iterator[str]:
    modes = dict.fromkeys(layer.strategy.recompute for layer in blocks(plan))
    if len(modes) > 1:
        yield f"torchtitan recomputes all blocks alike; the plan has {', '.join(modes)}"
    for mode in (mode for mode in modes if mode not in ("none", "selective", "full")):
        yield f"torchtitan recomputes whole blocks, not {mode} of them"
    if plan.pp > 1 and plan.schedule in SPLIT and modes != {"none": None}:
        yield f"torch's {plan.schedule} splits backward passes, and would recompute for both halves"
    if "selective" in modes:
        yield "torchtitan's selective recomputation repeats every second product, which the plan's does not"


def _rest(plan: Plan) -> Iterator[str]:
    if plan.precision not in PRECISIONS:
        yield f"torchtitan trains in {' or '.join(PRECISIONS)}, not in {plan.precision}"
    for name, made in {device.name: device.generation for device in plan.cluster.device_kinds}.items():
        if made and made not in GENERATIONS:
            yield f"Triton, which compiles torchtitan's attention, does not run on {name} ({made})"
    if plan.training.optimizer == "sgd":
        yield "torchtitan has no SGD"
    if not plan.training.flash_attention:
        yield "torchtitan's attention never keeps its probabilities; the plan was priced with them"
    if plan.training.tensor_overlap != "none":
        yield "the plan was priced with tensor parallelism behind its products, which the export does not switch on"
    if plan.training.scatter_gather and plan.pp > 1:
        yield "torchtitan sends activations between stages whole, not in parts that are gathered behind them"
    if plan.training.dropout:
        dropouts = [f"{name} {x}" for name, x in facts_of(plan.model).items() if name.endswith("_dropout") and x]
        yield from (f"torchtitan's Llama has no {dropout}" for dropout in dropouts)
    sizes = sorted({node.devices for node in plan.cluster.nodes})
    if len(sizes) > 1:
        yield f"torchrun starts equally many ranks on every node; nodes here have {' or '.join(map(str, sizes))}"
