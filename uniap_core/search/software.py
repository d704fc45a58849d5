"""Which software a search prices, and with which kernels: chosen by name, implied by the executor, or assumed."""

from __future__ import annotations

import msgspec

from .. import attention as kernels
from .. import models
from ..cluster import Cluster
from ..costs import Training
from ..errors import UsageError
from ..events import Emit, Note
from ..execute import ExecutorPlugin
from ..graph import ModelGraph
from ..strategy import FREE, StrategySpace
from ..system import DEFAULT, Attention, Stack, era_of, training_of


def stack_of(system: str | None, executor: ExecutorPlugin | None, emit: Emit) -> Stack:
    """The software that is meant; ``emit`` is told where it is assumed.

    Raises
    ------
    UnknownName
        If the name means no software that is known here.
    """
    stack = Stack(system if system is not None else executor.system if executor else "")
    if stack.name:
        stack.check()
    else:
        emit(Note(0.0, f"software assumed: {DEFAULT} (--system or --executor names another)"))
    return stack


def with_kernels(graph: ModelGraph, stack: Stack, attention: Attention | None, emit: Emit) -> ModelGraph:
    """The graph with the kernels that the software has, and with the attention that is asked for.

    A traced graph has the kernels that were traced; where its attention is written out that is priced and said, unless
    a fused kernel is asked for.

    Raises
    ------
    UsageError
        If ``attention`` is no kernel.
    """
    if attention not in (None, "eager", "fused"):
        raise UsageError(f"there is no attention {attention!r}", "write --attention eager or --attention fused")
    if stack.name:
        graph = models.with_kernels(graph, stack.kernels)
    written = kernels.written_out(graph)
    if written and attention == "fused":
        emit(Note(0.0, f"a fused kernel is priced for the attention that {len(written)} layers write out"))
        return kernels.fused(graph)
    if written and attention is None:
        emit(
            Note(
                0.0,
                f"eager attention is priced in {len(written)} layers, with its scores kept: the model's code writes it "
                "out (--attention fused prices a fused kernel)",
            )
        )
    return graph


def trained(
    graph: ModelGraph, cluster: Cluster, stack: Stack, attention: Attention | None, batch: int, precision: str
) -> Training:
    """What is trained how on a cluster by some software."""
    return training_of(
        stack, cluster, graph.family, graph.sequence, batch=batch, precision=precision, attention=attention
    )


def space_of(graph: ModelGraph, cluster: Cluster, stack: Stack, precision: str) -> StrategySpace:
    """All strategies; without sequence parallelism where the software is older than that."""
    space = FREE
    if stack.fuses_attention(era_of(cluster), precision, graph.sequence):
        return space
    return msgspec.structs.replace(space, sequence_parallel=False)
