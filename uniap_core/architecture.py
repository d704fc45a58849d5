"""What a graph's ``architecture`` records of a model: one vocabulary for families, tracers, exporters and executors.

An entry that a graph does not record has the value of its family, or the neutral one, which stands for "nothing of the
kind". Whoever builds a model from an architecture says which entries it reads, and refuses the others where they are
not neutral (:func:`beyond`): what is read nowhere would be dropped in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

Value = int | float | str | bool

SHAPES = ("layers", "hidden", "heads", "kv_heads", "head_size", "ffn", "vocab")
"""Entries without which no decoder or encoder can be built."""

ROTARY_FIELDS = {
    "rope_theta": "rotary_base",
    "partial_rotary_factor": "rotary_share",
    "factor": "rotary_factor",
    "low_freq_factor": "rotary_low",
    "high_freq_factor": "rotary_high",
    "original_max_position_embeddings": "rotary_positions",
    "beta_fast": "rotary_fast",
    "beta_slow": "rotary_slow",
    "attention_factor": "rotary_attention",
    "mscale": "rotary_mscale",
    "mscale_all_dim": "rotary_mscale_all",
}
"""Rotary parameters of a Hugging Face configuration, and what an architecture calls them."""

SCALE_FIELDS = {
    "attn_logit_softcapping": "attention_softcap",
    "final_logit_softcapping": "logit_softcap",
    "attention_multiplier": "attention_scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_divisor",
    "router_aux_loss_coef": "router_loss",
}
"""Factors and caps of a Hugging Face configuration, and what an architecture calls them."""


class Entry(NamedTuple):
    """An entry of an architecture.

    Attributes
    ----------
    meaning
        In a few words, for messages.
    neutral
        The value that stands for nothing of the kind.
    of
        The value by family where a graph does not record it.
    computes
        Whether it changes what the model computes, or only what is known of its kernels.
    """

    meaning: str
    neutral: Value
    of: Mapping[str, Value] = {}
    computes: bool = True


def _all(value: Value, *families: str) -> dict[str, Value]:
    return dict.fromkeys(families, value)


DROPOUT = 0.1
"""Of GPT-2 and BERT."""

ENTRIES: dict[str, Entry] = {
    "family": Entry("model type", ""),
    "layers": Entry("transformer blocks, of the encoder where there is a decoder too", 0),
    "decoder_layers": Entry("blocks of a decoder behind an encoder", 0),
    "hidden": Entry("width of the residual stream", 0),
    "heads": Entry("attention heads", 0),
    "kv_heads": Entry("heads of keys and values", 0),
    "head_size": Entry("width of a head", 0),
    "ffn": Entry("width of the MLP, or of one expert", 0),
    "vocab": Entry("vocabulary", 0),
    "positions": Entry("entries of a learned table of positions", 0),
    "tied": Entry("embedding and head share their weight", False, _all(True, "gpt", "bert", "t5")),
    "activation": Entry(
        "activation of the MLP: gelu (exact or by tanh), relu, silu, or gated: swiglu, geglu",
        "",
        {**_all("swiglu", "llama", "mixtral"), **_all("gelu", "gpt", "bert", "vit", "swin"), "t5": "relu"},
    ),
    "norm": Entry(
        "kind of the norms, rms or layer",
        "",
        {**_all("rms", "llama", "mixtral", "t5"), **_all("layer", "gpt", "bert", "vit", "swin")},
    ),
    "norm_eps": Entry(
        "epsilon of the norms",
        0.0,
        {**_all(1e-6, "llama", "t5"), **_all(1e-5, "mixtral", "gpt", "swin"), **_all(1e-12, "bert", "vit")},
    ),
    "qkv_bias": Entry("biases of queries, keys and values", False, _all(True, "gpt", "bert", "vit", "swin")),
    "out_bias": Entry("bias of attention's output", False, _all(True, "gpt", "bert", "vit", "swin")),
    "mlp_bias": Entry("biases of the MLP", False, _all(True, "gpt", "bert", "vit", "swin")),
    "head_bias": Entry("bias of the head", False, _all(True, "bert", "vit", "swin")),
    "qk_norm": Entry("norms of queries and keys, of each head or over the whole width", ""),
    "rotary": Entry(
        "rotary positions: default, or stretched as linear, llama3, yarn ...",
        "none",
        _all("default", "llama", "mixtral"),
    ),
    "rotary_base": Entry("rotary base", 10000.0, {"mixtral": 1e6}),
    "rotary_share": Entry("share of a head's dimensions that turn", 1.0),
    "rotary_factor": Entry("factor by which rotary positions are stretched", 1.0),
    "rotary_low": Entry("turns below which llama3 stretches in full", 0.0),
    "rotary_high": Entry("turns above which llama3 does not stretch", 0.0),
    "rotary_positions": Entry("positions before stretching", 0),
    "rotary_fast": Entry("turns above which yarn does not stretch", 0.0),
    "rotary_slow": Entry("turns below which yarn stretches in full", 0.0),
    "rotary_attention": Entry("factor of yarn or longrope on attention", 0.0),
    "rotary_mscale": Entry("factor of yarn on attention, before the logarithm", 0.0),
    "rotary_mscale_all": Entry("the same over all dimensions", 0.0),
    "sliding_window": Entry("positions that a layer with a window sees", 0),
    "sliding_layers": Entry("layers with that window, if not all", 0),
    "attention_softcap": Entry("soft cap of attention scores", 0.0),
    "logit_softcap": Entry("soft cap of logits", 0.0),
    "attention_scale": Entry("factor of attention scores, if not 1 / sqrt(head size)", 0.0),
    "embedding_scale": Entry("factor of embeddings", 1.0),
    "residual_scale": Entry("factor of what a block adds", 1.0),
    "logit_divisor": Entry("what logits are divided by", 1.0),
    "attention_dropout": Entry("dropout of attention, in training with dropout", 0.0, _all(DROPOUT, "gpt", "bert")),
    "hidden_dropout": Entry(
        "dropout of what a block adds, in training with dropout", 0.0, _all(DROPOUT, "gpt", "bert")
    ),
    "embedding_dropout": Entry("dropout of embeddings, if not that of blocks", 0.0),
    "attention_by_layer": Entry("attention scores divided by the number of the layer", False),
    "next_sentence": Entry("a second head for the next sentence", False, {"bert": True}),
    "experts": Entry("experts of a block", 0),
    "top_k": Entry("experts that a token visits", 0),
    "router_loss": Entry("coefficient of the loss that evens out experts", 0.0, {"mixtral": 0.02}),
    "buckets": Entry("buckets of relative positions", 0, {"t5": 32}),
    "image": Entry("side of an image", 0),
    "patch": Entry("side of a patch", 0),
    "channels": Entry("channels of an image", 0),
    "classes": Entry("classes of images", 0),
    "window": Entry("side of an attention window in patches", 0),
    "depths": Entry("blocks by stage, as 2/2/42/2", ""),
    "stage_heads": Entry("heads by stage, as 8/16/32/64", ""),
    "ffn_ratio": Entry("width of the MLP over that of the stage", 0.0),
    "kernels": Entry("eager or fused kernels of norms, rotary positions and activations", "eager", computes=False),
}
"""All entries; the values of a family are those of the zoo's builder and of transformers' default config."""

MOST = 1e30
"""No number is larger."""

ANY: tuple[Value, ...] = ()
"""Whatever value an entry has."""


def complete(architecture: Mapping[str, Value]) -> dict[str, Value]:
    """Every entry, with its family's value or the neutral one where it is not recorded; unknown ones stay."""
    family = str(architecture.get("family", ""))
    full = {name: entry.of.get(family, entry.neutral) for name, entry in ENTRIES.items()} | dict(architecture)
    full["kv_heads"] = full["kv_heads"] or full["heads"]
    if not full["head_size"] and full["heads"]:
        full["head_size"] = int(full["hidden"]) // int(full["heads"])
    return full


