"""Rows completed by what is published of the model that they name; what columns say is believed over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..models import Hyperparameters, published

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHAPE = ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "head_size")
_MIXTURE = ("experts", "top_k", "moe_ffn", "shared_experts", "dense_layers")


def filled(model: str, sizes: Hyperparameters, notes: list[str]) -> Hyperparameters:
    """Hyper-parameters with what is unknown filled from the published model of that name.

    A row with layers and hidden size of its own takes what it leaves open only if the hidden size is that of the
    published model. Whatever it says otherwise than the published model is believed, and noted.
    """
    found = published(model)
    if found is None:
        return sizes
    name, known = found
    another = bool(sizes.layers and sizes.hidden) and sizes.hidden != known.hidden
    if not another:
        sizes = _width_of_an_expert(sizes, known, notes)
    against = list(_against(sizes, known))
    if against:
        notes.append(f"{', '.join(against)}: the columns are believed over the name ({name})")
    if not (sizes.layers and sizes.hidden):
        notes.append(f"shape of {name}")
        return _with(sizes, known, (*_SHAPE, *_MIXTURE))
    if another:
        return sizes
    if known.experts and not sizes.experts:
        notes.append(f"{known.top_k} of {known.experts} experts")
    mixture = () if sizes.experts == 1 else _MIXTURE
    # Key heads and head size belong to the heads that they were published with.
    heads = ("heads", "kv_heads", "head_size") if sizes.heads in (0, known.heads) else ()
    full = _with(sizes, known, (*heads, "ffn", "vocab", *mixture))
    if full.head_size != sizes.head_size and full.head_size * full.heads != full.hidden:
        notes.append(f"head size {full.head_size}")
    return full


def _width_of_an_expert(sizes: Hyperparameters, known: Hyperparameters, notes: list[str]) -> Hyperparameters:
    """The row with ``ffn`` where it belongs.

    Tables give now the width of an expert, now that of a dense layer, which the model may not have: without experts of
    its own, a row means the published mixture, whose widths are known.
    """
    if not known.experts or sizes.experts or sizes.moe_ffn:
        return sizes
    if known.moe_ffn:
        return sizes._replace(ffn=0) if sizes.ffn == known.moe_ffn else sizes
    if sizes.ffn not in (0, known.ffn):
        notes.append(f"experts {known.ffn} wide, not {sizes.ffn}")
    return sizes._replace(ffn=known.ffn)


def _against(sizes: Hyperparameters, known: Hyperparameters) -> Iterable[str]:
    """What a row says otherwise than the published model."""
    size = known.head_size or (known.heads and known.hidden // known.heads)
    public = known._replace(head_size=size, experts=known.experts or 1, top_k=known.top_k or 1)
    for field in (*_SHAPE, *_MIXTURE):
        said, other = getattr(sizes, field), getattr(public, field)
        if not _open(field, said) and not _open(field, other) and said != other:
            yield f"{field} {said} (published: {other})"


def _open(field: str, value: int | None) -> bool:
    """Whether a value says nothing: 0, but for what a model may have none of."""
    return value is None if field in ("shared_experts", "dense_layers") else not value


def _with(sizes: Hyperparameters, known: Hyperparameters, fields: Iterable[str]) -> Hyperparameters:
    blank = [field for field in fields if _open(field, getattr(sizes, field))]
    return sizes._replace(**{field: getattr(known, field) for field in blank})
