"""A plan's decisions as command-line arguments of Megatron-LM."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, takewhile

from uniap_core.api import Plan, line

from . import NARROW
from .expressible import blocks, experts, flashes
from .recompute import method
from .shape import Pairs, facts_of, model_arguments

MANY = 3
"""So many equal stages in a row are written once."""


@dataclass(frozen=True)
class Argument:
    """One argument; an empty value is a switch, an empty flag one more value of the flag before it."""

    flag: str
    value: str = ""

    @property
    def text(self) -> str:
        """As it is written on the command line, one word."""
        if not self.flag:
            return line(self.value)
        return line(f"--{self.flag}={self.value}" if self.value else f"--{self.flag}")


Section = tuple[str, tuple[Argument, ...]]


def sections(plan: Plan) -> tuple[Section, ...]:
    """All arguments that the plan decides, under a title each.

    Parameters
    ----------
    plan
        A plan that :func:`~uniap_megatron.expressible.express` has no reason against.
    """
    rows = (
        ("parallelism", _parallelism(plan)),
        ("pipeline stages, as the plan cuts them", _pipeline(plan)),
        ("batch", _batch(plan)),
        ("recomputation", iter(method(plan, blocks(plan)) or ())),
        ("data parallelism and precision", _data_parallel(plan)),
        ("model", model_arguments(plan)),
        ("kernels, as priced", _kernels(plan)),
    )
    listed = ((title, tuple(Argument(flag, value) for flag, value in pairs)) for title, pairs in rows)
    return tuple((title, arguments) for title, arguments in listed if arguments)


def words(plan: Plan) -> list[str]:
    """The arguments as a flat list of command-line words."""
    return [argument.text for _, arguments in sections(plan) for argument in arguments]


def layout(plan: Plan) -> str:
    """The stages in the language of ``--pipeline-model-parallel-layout``: E embedding, t transformer, L loss.

    Stage j of the string is chunk ``j // pp`` of rank ``j % pp``, as in an interleaved plan.
    """
    letter = {"embedding": "E", "head": "L"}
    kinds = {layer.name: layer.kind for layer in plan.model.layers}
    stages = []
    for stage in plan.stages:
        letters = [letter.get(kinds[name], "t") for name in stage.layers]
        stages.append("".join(key if count == 1 else f"{key}*{count}" for key, count in _runs(letters)))
    *before, last = stages
    text = ""
    for same, count in _runs(before):
        text += f"({same}|)*{count}," if count >= MANY else f"{same}|" * count
    return text + last


def _runs(items: list[str]) -> list[tuple[str, int]]:
    return [(key, len(list(run))) for key, run in groupby(items)]


def _parallelism(plan: Plan) -> Pairs:
    strategy = plan.layers[0].strategy
    yield "tensor-model-parallel-size", str(strategy.tp)
    yield "pipeline-model-parallel-size", str(plan.pp)
    if strategy.cp > 1:
        yield "context-parallel-size", str(strategy.cp)
    if spread := experts(plan):
        chosen = spread[0].strategy
        if chosen.ep > 1:
            yield "expert-model-parallel-size", str(chosen.ep)
        if chosen.folded:
            yield "expert-tensor-parallel-size", str(chosen["etp"])
    if strategy.sequence_parallel:
        yield "sequence-parallel", ""
        if plan.training.tensor_overlap == "all":
            yield "tp-comm-overlap", ""


def _pipeline(plan: Plan) -> Pairs:
    if plan.pp > 1:
        yield "pipeline-model-parallel-layout", layout(plan)
    pipeline = plan.candidate.pipeline
    if pipeline.chunks_per_rank > 1:
        # Communication between stages is overlapped then, unless somebody adds --no-overlap-p2p-communication.
        group = list(takewhile(lambda step: step.chunk == 0, pipeline.order(plan.micro_batches)[0]))
        yield "microbatch-group-size-per-virtual-pipeline-stage", str(len(group))


def _batch(plan: Plan) -> Pairs:
    yield "micro-batch-size", str(plan.global_batch // plan.micro_batches // plan.layers[0].strategy.dp)
    yield "global-batch-size", str(plan.global_batch)
    yield "seq-length", str(plan.sequence)


def _data_parallel(plan: Plan) -> Pairs:
    strategy = plan.layers[0].strategy
    if strategy.sharding == "zero1":
        yield "use-distributed-optimizer", ""
        if strategy.replicate > 1:
            yield "num-distributed-optimizer-instances", str(strategy.replicate)
    if strategy.grids.data.size > 1:
        yield "overlap-grad-reduce", ""
        if strategy.sharding == "zero1":
            yield "overlap-param-gather", ""
    yield "optimizer", "sgd" if plan.training.optimizer == "sgd" else "adam"
    if plan.precision == "bf16" or plan.precision in NARROW:
        yield "bf16", ""
    if plan.precision == "fp16":
        yield "fp16", ""
    yield from NARROW.get(plan.precision, {}).items()


def _kernels(plan: Plan) -> Pairs:
    facts = facts_of(plan.model)
    if facts["rotary"] != "none" and facts["kernels"] != "fused":
        yield "no-rope-fusion", ""
    if not flashes(plan):
        yield "attention-backend", "unfused"
