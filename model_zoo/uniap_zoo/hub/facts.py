"""What an architecture records of how a decoder computes, from its configuration."""

from __future__ import annotations

from typing import Any

from uniap_core.architecture import ENTRIES, ROTARY_FIELDS, SCALE_FIELDS

from .config import Config, Unread
from .decoder import Fact


def rotary(c: Config, *, base: float = 10000.0, share: float | None = None) -> dict[str, Fact]:
    """Rotary positions, in the new spelling (``rope_parameters``) or the old (``rope_theta`` and ``rope_scaling``)."""
    found: dict[str, Any] = dict(c.table("rope_parameters") or c.table("rope_scaling"))
    if any(isinstance(value, dict) for value in found.values()):
        return {"rotary": "by layer"}
    found.setdefault("rope_theta", c.number("rope_theta", default=base))
    if c.has("partial_rotary_factor") or share is not None:
        found.setdefault("partial_rotary_factor", c.number("partial_rotary_factor", default=share))
    kind = str(found.get("rope_type", found.get("type", "default")))
    if kind not in ("default", "linear", "llama3", "yarn", "dynamic", "longrope"):
        raise Unread(f"rotary positions of the kind {kind}")
    if kind in ("yarn", "longrope", "dynamic"):
        found.setdefault("original_max_position_embeddings", c.integer("max_position_embeddings"))
    known = {
        key: found[name]
        for name, key in ROTARY_FIELDS.items()
        if isinstance(found.get(name), int | float) and not isinstance(found.get(name), bool)
    }
    return {"rotary": kind, **known}


def settings(
    c: Config,
    *,
    eps: float,
    qkv_bias: bool = False,
    out_bias: bool = False,
    mlp_bias: bool = False,
    qk_norm: str = "",
    activation: str = "swiglu",
    turned: dict[str, Fact] | None = None,
    window: int = 0,
    windowed: int | None = None,
    scales: dict[str, float] | None = None,
) -> dict[str, Fact]:
    """Facts about the blocks of a decoder with Llama's projections.

    Parameters
    ----------
    eps
        Default epsilon of the norms.
    turned
        Rotary positions, if not as usual.
    window, windowed
        Positions that layers with a window see, and how many layers those are, if not all.
    scales
        Defaults of factors and caps, by their names in the configuration.
    """
    facts: dict[str, Fact] = {
        "qkv_bias": qkv_bias,
        "out_bias": out_bias,
        "mlp_bias": mlp_bias,
        "qk_norm": qk_norm,
        "norm": "rms",
        "norm_eps": c.number("rms_norm_eps", default=eps),
        "activation": activation,
        **(rotary(c) if turned is None else turned),
    }
    for name, key in SCALE_FIELDS.items():
        if c.has(name) or name in (scales or {}):
            value = c.number(name, default=(scales or {}).get(name))
            if value != ENTRIES[key].neutral:
                facts[key] = value
    dropout = c.number("attention_dropout", default=0.0)
    if dropout:
        facts["attention_dropout"] = dropout
    if window and windowed != 0:
        facts["sliding_window"] = window
        if windowed is not None and windowed < c.integer("num_hidden_layers"):
            facts["sliding_layers"] = windowed
    return facts


def activation(c: Config, *, default: str = "silu") -> str:
    """The gated activation of an MLP: swiglu or geglu.

    Raises
    ------
    Unread
        For others.
    """
    word = c.word("hidden_act", "hidden_activation", default=default)
    if word in ("silu", "swish"):
        return "swiglu"
    if word in ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"):
        return "geglu"
    raise Unread(f"the activation {word}")
