"""Context parallelism: how attention gets the keys and values of the positions that other ranks hold.

Each rank holds two pieces of the sequence, chosen so that a causal mask leaves all equal work. Variants and their
volumes are those of Transformer Engine (attention/dot_product_attention/context_parallel.py).
"""

from __future__ import annotations

from typing import Literal

from uniap_core.api import Operator, Training, precision

from .constants import Constants
from .kernels import Cut, Engine
from .links import Group, collective_s, exposed_s

Variant = Literal["ring", "ulysses", "gather"]


def variant(op: Operator, cut: Cut, training: Training) -> Variant:
    """How an attention is made parallel in its context: the first of these that it allows.

    ``ring``: keys and values go round behind the attention to what is there (Liu et al. 2023, arXiv 2310.01889); not
    with a sliding window, nor with probabilities in memory. ``ulysses``: heads are exchanged for positions (Jacobs et
    al. 2023, arXiv 2309.14509), where the degree divides the heads of queries and of keys on a rank. ``gather``: keys
    and values of the whole sequence on every rank (Llama 3, arXiv 2407.21783, section 3.3.2).
    """
    windowed = 0 < op.window < cut.sequence or op.keys.at(cut.sequence) < op.rows.at(cut.sequence)
    if training.flash_attention and not windowed:
        return "ring"
    heads, keys = _heads(op, cut)
    return "gather" if heads % cut.cp or keys % cut.cp else "ulysses"


def _heads(op: Operator, cut: Cut) -> tuple[float, float]:
    """Heads of queries and of keys on a rank."""
    if op.split == "heads":
        return op.heads / cut.tp, op.key_heads(cut.tp) / cut.tp
    return op.heads, op.kv_heads or op.heads


def _keys_bytes(op: Operator, cut: Cut, element: int) -> float:
    """Bytes of the keys and values that a rank's heads attend to: of the whole sequence."""
    whole = max(op.keys.at(cut.sequence), op.rows.at(cut.sequence))
    return cut.samples * whole * 2 * _heads(op, cut)[1] * op.inner * op.count * element


def context_s(
    op: Operator, cut: Cut, e: Engine, group: Group, attention_s: float, training: Training, constants: Constants
) -> tuple[float, float]:
    """Seconds that context parallelism adds to an operator, forward and backward.

    Parameters
    ----------
    attention_s
        The forward time of the operator itself, behind which a ring's passes run. Backward takes 2.5 times as long.

    Notes
    -----
    A ring of c ranks passes c - 1 times forward, each behind a c-th of the attention. Backward it passes keys and
    values again, and their gradients c times. Nothing hides what is gathered or exchanged.
    """
    if op.kind != "attention" or cut.cp == 1:
        return 0.0, 0.0
    size = _keys_bytes(op, cut, e.element_bytes)
    match variant(op, cut, training):
        case "ring":
            hops = cut.cp - 1
            hop = collective_s("all_gather", size, group, constants) / hops
            beside = attention_s / cut.cp
            forward = hops * exposed_s(hop, beside, constants)
            backward = hops * exposed_s(2 * hop, 2.5 * beside, constants) + hop
        case "ulysses":
            rows = cut.samples * op.rows.at(cut.sequence) / cut.cp * op.count
            queries = rows * _heads(op, cut)[0] * op.inner * e.element_bytes
            forward = backward = 2 * (
                collective_s("all_to_all", queries, group, constants)
                + collective_s("all_to_all", size / 2 / cut.cp, group, constants)
            )
        case _:
            forward = collective_s("all_gather", size, group, constants)
            backward = forward + collective_s("reduce_scatter", size, group, constants)
    return forward, backward


def context_bytes(op: Operator, cut: Cut, training: Training) -> float:
    """Bytes that context parallelism needs while an operator runs: two pieces of a ring, or what was gathered."""
    if op.kind != "attention" or cut.cp == 1:
        return 0.0
    size = _keys_bytes(op, cut, precision(training.precision).element_bytes)
    return {"ring": 2 * size / cut.cp, "ulysses": 0.0, "gather": size}[variant(op, cut, training)]
