"""From what a user types as MODEL to a graph: a zoo name, a graph file, or something a tracer understands."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from . import graph as graphs
from . import registry
from .errors import BadFile, BadValue, PluginError, UnknownName
from .events import Emit, Note, silent
from .graph import ModelGraph

Kernels = Literal["eager", "fused"]
"""Norms, rotary embeddings and gated activations as eager PyTorch runs them, or as one kernel each."""


class Hyperparameters(NamedTuple):
    """A transformer as tables of runs describe it; 0, ``None`` and an empty word are unknown.

    ``head_size`` 0 is hidden / heads. A token visits ``top_k`` of ``experts`` (1: a dense model), each ``moe_ffn``
    wide, and all ``shared_experts``; the first ``dense_layers`` have an MLP of ``ffn`` instead. Where ``moe_ffn`` is
    unknown, ``ffn`` is that of an expert. ``family`` is a word of the plugin that builds it.
    """

    layers: int = 0
    hidden: int = 0
    heads: int = 0
    kv_heads: int = 0
    ffn: int = 0
    vocab: int = 0
    sequence: int = 0
    head_size: int = 0
    experts: int = 0
    top_k: int = 0
    moe_ffn: int = 0
    shared_experts: int | None = None
    dense_layers: int | None = None
    family: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelPlugin:
    """Descriptor of a source of models (group ``uniap.models``): plain data, functions as ``module:attribute``.

    Attributes
    ----------
    handles
        Regular expression of the names it builds besides the listed ones.
    names, describe, group, aliases
        ``() -> tuple[str, ...]``, ``(name) -> str``, ``(name) -> str`` (what it is listed under) and
        ``(name) -> tuple[str, ...]`` (its other names), or empty if it lists nothing.
    build
        ``(name, sequence or None) -> ModelGraph``; it is given ``emit`` by name if it takes it.
    trace
        ``(source, sequence or None, layers or None) -> ModelGraph`` for what it handles, if it traces torch models;
        it is given ``emit`` and ``time_limit_s`` by name if it takes them.
    configured
        ``(fields, name, source, sequence or None, remarks) -> ModelGraph`` of what a Hugging Face ``config.json``
        describes, without building it; ``None`` for what it does not read. ``remarks`` gets what is counted otherwise
        than a trace would.
    published
        ``(name) -> (name, Hyperparameters)`` of the published model that a name means, in any spelling, or ``None``.
    from_hyperparameters
        ``(name, Hyperparameters, notes, granule, kernels) -> ModelGraph``, see :func:`from_hyperparameters`; ``None``
        for models that are not its own.
    kernels
        ``(graph, kernels) -> ModelGraph``: the same model with other kernels; ``None`` for graphs that are not its own.
    profile
        ``(graph, device, path, emit, *, tp, samples, precision, ranks, links) -> Profile``, if it measures layers.
    """

    name: str
    summary: str
    build: str
    names: str = ""
    describe: str = ""
    group: str = ""
    aliases: str = ""
    configured: str = ""
    handles: str = ""
    trace: str = ""
    published: str = ""
    from_hyperparameters: str = ""
    kernels: str = ""
    profile: str = ""
    modules: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True)
class ModelRow:
    """One line of ``uniap models``: a model, what it is listed under, and its other names.

    ``active`` are the parameters that a token visits.
    """

    name: str
    layers: int
    sequence: int
    parameters: int
    summary: str
    group: str = ""
    aliases: tuple[str, ...] = ()
    active: int = 0


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


def load(model: str, sequence: int | None = None, *, emit: Emit = silent) -> ModelGraph:
    """The graph that a MODEL argument names.

    Parameters
    ----------
    model
        A zoo name (``llama-7b``, ``gpt:layers=24,hidden=2048``), a ``.json`` graph file, ``hf:`` and a folder or
        config file, or ``package.module:factory``.
    sequence
        Positions per sample; ``None`` keeps the model's own.
    emit
        Hears of progress where the model is traced, which can take a minute.

    Raises
    ------
    UnknownName
        If nothing is called that; lists close names, and model plugins that do not work.
    PluginError
        If the tracer it needs is not installed, with the command that installs it, or the plugin that builds it fails.
    """
    if model.endswith(".json") and not model.startswith("hf:"):
        graph = graphs.read(model)
        if sequence is None:
            return graph
        # A configuration is data: it may be traced again. A factory is code that only its user may name.
        if graph.source.startswith("hf:") and graph.counts_positions and not graph.holds_at(sequence):
            with contextlib.suppress(BadFile):
                return trace(graph.source, sequence, emit=emit)
        return graphs.at_sequence(graph, sequence)
    plugins, broken = _listed()
    if model.startswith("hf:") and (read := _configured(model, sequence, emit)) is not None:
        return read
    for plugin, listed in plugins:
        if model in listed or _handles(plugin, model):
            return _built(plugin, model, sequence, emit)
    meant = published(model)
    for plugin, listed in plugins:
        if meant is not None and meant[0] in listed:
            return _built(plugin, meant[0], sequence, emit)
    close = suggested(model)
    hint = f"did you mean {' or '.join(close)}?" if close else "uniap models lists them."
    hint = " ".join([hint, *(f"(Not asked: {error.cause}.)" for error in broken)])
    raise UnknownName(
        f"there is no model named {model!r}", f"{hint} Or give graph.json, hf:config.json or package.module:factory"
    )


def suggested(model: str) -> list[str]:
    """Up to three names, short or of the hub, that look like what was typed, whatever its case."""
    import difflib

    known: dict[str, str] = {}
    for plugin, listed in _listed()[0]:
        for name in listed:
            others = registry.call(plugin, "aliases", name, returns=tuple[str, ...]) if plugin.aliases else ()
            known |= {spelled.lower(): spelled for spelled in (name, *others)}
    return [known[name] for name in difflib.get_close_matches(model.lower(), known, 3)]


def _configured(model: str, sequence: int | None, emit: Emit) -> ModelGraph | None:
    """What ``hf:DIR_OR_JSON`` describes, if a plugin reads it without building it; a tracer is asked for the rest."""
    path = Path(model.removeprefix("hf:"))
    try:
        fields = json.loads((path / "config.json" if path.is_dir() else path).read_text())
    except (OSError, ValueError, RecursionError):
        return None  # what is wrong with the file says who traces it
    if not isinstance(fields, dict):
        return None
    name = path.stem if path.suffix == ".json" else path.name
    name = str(fields.get("model_type")) if name in ("config", "") else name
    for read in _declared("configured"):
        remarks: list[str] = []
        graph: ModelGraph | None = read(fields, name, model, sequence, remarks)
        if graph is not None:
            for remark in remarks:
                emit(Note(0.0, f"{remark}; uniap trace {model} counts transformers' own code"))
            return graph
    return None


def trace(
    source: str,
    sequence: int | None = None,
    layers: str | None = None,
    *,
    emit: Emit = silent,
    time_limit_s: float | None = None,
) -> ModelGraph:
    """Trace a torch model by the plugin that can (``hf:...`` or ``package.module:factory``).

    Parameters
    ----------
    layers
        Which modules are layers, as in ``model.layers.*``; ``None`` finds the repeated blocks.
    emit
        Hears of progress.
    time_limit_s
        Longest that it may take; ``None`` leaves the tracer its own.

    Raises
    ------
    PluginError
        If no tracer is installed, with the command that installs one, or it fails.
    """
    for plugin in registry.working("model")[0]:
        if plugin.trace and _handles(plugin, source):
            _check_installed(plugin, "tracing needs")
            wanted = {"emit": emit} | ({} if time_limit_s is None else {"time_limit_s": time_limit_s})
            named = _taken(plugin.trace, wanted)
            return registry.call(plugin, "trace", source, sequence, layers, returns=ModelGraph, **named)
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


def published(name: str) -> tuple[str, Hyperparameters] | None:
    """The published model that a name means, however it is spelled, or ``None`` if no plugin knows it."""
    for lookup in _declared("published"):
        found: tuple[str, Hyperparameters] | None = lookup(name)
        if found is not None:
            return found
    return None


def named(model: str, sequence: int | None, kernels: Kernels, *, mtp: int = 0) -> ModelGraph | None:
    """The listed model that a name means, in any spelling, with these kernels; ``None`` if none is meant.

    Parameters
    ----------
    mtp
        Layers of multi-token prediction behind its last, where it has such layers.
    """
    meant = published(model)
    if meant is None or meant[0] not in names():
        return None
    try:
        graph = load(f"{meant[0]}:mtp={mtp}" if mtp else meant[0], sequence)
    except (BadValue, UnknownName):
        graph = load(meant[0], sequence)
    return with_kernels(graph, kernels)


def from_hyperparameters(
    name: str, sizes: Hyperparameters, notes: list[str], granule: int = 1, kernels: Kernels = "fused"
) -> ModelGraph:
    """The graph of a model that a name and numbers describe.

    Parameters
    ----------
    notes
        Gets what had to be assumed.
    granule
        What the vocabulary is padded to a multiple of.
    kernels
        Those of norms, rotary embeddings and activations.

    Raises
    ------
    BadValue
        If numbers that it needs are unknown, or numbers do not describe such a model.
    UnknownName
        If no plugin builds it.
    """
    for build in _declared("from_hyperparameters"):
        graph: ModelGraph | None = build(name, sizes, notes, granule, kernels)
        if graph is not None:
            return graph
    raise UnknownName(f"no plugin builds {name!r} from hyper-parameters", "plan it as a graph of its own")


def with_kernels(graph: ModelGraph, kernels: Kernels) -> ModelGraph:
    """A model with these kernels of norms, rotary embeddings and activations; as it is where nobody can build them."""
    if graph.architecture.get("kernels", kernels) == kernels:
        return graph
    for build in _declared("kernels"):
        built: ModelGraph | None = build(graph, kernels)
        if built is not None:
            return built
    return graph


def profiler() -> Callable[..., Any]:
    """The function that measures layers and links of this machine (``ModelPlugin.profile``).

    Raises
    ------
    PluginError
        If there is none, or what it needs is not installed, with the command that installs it.
    """
    for plugin in registry.working("model")[0]:
        if plugin.profile:
            _check_installed(plugin, "profiling needs")
            return registry.resolve(plugin.profile)
    raise PluginError("no plugin measures layers", "pip install 'uniap[torch]'")


@cache
def _declared(function: str) -> tuple[Callable[..., Any], ...]:
    """What plugins name in a field of their descriptors; kept, for tables of runs ask for every row."""
    return tuple(
        registry.resolve(target) for plugin in registry.working("model")[0] if (target := getattr(plugin, function))
    )


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
    group = registry.call(plugin, "group", name, returns=str) if plugin.group else plugin.name
    aliases = registry.call(plugin, "aliases", name, returns=tuple[str, ...]) if plugin.aliases else ()
    return ModelRow(
        name, len(graph.layers), graph.sequence, graph.parameters, text, group, aliases, graph.active_parameters
    )


def _built(plugin: ModelPlugin, model: str, sequence: int | None, emit: Emit) -> ModelGraph:
    _check_installed(plugin, f"the {plugin.name} models need")
    named = _taken(plugin.build, {"emit": emit})
    return registry.call(plugin, "build", model, sequence, returns=ModelGraph, **named)


def _taken(target: str, named: dict[str, Any]) -> dict[str, Any]:
    """Those named arguments that a plugin's function has parameters for."""
    try:
        takes = inspect.signature(registry.resolve(target)).parameters
    except (TypeError, ValueError):  # no function, or one of C: what is wrong with it shows when it is called
        return {}
    return {key: value for key, value in named.items() if key in takes}


def _check_installed(plugin: ModelPlugin, words: str) -> None:
    absent = registry.missing(plugin.modules)
    if absent:
        raise PluginError(f"{words} {', '.join(absent)}", plugin.install)
