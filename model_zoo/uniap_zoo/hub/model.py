"""A published model: its names, its configuration, and what its authors say of its size."""

from __future__ import annotations

from typing import Any, NamedTuple


class Model(NamedTuple):
    """A model by name.

    Attributes
    ----------
    name
        Short, as a user types it.
    hub
        Its names on the Hugging Face hub, the one of the configuration first.
    config
        Fields of its ``config.json`` that say its shape, ``model_type`` among them.
    published, active
        Parameters, and those that a token visits, as its authors give them (without layers that predict further).
    source
        Where the configuration is published.
    sequence
        Positions per sample to plan at.
    """

    name: str
    hub: tuple[str, ...]
    config: dict[str, Any]
    published: str
    active: str = ""
    source: str = "config.json"
    sequence: int = 4096


def trunk(layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, vocab: int, **more: Any) -> dict[str, Any]:
    """The sizes that all configurations have, by their usual names."""
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads}
    sizes |= {"num_key_value_heads": kv_heads, "intermediate_size": ffn, "vocab_size": vocab}
    return sizes | more
