"""Models as their Hugging Face configurations describe them, in pure Python.

A family is one file of :mod:`uniap_zoo.hub.types` with ``FAMILY`` (its title), ``READS`` (model types),
``read(kind, config, base) -> Decoder`` and ``MODELS``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

from uniap_core.graph import ModelGraph
from uniap_core.models import Kernels

from .blocks import Style
from .config import Config, Unread
from .decoder import Decoder, graph

LONGEST = 2048
"""Positions of models that are made for more, where nobody says how many."""


@cache
def families() -> tuple[ModuleType, ...]:
    """The modules of all families."""
    from . import types

    return tuple(importlib.import_module(f"{types.__name__}.{m.name}") for m in pkgutil.iter_modules(types.__path__))


@cache
def readers() -> dict[str, ModuleType]:
    """The module that reads each model type."""
    return {kind: module for module in families() for kind in module.READS}


def read(fields: Mapping[str, Any], sequence: int | None, kernels: Kernels = "eager") -> tuple[Decoder, int]:
    """A configuration as a decoder, with the positions that it is read for.

    Raises
    ------
    Unread
        If its type is not known here, or it says something that its reader does not know.
    """
    kind = fields.get("model_type")
    module = readers().get(kind) if isinstance(kind, str) else None
    if module is None:
        raise Unread(f"model type {kind!r}")
    named = fields.get("architectures") or ["ForCausalLM"]
    if not isinstance(named, list) or not all(str(name).endswith("ForCausalLM") for name in named):
        raise Unread(f"architectures {named}")
    config = Config(fields)
    config.refuse(quantization_config=None, attn_implementation=None, _attn_implementation=None)
    if any(config.fields.get(name) for name in ("resid_pdrop", "embd_pdrop", "residual_dropout", "hidden_dropout")):
        raise Unread("dropout beside that of attention")
    length = sequence or min(config.integer("max_position_embeddings", default=LONGEST), LONGEST)
    try:
        return module.read(kind, config, Style(0, kernels)), length
    except ZeroDivisionError:
        raise Unread("a size is 0") from None


def graph_of(
    fields: Mapping[str, Any], name: str, source: str, sequence: int | None, remarks: list[str]
) -> ModelGraph | None:
    """The graph of the model that a ``config.json`` describes, or ``None`` if it is not read here.

    Parameters
    ----------
    fields
        Of the file.
    name, source
        What the graph is called, and where the torch model comes from.
    sequence
        Positions per sample; ``None`` for as many as the model is made for, at most :data:`LONGEST`.
    remarks
        Gets what is counted otherwise than transformers' own code runs it.
    """
    try:
        decoder, length = read(fields, sequence)
        made = graph(decoder, name, length, source)
    except Unread:
        return None
    if decoder.remark:
        remarks.append(decoder.remark)
    return made
