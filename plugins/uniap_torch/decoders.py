"""Settings of decoders built like Llama that their sizes do not show: biases, norms, rotary positions, windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Fact = tuple[str, int | float | str | bool]

ROTARY = {
    "rope_theta": "rotary_base",
    "partial_rotary_factor": "rotary_share",
    "factor": "rotary_factor",
    "low_freq_factor": "rotary_low",
    "high_freq_factor": "rotary_high",
    "original_max_position_embeddings": "rotary_positions",
}
"""Rotary parameters of a config and what an architecture calls them."""


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
        Empty for models without Llama's names of the projections of attention and a gated MLP.
    """
    if not all(find(shapes, name) for name in ("self_attn.q_proj.weight", "mlp.gate_proj.weight")):
        return {}
    return dict([*_biases(shapes), *_norms(config, shapes), *_rotary(config), *_rest(config)])


def find(shapes: Mapping[str, Sequence[int]], ending: str) -> Sequence[int]:
    """The shape of the first parameter whose name ends so, or nothing."""
    return next((shape for name, shape in shapes.items() if name.endswith(f".{ending}")), ())


def _biases(shapes: Mapping[str, Sequence[int]]) -> Iterator[Fact]:
    """Which projections have biases: the code of some models says so, and not their config."""
    for key, name in (("qkv", "self_attn.q_proj"), ("out", "self_attn.o_proj"), ("mlp", "mlp.up_proj")):
        yield f"{key}_bias", bool(find(shapes, f"{name}.bias"))


def _norms(config: Any, shapes: Mapping[str, Sequence[int]]) -> Iterator[Fact]:
    width, queries = find(shapes, "self_attn.q_norm.weight"), find(shapes, "self_attn.q_proj.weight")
    whole = width and width[-1] == queries[0] and config.num_attention_heads > 1
    yield "qk_norm", ("width" if whole else "head") if width else ""
    if isinstance(epsilon := getattr(config, "rms_norm_eps", None), float):
        yield "norm_eps", epsilon


def _rotary(config: Any) -> Iterator[Fact]:
    found = getattr(config, "rope_parameters", None)
    if not isinstance(found, dict):
        yield "rotary", "none"
        return
    yield "rotary", str(found.get("rope_type", "by layer"))
    yield from ((key, found[name]) for name, key in ROTARY.items() if isinstance(found.get(name), int | float))


def _rest(config: Any) -> Iterator[Fact]:
    """The activation of the MLP, dropout of attention, and the window of layers that see the last positions alone."""
    if isinstance(activation := getattr(config, "hidden_act", None), str):
        yield "activation", "swiglu" if activation in ("silu", "swish") else activation
    if dropped := getattr(config, "attention_dropout", 0.0):
        yield "attention_dropout", float(dropped)
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    if isinstance(window, int) and "sliding_attention" in kinds:
        yield "sliding_window", window
