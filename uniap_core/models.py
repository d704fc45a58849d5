"""From what a user types as MODEL to a graph: a zoo name, a graph file, or something a tracer understands."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from . import graph as graphs
from . import registry
from .errors import PluginError, UnknownName
from .graph import ModelGraph


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """One line of ``uniap models``."""

    name: str
    family: str
    layers: int
    hidden: int
    sequence: int
    parameters: int
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelPlugin:
    """Descriptor of a source of models (group ``uniap.models``): plain data, functions as ``module:attribute``.

    Attributes
    ----------
    handles
        Regular expression of the names it builds besides the listed ones.
    listing
        ``() -> tuple[ModelSummary, ...]``, or empty if it has no list.
    build
        ``(name, sequence or None) -> ModelGraph``.
    """

    name: str
    summary: str
    build: str
    listing: str = ""
    handles: str = ""
    modules: tuple[str, ...] = ()
    install: str = ""


def summaries() -> tuple[ModelSummary, ...]:
    """All models that plugins list."""
    rows: list[ModelSummary] = []
    for plugin in _plugins():
        if plugin.listing:
            rows += registry.resolve(plugin.listing)()
    return tuple(rows)


def load(model: str, sequence: int | None = None) -> ModelGraph:
    """The graph that a MODEL argument names.

    Parameters
    ----------
    model
        A zoo name (``llama-7b``, ``gpt:layers=24,hidden=2048``), a ``.json`` graph file, ``hf:`` and a folder or
        config file, or ``package.module:factory``.
    sequence
        Positions per sample; ``None`` keeps the model's own.

    Raises
    ------
    UnknownName
        If nothing is called that; lists close names.
    PluginError
        If the tracer it needs is not installed, with the command that installs it.
    """
    if model.endswith(".json") and not model.startswith("hf:"):
        graph = graphs.read(model)
        return graph if sequence is None else graphs.at_sequence(graph, sequence)
    for plugin in _plugins():
        if _lists(plugin, model) or (plugin.handles and re.fullmatch(plugin.handles, model)):
            return _build(plugin)(model, sequence)
    known = [row.name for row in summaries()]
    import difflib

    close = difflib.get_close_matches(model, known, 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
    raise UnknownName(
        f"there is no model named {model!r}", f"{hint} Or give graph.json, hf:config.json or package.module:factory"
    )


def _lists(plugin: ModelPlugin, model: str) -> bool:
    return bool(plugin.listing) and any(row.name == model for row in registry.resolve(plugin.listing)())


def _build(plugin: ModelPlugin) -> Callable[[str, int | None], ModelGraph]:
    absent = registry.missing(plugin.modules)
    if absent:
        raise PluginError(f"the {plugin.name} models need {', '.join(absent)}", plugin.install)
    return registry.resolve(plugin.build)


def _plugins() -> tuple[ModelPlugin, ...]:
    return tuple(registry.load("model", name) for name in registry.names("model"))
