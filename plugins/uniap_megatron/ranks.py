"""Which ranks work together, as the plan says and as Megatron-LM will group them."""

from __future__ import annotations

from uniap_core.api import Inexpressible, Plan, RankLayout

from .expressible import express

Groups = tuple[tuple[int, ...], ...]


def layout(plan: Plan) -> RankLayout:
    """The groups of every layer, from the plan alone (no Megatron-LM needed).

    A stage's ranks are consecutive, tensor parallel innermost, then context, then data parallel: Megatron-LM's
    default order ``tp-cp-ep-dp-pp``.

    Raises
    ------
    Inexpressible
        If Megatron-LM cannot run the plan.
    """
    reasons = express(plan)
    if reasons:
        raise Inexpressible("; ".join(reasons), "uniap plan ... --executor megatron finds a plan that it can run")
    stages = tuple(stage.ranks for stage in plan.stages)
    return RankLayout(
        world=plan.cluster.devices,
        stages=stages,
        groups={
            layer.name: groups(stages[layer.stage], s.tp, s.cp, s.dp, s.ep)
            for layer, s in ((layer, layer.strategy) for layer in plan.layers)
        },
        parameters={},
    )


def groups(ranks: tuple[int, ...], tp: int, cp: int, dp: int, ep: int) -> dict[str, Groups]:
    """Groups within one stage: tensor, context, data and expert parallel."""
    return {
        "tp": _strided(ranks, 1, tp),
        "cp": _strided(ranks, tp, cp),
        "dp": _strided(ranks, tp * cp, dp),
        "ep": _strided(ranks, tp, ep),
    }


def _strided(ranks: tuple[int, ...], stride: int, size: int) -> Groups:
    """Every group of ``size`` ranks that lie ``stride`` apart."""
    span = stride * size
    starts = [block + offset for block in range(0, len(ranks), span) for offset in range(stride)]
    return tuple(tuple(ranks[start + step * stride] for step in range(size)) for start in starts)