def mistyped(facts: Mapping[str, Value]) -> Iterator[str]:
    """Entries whose value is of another type than theirs, or a number that is negative, none or beyond any model's."""
    for name, value in facts.items():
        kind = type(ENTRIES[name].neutral) if name in ENTRIES else type(value)
        number = isinstance(value, int | float) and type(value) in (int, kind) and 0 <= value <= MOST
        if not number if kind in (int, float) else type(value) is not kind:
            yield f"{name} is {value!r}"


def is_gated(activation: Value) -> bool:
    """Whether an MLP with this activation has two products into it (Shazeer 2020)."""
    return activation in ("swiglu", "geglu") or str(activation).startswith("gated ")


def beyond(facts: Mapping[str, Value], read: Mapping[str, Collection[Value]]) -> Iterator[str]:
    """What a model has beyond what its reader can build, each as ``name value (meaning)``.

    Parameters
    ----------
    facts
        A complete architecture.
    read
        Entries that are read, with the values that can be built (:data:`ANY` for all). Others must be neutral.
    """
    for name, value in facts.items():
        entry = ENTRIES.get(name)
        if entry is None:
            yield f"{name} {value} (an entry that is not known here)"
        elif entry.computes and (value not in (read[name] or (value,)) if name in read else value != entry.neutral):
            yield f"{name} {value} ({entry.meaning})"


