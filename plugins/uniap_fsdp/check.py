"""What this executor refuses, said before anything is started. Reads the plan alone; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from uniap_core.api import Inexpressible, Layer, ModelGraph, Plan

from .models.names import is_traced
from .schedules import SCHEDULES, SPLIT, miscounted, misplaced

PRECISIONS = ("fp32", "tf32", "bf16")
OPTIMIZERS = ("adamw", "adam", "sgd")
RECOMPUTES = ("none", "selective", "full")

Refusal = tuple[str, str]
"""What is wrong, and what to do instead."""


def check(plan: Plan) -> None:
    """Refuse a plan that cannot be run exactly.

    Raises
    ------
    Inexpressible
        With every reason, and the remedy of the first.
    """
    reasons = refusals(plan)
    if reasons:
        shown = [cause for cause, _ in reasons[:4]]
        more = f"; and {len(reasons) - 4} more like these" if len(reasons) > 4 else ""
        raise Inexpressible(f"the fsdp executor cannot run this plan: {'; '.join(shown)}{more}", reasons[0][1])


def refusals(plan: Plan) -> list[Refusal]:
    """Everything that is wrong with a plan's text."""
    return list(dict.fromkeys([*_job(plan), *_stages(plan), *_layers(plan)]))


def _job(plan: Plan) -> Iterator[Refusal]:
    training = plan.training
    yield from _schedule(plan)
    if plan.precision not in PRECISIONS:
        why = " needs loss scaling, which is not done here" if plan.precision == "fp16" else ""
        yield f"the precision {plan.precision!r}{why}", f"plan with --precision {' or '.join(PRECISIONS)}"
    if training.optimizer not in OPTIMIZERS:
        yield f"the optimizer {training.optimizer!r}", f"plan with {' or '.join(OPTIMIZERS)}"
    if training.dropout and any(layer.strategy.tp > 1 for layer in plan.layers):
        yield "dropout would differ between tensor-parallel ranks", "plan without dropout, or with --pin tp=1"
    if training.tensor_overlap != "none" and any(layer.strategy.tp > 1 for layer in plan.layers):
        yield "collectives of tensor parallelism behind the products beside them", "plan without tensor_overlap"
    if training.scatter_gather and plan.pp > 1:
        yield "messages between stages in parts that are gathered behind them", "plan without scatter_gather"
    yield from frozen(plan.model, plan.precision)
    if plan.pp > 1 and plan.model.without_backward:
        yield "frozen layers under pipelining: their stages would wait for gradients that nothing sends", "--pin pp=1"
    if plan.global_batch % plan.micro_batches:
        yield f"{plan.micro_batches} micro-batches of a batch of {plan.global_batch}", "choose a divisor of the batch"


def _schedule(plan: Plan) -> Iterator[Refusal]:
    if plan.schedule not in SCHEDULES:
        yield f"the schedule {plan.schedule!r}, which torch has not", f"plan with --schedule {' or '.join(SCHEDULES)}"
        return
    if cause := misplaced(plan.schedule, plan.pp, plan.candidate.pipeline.chunks):
        yield f"chunks on ranks {plan.candidate.pipeline.chunks}: {cause}", "plan with another schedule or vpp"
    if cause := miscounted(plan.schedule, plan.pp, plan.micro_batches):
        yield cause, "choose another number of micro-batches (--pin micro_batches=...)"
    if plan.schedule not in SPLIT:
        return
    for planned in plan.layers:
        if planned.strategy.sharding in ("zero2", "zero3"):
            cause = f"{planned.strategy.sharding} of layer {planned.name} under {plan.schedule}"
            yield f"{cause}: both halves of a backward pass would gather or reduce", "pin sharding=zero1"
        if planned.strategy.recompute != "none":
            cause = f"recomputation of layer {planned.name} under {plan.schedule}"
            yield f"{cause}: both halves of a backward pass would do it", "pin recompute=none"


