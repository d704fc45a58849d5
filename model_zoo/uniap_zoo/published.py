"""What is published of models by name: sizes, and what no column of a table says (head size, experts)."""

from __future__ import annotations

from functools import cache

from uniap_core.models import Hyperparameters

from . import catalogue, hub


def published(name: str) -> tuple[str, Hyperparameters] | None:
    """The published model that a name means, or ``None`` if it is not known."""
    known = catalogue.meant(name)
    return None if known is None else (known, sizes_of(known))


@cache
def sizes_of(name: str) -> Hyperparameters:
    """The hyper-parameters of a published model, as far as columns can say them."""
    entry = catalogue.ENTRIES[name]
    if entry.config:
        return _of_config(entry.config)
    known = catalogue.build(name, None).architecture
    fields = ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab")
    layers, hidden, heads, kv_heads, ffn, vocab = (int(known.get(field, 0)) for field in fields)
    layers += int(known.get("decoder_layers", 0))
    experts, top_k = int(known.get("experts", 0)), int(known.get("top_k", 0))
    size = int(known.get("head_size", 0))
    own = size if heads and size * heads != hidden else 0
    return Hyperparameters(layers, hidden, heads, kv_heads, ffn, vocab, head_size=own, experts=experts, top_k=top_k)


def _of_config(config: dict[str, object]) -> Hyperparameters:
    """Sizes from a configuration; the width of an MLP is that of an expert where no layer is dense."""
    decoder, _ = hub.read(config, None)
    facts = decoder.facts
    layers, hidden, heads, kv_heads, ffn, vocab, size = (
        int(facts.get(name, 0)) for name in ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "head_size")
    )
    own = size if heads and size * heads != hidden else 0
    sizes = Hyperparameters(layers, hidden, heads, kv_heads, ffn, vocab, head_size=own)
    mixed = [block for block in decoder.blocks if any(op.experts for op in block)]
    if not mixed:
        return sizes
    down = next(op for op in mixed[0] if op.experts and not op.entry)
    into = next((op for op in mixed[0] if "shared" in op.name and op.name.endswith("down_proj")), None)
    sizes = sizes._replace(experts=down.experts, top_k=down.top_k)
    shared, dense = (into.inner // down.inner if into else 0), len(decoder.blocks) - len(mixed)
    if not shared and not dense:
        return sizes._replace(ffn=down.inner)
    return sizes._replace(moe_ffn=down.inner, shared_experts=shared, dense_layers=dense)
