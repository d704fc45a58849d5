"""Rows completed by what is published of the model that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..models import Hyperparameters, published

if TYPE_CHECKING:
    from collections.abc import Iterable


def filled(model: str, sizes: Hyperparameters, notes: list[str]) -> Hyperparameters:
    """Hyper-parameters with what is unknown filled from the published model of that name.

    A row with layers and hidden size of its own takes only what columns cannot say, and only if the hidden size is
    that of the published model.
    """
    found = published(model)
    if found is None:
        return sizes
    name, known = found
    if not (sizes.layers and sizes.hidden):
        notes.append(f"shape of {name}")
        return _with(sizes, known, Hyperparameters._fields)
    if sizes.hidden != known.hidden:
        return sizes
    if known.experts:
        notes.append(f"{known.top_k} of {known.experts} experts")
        # Tables give now the width of an expert, now that of a dense layer which the model does not have.
        sizes = sizes._replace(ffn=known.ffn)
    return _with(sizes, known, ("heads", "kv_heads", "ffn", "vocab", "head_size", "experts", "top_k"))


def _with(sizes: Hyperparameters, known: Hyperparameters, fields: Iterable[str]) -> Hyperparameters:
    blank = [field for field in fields if not getattr(sizes, field)]
    return sizes._replace(**{field: getattr(known, field) for field in blank})