def frozen(graph: ModelGraph, precision: str) -> Iterator[Refusal]:
    """What of a model with frozen parameters cannot be run."""
    if graph.chosen:
        chosen = " ".join(f"--{name} {value}" for name, value in graph.chosen)
        yield (
            f"what was chosen apart from the model's source ({chosen}), which is what it builds",
            "let a factory make the model so (PEFT, requires_grad=False), and plan package.module:factory",
        )
        return
    if graph.trained == graph.parameters:
        return
    if not is_traced(graph):
        yield "frozen parameters of a model that is built here, which trains them all", "trace a torch model"
    if precision == "bf16":
        yield (
            "frozen parameters in bf16: FSDP keeps fp32 weights of all, which was not priced",
            "plan with --precision fp32 or tf32",
        )


def _stages(plan: Plan) -> Iterator[Refusal]:
    if plan.cluster.devices % plan.pp:
        yield f"{plan.pp} stages on {plan.cluster.devices} devices", "choose a divisor for pp"
        return
    pipeline = plan.candidate.pipeline
    width = pipeline.devices_per_rank(plan.cluster.devices)
    if empty := sorted(set(range(len(pipeline.chunks))) - {layer.stage for layer in plan.layers}):
        yield f"stage {empty[0]} has no layers", "choose fewer stages"
    for i, (stage, rank) in enumerate(zip(plan.stages, pipeline.chunks, strict=False)):
        if stage.ranks != tuple(range(rank * width, (rank + 1) * width)):
            yield f"stage {i} has ranks {stage.ranks}", "pipeline ranks take equal, consecutive blocks of devices"


def _layers(plan: Plan) -> Iterator[Refusal]:
    if plan.cluster.devices % plan.pp:
        return
    width = plan.candidate.pipeline.devices_per_rank(plan.cluster.devices)
    micro_batch = plan.global_batch // plan.micro_batches
    layers = {layer.name: layer for layer in plan.model.layers}
    for planned in plan.layers:
        name, strategy = planned.name, planned.strategy
        for degree, text in ((strategy.cp, "context"), (strategy.ep, "expert")):
            if degree > 1:
                yield f"{text} parallelism (layer {name})", f"plan with {text[0]}p=1"
        if strategy.folded:
            yield f"experts that are cut otherwise than the rest (layer {name})", "plan with ep=1 and etp as tp"
        if strategy.replicate > 1:
            yield f"replicas of shard groups (layer {name})", "plan with replicate=1"
        if strategy.recompute not in RECOMPUTES:
            yield f"recomputation of {strategy.recompute} (layer {name})", f"plan with {' or '.join(RECOMPUTES)}"
        if strategy.devices != width:
            yield f"layer {name} has tp {strategy.tp} x dp {strategy.dp} on {width} devices", "their product must fit"
        if micro_batch % strategy.dp:
            cause = f"layer {name} shares a micro-batch of {micro_batch} among {strategy.dp} ranks"
            yield cause, "choose fewer micro-batches, a larger batch, or pin a smaller dp"
        if strategy.tp > 1 and name in layers:
            yield from _split(strategy.tp, layers[name])


def _split(tp: int, layer: Layer) -> Iterator[Refusal]:
    for op in layer.operators:
        counts = {"heads": op.heads, "key heads": op.kv_heads}
        if op.kind == "gemm" and op.split == "column":
            counts["columns"] = op.outer
        if op.kind == "gemm" and op.split == "row":
            counts["rows"] = op.inner
        for what, count in counts.items():
            if count and count % tp:
                cause = f"{count} {what} of {layer.name}/{op.name} over {tp} tensor-parallel ranks"
                yield cause, f"pin a tp that divides {count}, as in --pin tp={_divisor(count, tp)}"
        if op.split == "vocab" and 0 < min(op.inner, op.outer) < tp and op.kind == "embedding":
            yield f"a vocabulary of {op.inner} over {tp} ranks", "pin a smaller tp"


def _divisor(count: int, below: int) -> int:
    return next(d for d in range(below, 0, -1) if count % d == 0)
