"""From what a user types as MODEL to a graph: a zoo name, a graph file, or something a tracer understands."""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import graph as graphs
from . import registry
from .errors import PluginError, UnknownName
from .events import Emit, Note, silent
from .graph import ModelGraph


@dataclass(frozen=True, kw_only=True)
class ModelPlugin:
    """Descriptor of a source of models (group ``uniap.models``): plain data, functions as ``module:attribute``.

    Attributes
    ----------
    handles
        Regular expression of the names it builds besides the listed ones.
    names, describe
        ``() -> tuple[str, ...]`` and ``(name) -> str``, or empty if it lists nothing.
    build
        ``(name, sequence or None) -> ModelGraph``.
    trace
        ``(source, sequence or None, layers or None) -> ModelGraph`` for what it handles, if it traces torch models.
    """

    name: str
    summary: str
    build: str
    names: str = ""
    describe: str = ""
    handles: str = ""
    trace: str = ""
    modules: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True)
class ModelRow:
    """One line of ``uniap models``."""

    name: str
    layers: int
    sequence: int
    parameters: int
    summary: str


def rows(emit: Emit = silent) -> tuple[ModelRow, ...]:
    """All models that plugins list, built to count them; told of are the plugins that fail at it."""
    plugins, broken = registry.working("model")
    failures = list(broken)
    found: list[ModelRow] = []
    for plugin in plugins:
        try:
            found += [_row(plugin, name) for name in _names(plugin)]
        except PluginError as error:
            failures.append(error)
    for failure in failures:
        emit(Note(0.0, f"left out: {failure.cause}"))
    return tuple(found)


def names() -> tuple[str, ...]:
    """Names of all listed models, without building any."""
    return tuple(name for _, listed in _listed()[0] for name in listed)


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
        If nothing is called that; lists close names, and model plugins that do not work.
    PluginError
        If the tracer it needs is not installed, with the command that installs it, or the plugin that builds it fails.
    """
    if model.endswith(".json") and not model.startswith("hf:"):
        graph = graphs.read(model)
        return graph if sequence is None else graphs.at_sequence(graph, sequence)
    plugins, broken = _listed()
    for plugin, listed in plugins:
        if model in listed or _handles(plugin, model):
            return _built(plugin, model, sequence)
    import difflib

    known = [name for _, listed in plugins for name in listed]
    close = difflib.get_close_matches(model, known, 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}."
    hint = " ".join([hint, *(f"(Not asked: {error.cause}.)" for error in broken)])
    raise UnknownName(
        f"there is no model named {model!r}", f"{hint} Or give graph.json, hf:config.json or package.module:factory"
    )


def trace(source: str, sequence: int | None = None, layers: str | None = None) -> ModelGraph:
    """Trace a torch model by the plugin that can (``hf:...`` or ``package.module:factory``).

    Parameters
    ----------
    layers
        Which modules are layers, as in ``model.layers.*``; ``None`` finds the repeated blocks.

    Raises
    ------
    PluginError
        If no tracer is installed, with the command that installs one, or it fails.
    """
    for plugin in registry.working("model")[0]:
        if plugin.trace and _handles(plugin, source):
            _check_installed(plugin, "tracing needs")
            return registry.call(plugin, "trace", source, sequence, layers, returns=ModelGraph)
    raise UnknownName(f"nothing traces {source!r}", "write hf:DIR_OR_CONFIG.json or package.module:factory")


def _listed() -> tuple[list[tuple[ModelPlugin, tuple[str, ...]]], list[PluginError]]:
    """The plugins that work with the names that they list, and what is wrong with the others."""
    plugins, broken = registry.working("model")
    found, failures = [], list(broken)
    for plugin in plugins:
        try:
            found.append((plugin, _names(plugin)))
        except PluginError as error:
            failures.append(error)
    return found, failures


def _names(plugin: ModelPlugin) -> tuple[str, ...]:
    return registry.call(plugin, "names", returns=tuple[str, ...]) if plugin.names else ()


def _handles(plugin: ModelPlugin, source: str) -> bool:
    if not plugin.handles:
        return False
    try:
        return re.fullmatch(plugin.handles, source) is not None
    except re.error:
        return False


def _row(plugin: ModelPlugin, name: str) -> ModelRow:
    graph = registry.call(plugin, "build", name, None, returns=ModelGraph)
    text = registry.call(plugin, "describe", name, returns=str) if plugin.describe else plugin.summary
    return ModelRow(name, len(graph.layers), graph.sequence, graph.parameters, text)


def _built(plugin: ModelPlugin, model: str, sequence: int | None) -> ModelGraph:
    _check_installed(plugin, f"the {plugin.name} models need")
    return registry.call(plugin, "build", model, sequence, returns=ModelGraph)


def _check_installed(plugin: ModelPlugin, words: str) -> None:
    absent = registry.missing(plugin.modules)
    if absent:
        raise PluginError(f"{words} {', '.join(absent)}", plugin.install)