def idle(facts: Mapping[str, Value]) -> Iterator[str]:
    """Entries that say how something is done that the model does not do: the architecture contradicts itself."""
    kind, rotary = facts["rotary"], [name for name in ENTRIES if name.startswith("rotary_")]
    used = {
        "none": set(),
        "default": {"rotary_base", "rotary_share"},
        "linear": {"rotary_base", "rotary_share", "rotary_factor"},
        "llama3": {"rotary_base", "rotary_share", "rotary_factor", "rotary_low", "rotary_high", "rotary_positions"},
    }.get(str(kind), set(rotary))
    family = str(facts["family"])
    for name in rotary:
        if name not in used and facts[name] not in (ENTRIES[name].neutral, ENTRIES[name].of.get(family)):
            yield f"{name} {facts[name]} with rotary positions of the kind {kind}"
    if kind != "none" and facts["positions"]:
        yield f"positions {facts['positions']}, a learned table, with rotary positions of the kind {kind}"
    if facts["sliding_layers"] and not facts["sliding_window"]:
        yield f"sliding_layers {facts['sliding_layers']} without a window"
    if bool(facts["experts"]) != bool(facts["top_k"]):
        yield f"experts {facts['experts']} with top_k {facts['top_k']}"
    if facts["router_loss"] and not facts["experts"]:
        yield f"router_loss {facts['router_loss']} without experts"


def block_parameters(facts: Mapping[str, Value]) -> int:
    """Trainable elements of one pre-norm or post-norm block as its architecture says."""
    hidden, heads, kv, size, ffn, experts = (
        int(facts[name]) for name in ("hidden", "heads", "kv_heads", "head_size", "ffn", "experts")
    )
    into, gated = (heads + 2 * kv) * size, 2 if is_gated(facts["activation"]) else 1
    attention = (
        hidden * into + heads * size * hidden + bool(facts["qkv_bias"]) * into + bool(facts["out_bias"]) * hidden
    )
    mlp = (gated + 1) * hidden * ffn + bool(facts["mlp_bias"]) * (gated * ffn + hidden)
    normed = 2 * hidden + {"": 0, "head": 2 * size, "width": (heads + kv) * size}.get(str(facts["qk_norm"]), 0)
    norms = normed * (2 if facts["norm"] == "layer" else 1)
    return attention + max(1, experts) * mlp + hidden * experts + norms
