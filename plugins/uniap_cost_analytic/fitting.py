"""What a layer can be cut into: the strategies that its shapes allow."""

from __future__ import annotations

from uniap_core.api import Candidate, Layer, Strategy, divide_batch, runs_along


def misfit(layer: Layer, strategy: Strategy, candidate: Candidate, sequence: int) -> str:
    """Why a layer cannot use a strategy, or an empty string.

    Heads and widths must divide by tp, key heads too or divide it, experts by ep, the sequence by 2 cp (causal
    balance), the micro-batch by dp; a vocabulary is padded.
    """
    if divide_batch(candidate, strategy) is None:
        return f"the micro-batch of {candidate.micro_batch} does not divide by dp {strategy.dp}"
    tp = strategy.tp
    for op in layer.operators:
        width = op.outer if op.kind in ("gemm", "grouped_gemm") else op.inner
        if op.split == "column" and width % tp:
            return f"width {width} of {op.name} does not divide by tp {tp}"
        if op.split == "row" and op.inner % tp:
            return f"width {op.inner} of {op.name} does not divide by tp {tp}"
        if reason := op.misfit(tp):
            return reason
        if strategy.cp > 1 and (op.rows.per_position == 0 or sequence % (2 * strategy.cp)):
            return f"the sequence of {sequence} does not divide by twice cp {strategy.cp}"
        if strategy.cp > 1 and runs_along(op):
            return f"{op.name} of {layer.name} runs along the sequence, which is not priced between ranks"
        if op.experts and op.experts % strategy.ep:
            return f"{op.experts} experts of {op.name} do not divide by ep {strategy.ep}"
        if op.kind == "grouped_gemm" and (op.outer if op.entry else op.inner) % strategy["etp"]:  # type: ignore[operator]
            return f"the width of each expert of {op.name} does not divide by etp {strategy['etp']}"
    return ""
