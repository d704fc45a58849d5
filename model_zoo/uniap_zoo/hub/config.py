"""A ``config.json`` as its readers see it: fields by name, and what is not understood refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST, MOST_LAYERS = 10**10, 20_000
"""The largest number that is read, and the largest of layers."""


class Unread(Exception):
    """Why a configuration is not read here; whoever asked traces the model instead."""


class Config:
    """Fields of a ``config.json``.

    Parameters
    ----------
    fields
        As the file has them; null counts as not there, but for :attr:`given`, the names that are written.

    Every method raises :class:`Unread` for a field that is missing, without a default, or of another type.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = {key: value for key, value in fields.items() if value is not None}
        self.given = frozenset(fields)

    def integer(self, *names: str, default: int | None = None) -> int:
        """A whole number, not negative, under the first of the names that is there."""
        value = self._first(names, default)
        most = MOST_LAYERS if "layer" in names[0] else MOST
        least = 1 if names[0] in POSITIVE else 0
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Unread(f"{names[0]} is {value!r}")
        return value

    def number(self, *names: str, default: float | None = None) -> float:
        """A number."""
        value = self._first(names, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise Unread(f"{names[0]} is {value!r}")
        return float(value)

    def flag(self, *names: str, default: bool) -> bool:
        """True or false."""
        value = self._first(names, default)
        if not isinstance(value, bool):
            raise Unread(f"{names[0]} is {value!r}")
        return value

    def word(self, *names: str, default: str | None = None) -> str:
        """A word."""
        value = self._first(names, default)
        if not isinstance(value, str):
            raise Unread(f"{names[0]} is {value!r}")
        return value

    def table(self, name: str) -> dict[str, Any]:
        """An object, empty if it is not there."""
        value = self.fields.get(name, {})
        if not isinstance(value, dict):
            raise Unread(f"{name} is {value!r}")
        return value

    def kinds(self, name: str, layers: int, default: tuple[str, ...]) -> tuple[str, ...]:
        """A word for each layer (``layer_types``), in today's spelling."""
        value = self.fields.get(name, list(default))
        words = [word for word in value if isinstance(word, str)] if isinstance(value, list) else []
        if len(words) != layers or value != words:
            raise Unread(f"{name} is no list of {layers} words")
        return tuple(SPELLINGS.get(word, word) for word in words)

    def indices(self, name: str) -> tuple[int, ...]:
        """Numbers of layers, empty if they are not there."""
        value = self.fields.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, int) for each in value):
            raise Unread(f"{name} is {value!r}")
        return tuple(value)

    def has(self, name: str) -> bool:
        """Whether a field is there."""
        return name in self.fields

    def refuse(self, **expected: Any) -> None:
        """Refuse fields that have another value than the one that readers know."""
        for name, value in expected.items():
            if self.fields.get(name, value) != value:
                raise Unread(f"{name} is {self.fields[name]!r}")

    def _first(self, names: tuple[str, ...], default: Any) -> Any:
        for name in names:
            if name in self.fields:
                return self.fields[name]
        if default is None:
            raise Unread(f"{names[0]} is not given")
        return default


POSITIVE = frozenset(
    {"num_hidden_layers", "num_layers", "n_layer", "n_layers", "hidden_size", "n_embd", "d_model", "vocab_size"}
    | {"num_attention_heads", "num_key_value_heads", "n_head", "n_heads", "num_heads", "head_dim", "mamba_n_heads"}
)
"""Numbers of which a decoder has at least one."""

SPELLINGS = {
    "attention": "full_attention",
    "mamba": "linear_attention",
    "mamba2": "linear_attention",
    "local": "sliding_attention",
    "global": "full_attention",
}
"""Older words for kinds of layers."""
