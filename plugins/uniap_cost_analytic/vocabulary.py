"""Vocabularies padded as the software pads them (:class:`uniap_core.costs.Training`, ``vocabulary_multiple``)."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from uniap_core.api import Operator


@lru_cache(maxsize=4096)
def padded(operators: tuple[Operator, ...], tp: int, multiple: int) -> tuple[Operator, ...]:
    """Operators with every rank's part of a split vocabulary a multiple of so much."""
    return tuple(_padded(op, tp * multiple) if op.split == "vocab" else op for op in operators)


def _padded(op: Operator, granule: int) -> Operator:
    side = "outer" if op.kind == "gemm" else "inner"
    entries = getattr(op, side)
    whole = -(-entries // granule) * granule
    saved = tuple(msgspec.structs.replace(s, width=whole) if s.width == entries else s for s in op.saved)
    # The inner width of the head is no vocabulary, though it may have as many entries.
    kept = op.saved if op.kind == "gemm" else saved
    changes = {side: whole, "parameters": op.parameters // entries * whole, "saved": kept}
    return msgspec.structs.replace(op, **changes)
