"""Settings of a transformer that its sizes do not show: biases, norms, activation, rotary positions, windows.

Their names are those of :data:`uniap_core.architecture.ENTRIES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from uniap_core.api import ENTRIES, ROTARY_FIELDS, SCALE_FIELDS

Fact = tuple[str, int | float | str | bool]

DROPOUTS = {
    "attention_dropout": ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob"),
    "hidden_dropout": ("hidden_dropout", "residual_dropout", "resid_pdrop", "hidden_dropout_prob"),
    "embedding_dropout": ("embd_pdrop",),
}
"""What an architecture calls a dropout, and what configs call it."""

EPSILONS = {"rms_norm_eps": "rms", "layer_norm_eps": "layer", "layer_norm_epsilon": "layer"}
"""Epsilons of a config and the kind of norm that they are of."""

GELU = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")
"""GELU, exact or by tanh."""


def settings(config: Any, shapes: Mapping[str, Sequence[int]]) -> dict[str, int | float | str | bool]:
    """Facts of an architecture (see :mod:`uniap_zoo`) about how a decoder's blocks compute.

    Parameters
    ----------
    config
        The model's Hugging Face config.
    shapes
        Shapes of the model's parameters by name.

    Returns
    -------
    dict
        Empty for models other than GPT-2, BERT, and those with Llama's names of the projections of attention and
        a gated MLP or Mixtral's experts.
    """
    gated = bool(find(shapes, "mlp.gate_proj.weight")) or config.model_type == "mixtral"
    if find(shapes, "self_attn.q_proj.weight") and gated:
        found = [*_biases(shapes), *_norms(config, shapes), *_rotary(config), *_rest(config, gated=True)]
    elif config.model_type in ("gpt2", "bert"):
        found = [*_norms(config, shapes), *_rest(config, gated=False)]
        if config.model_type == "bert":
            found += [("next_sentence", bool(find(shapes, "seq_relationship.weight")))]
        if getattr(config, "scale_attn_by_inverse_layer_idx", False):
            found += [("attention_by_layer", True)]
        if not getattr(config, "scale_attn_weights", True):
            found += [("attention_scale", 1.0)]
    else:
        found = []
    return dict(found)


def find(shapes: Mapping[str, Sequence[int]], ending: str) -> Sequence[int]:
    """The shape of the first parameter whose name ends so, or nothing."""
    return next((shape for name, shape in shapes.items() if name.endswith(f".{ending}")), ())


def _biases(shapes: Mapping[str, Sequence[int]]) -> Iterator[Fact]:
    """Which projections have biases: the code of some models says so, and not their config."""
    for key, name in (("qkv", "self_attn.q_proj"), ("out", "self_attn.o_proj"), ("mlp", "mlp.up_proj")):
        yield f"{key}_bias", bool(find(shapes, f"{name}.bias"))
    if find(shapes, "lm_head.bias") or "lm_head.bias" in shapes:
        yield "head_bias", True


def _norms(config: Any, shapes: Mapping[str, Sequence[int]]) -> Iterator[Fact]:
    width, queries = find(shapes, "self_attn.q_norm.weight"), find(shapes, "self_attn.q_proj.weight")
    whole = width and width[-1] == queries[0] and config.num_attention_heads > 1
    if queries:
        yield "qk_norm", ("width" if whole else "head") if width else ""
    for name, kind in EPSILONS.items():
        if isinstance(epsilon := getattr(config, name, None), float):
            yield "norm", kind
            yield "norm_eps", epsilon
            return


def _rotary(config: Any) -> Iterator[Fact]:
    found = getattr(config, "rope_parameters", None)
    if not isinstance(found, dict):
        yield "rotary", "none"
        return
    yield "rotary", str(found.get("rope_type", "by layer"))
    yield from ((key, found[name]) for name, key in ROTARY_FIELDS.items() if isinstance(found.get(name), int | float))


def _rest(config: Any, *, gated: bool) -> Iterator[Fact]:
    """Activation, dropouts, caps and factors, and the window of layers that see the last positions alone."""
    names = ("hidden_act", "hidden_activation", "activation_function")
    if activation := next((a for n in names if isinstance(a := getattr(config, n, None), str)), ""):
        plain = {"swish": "silu", **dict.fromkeys(GELU, "gelu")}.get(activation, activation)
        yield "activation", {"silu": "swiglu", "gelu": "geglu"}.get(plain, f"gated {plain}") if gated else plain
    for key, spelled in DROPOUTS.items():
        dropped = next((float(d) for n in spelled if isinstance(d := getattr(config, n, None), int | float)), None)
        if dropped or (dropped is not None and not gated and key != "embedding_dropout"):
            yield key, dropped
    for name, key in SCALE_FIELDS.items():
        value = getattr(config, name, None)
        if isinstance(value, int | float) and value != ENTRIES[key].neutral:
            yield key, float(value)
    if isinstance(scalar := getattr(config, "query_pre_attn_scalar", None), int | float):
        yield "attention_scale", float(scalar) ** -0.5
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    if isinstance(window, int) and "sliding_attention" in kinds:
        yield "sliding_window", window
        if (count := kinds.count("sliding_attention")) < len(kinds):
            yield "sliding_layers", count
