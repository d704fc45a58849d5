"""The torch model of a graph: built without its weights, then one layer at a time filled by seed and name.

The initial value of a parameter depends on the seed and its name alone, so every plan, and a single process,
starts from the same model, and no rank ever holds more than its own layers.
"""

from __future__ import annotations

import copy
import inspect
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from uniap_core.api import Inexpressible, ModelGraph

from .data import Field, Task
from .models import FAMILIES, build, family_of
from .models.names import is_traced


@dataclass(frozen=True)
class Source:
    """A model to run.

    Attributes
    ----------
    model
        Parameters on the meta device, buffers with their values.
    sites
        Layer of the graph by path of module.
    task
        Its inputs and targets.
    result
        Picks the logits, one tensor for each target, out of what the model returns.
    """

    model: nn.Module
    sites: Mapping[str, str]
    task: Task
    result: Callable[[Any], tuple[torch.Tensor, ...]]


def load(graph: ModelGraph) -> Source:
    """Build the model of a graph.

    Raises
    ------
    Inexpressible
        If the graph names no torch model and its family has none here.
    """
    if is_traced(graph):
        return _traced(graph)
    if not family_of(graph):
        raise Inexpressible(
            f"there is no torch model of the family {graph.family!r}",
            f"trace one (uniap trace hf:config.json), or use {', '.join(FAMILIES)}",
        )
    with parameters_on_meta():
        model = build(graph)
    return Source(model, sites_of(graph, model), _zoo_task(graph), first_results)


def first_results(output: Any) -> tuple[torch.Tensor, ...]:
    """The logits of a model's output: its ``logits``, or all tensors of a tuple, or the tensor itself."""
    if isinstance(output, torch.Tensor):
        return (output,)
    for name in ("logits", "prediction_logits"):
        if (found := getattr(output, name, None)) is not None:
            more = getattr(output, "seq_relationship_logits", None)
            return (found,) if more is None else (found, more)
    if isinstance(output, tuple) and all(isinstance(x, torch.Tensor) for x in output):
        return output
    raise Inexpressible(
        f"the model returns {type(output).__name__}, in which the executor finds no logits",
        "return a tensor, or an object with the attribute logits",
    )


def _zoo_task(graph: ModelGraph) -> Task:
    vocab, rows = int(graph.architecture["vocab"]), (graph.sequence,)
    tokens, next_token = Field("tokens", rows, vocab), Field("next", rows, vocab)
    if graph.family == "bert":
        other = Field("segments", rows, 2)
        return Task((tokens, other), (Field("masked", rows, vocab), Field("next_sentence", (), 2)))
    if graph.family == "t5":
        return Task((tokens, Field("decoder_tokens", rows, vocab)), (next_token,), follows="decoder_tokens")
    return Task((tokens,), (next_token,), follows="tokens")


def _traced(graph: ModelGraph) -> Source:
    from uniap_torch.sources import load as load_source

    from uniap_core.api import check_source

    check_source(graph.source)
    hugging_face = graph.source.startswith("hf:")
    found = load_source(graph.source)
    with parameters_on_meta():
        if hugging_face:
            model: Any = type(found.module)(found.module.config)
            model.config.use_cache = False
        else:
            model = _factory(graph)
    args, kwargs = found.inputs(2, graph.sequence)
    names = list(inspect.signature(model.forward).parameters)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    labels = [name for name in ("labels", "next_sentence_label") if name in given]
    targets = tuple(Field(name, tuple(given.pop(name).shape[1:]), 0) for name in labels)
    vocab = int(graph.architecture.get("vocab", 0)) or getattr(getattr(model, "config", None), "vocab_size", 0) or 2
    config = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" not in given:
        given["decoder_input_ids"] = given["input_ids"]
    inputs = tuple(
        Field(name, tuple(value.shape[1:]), 0 if value.is_floating_point() else vocab)
        for name, value in given.items()
        if isinstance(value, torch.Tensor)
    )
    fixed = {name: value for name, value in given.items() if not isinstance(value, torch.Tensor)}
    if fixed:
        # A hook, not a new forward: copies of the model must run their own.
        model.register_forward_pre_hook(lambda _, args, kwargs: (args, fixed | kwargs), with_kwargs=True)
    follows = "decoder_input_ids" if "decoder_input_ids" in given else "input_ids"
    shifted = type(model).__name__.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))
    sites = sites_of(graph, model)
    separate(model, sites)
    return Source(model, sites, Task(inputs, targets, follows=follows if shifted else ""), first_results)


def _factory(graph: ModelGraph) -> nn.Module:
    import importlib

    module, _, name = graph.source.partition(":")
    make = getattr(importlib.import_module(module), name)
    takes = inspect.signature(make).parameters
    sizes = {"batch": 1, "sequence": graph.sequence}
    model: nn.Module = make(**{key: size for key, size in sizes.items() if key in takes})[0]
    return model


def sites_of(graph: ModelGraph, model: nn.Module) -> dict[str, str]:
    """Planned modules by path, with their layers.

    Modules of one layer are taken together where all of their parent is that layer; modules with parameters that
    no layer names go to the layer after them.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if all(layer.name in modules for layer in graph.layers):
        return {layer.name: layer.name for layer in graph.layers}
    listed = {path: layer.name for layer in graph.layers for path in filter(None, layer.module.split(","))}
    if unknown := sorted(set(listed) - set(modules)):
        raise Inexpressible(f"the model has no module {unknown[0]}", "trace the model again")
    order = list(modules)
    covered = {id(p) for path in listed for p in modules[path].parameters()}
    for path, module in modules.items():
        inside = any(path == p or path.startswith(p + ".") for p in listed)
        if not inside and path and any(id(p) not in covered for p in module.parameters(recurse=False)):
            later = [p for p in order[order.index(path) :] if p in listed]
            listed[path] = listed[later[0]] if later else graph.layers[-1].name
    return _together(listed, modules)


def separate(model: nn.Module, sites: Mapping[str, str]) -> None:
    """Give each planned path a module object of its own, with the same parameters, where several share one."""
    used: set[int] = set()
    for path in sites:
        module = model.get_submodule(path)
        if id(module) in used:
            memo = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
            module = copy.deepcopy(module, memo)
            model.set_submodule(path, module)
        used.add(id(module))


def skeleton(model: nn.Module, sites: Mapping[str, str]) -> nn.Module:
    """Another model of the same planned modules, parameters and buffers; only the modules around them are new."""
    kept = (*(model.get_submodule(path) for path in sites), *model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(one): one for one in kept})


def _together(listed: dict[str, str], modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """Replace modules by their parents as long as a parent's parameters all belong to one layer."""
    sites = dict(listed)
    for path in sorted(modules, key=lambda p: -p.count(".")):
        below = {p for p in sites if p != path and p.startswith(path + ".")}
        owners = {sites[p] for p in below} | ({sites[path]} if path in sites else set())
        called = type(modules[path]).forward is not nn.Module.forward and not isinstance(modules[path], nn.ModuleList)
        if path and below and len(owners) == 1 and called and (len(below) > 1 or path in sites):
            covered = {id(q) for p in below for q in modules[p].parameters()}
            own = {id(q) for q in modules[path].parameters(recurse=False)}
            if all(id(q) in covered | own for q in modules[path].parameters()):
                sites = {p: layer for p, layer in sites.items() if p not in below} | {path: owners.pop()}
    return {path: sites[path] for path in modules if path in sites}


# --- weights ---------------------------------------------------------------------------------------------------


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules built inside have their parameters on the meta device and their buffers as they make them."""
    register = nn.Module.register_parameter

    def on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = nn.Parameter(param.detach().to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def aliases(model: nn.Module) -> dict[str, str]:
    """Every name of every parameter, with the first name of the same parameter: tied ones have several."""
    first = {id(p): name for name, p in model.named_parameters()}
    return {name: first[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}


def fill(model: nn.Module, path: str, first: Mapping[str, str], seed: int, device: torch.device) -> nn.Module:
    """Give the parameters of one module memory and initial values, in place.

    Modules initialize themselves (the model's ``_init_weights``, else ``reset_parameters``) with a generator
    seeded by name; tied parameters are small normal numbers, whichever module holds them.

    Parameters
    ----------
    path
        The module within the model.
    first
        The model's :func:`aliases` before anything was filled.
    """
    layer = model.get_submodule(path)
    count = Counter(first.values())
    for name, module in layer.named_modules():
        mine = {n: p for n, p in module.named_parameters(recurse=False) if p.is_meta}
        if not mine:
            continue
        for n, parameter in mine.items():
            empty = torch.empty_like(parameter, device="cpu")
            setattr(module, n, nn.Parameter(empty, requires_grad=parameter.requires_grad))
        whole = ".".join(filter(None, (path, name)))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(_seed(seed, whole))
            _initialize(model, module)
            for n in mine:
                canonical = first[f"{whole}.{n}" if whole else n]
                if count[canonical] > 1:
                    generator = torch.Generator().manual_seed(_seed(seed, canonical))
                    module.get_parameter(n).normal_(0.0, 0.02, generator=generator)
    for parameter in layer.parameters():
        parameter.data = parameter.data.to(device)
    return layer


def _seed(seed: int, name: str) -> int:
    return zlib.crc32(f"{seed}/{name}".encode())


def _initialize(model: nn.Module, module: nn.Module) -> None:
    whole, own = getattr(model, "_init_weights", None), getattr(module, "reset_parameters", None)
    if callable(whole):
        _default(module)
        whole(module)
    elif callable(own):
        own()
    else:
        _default(module)


def _default(module: nn.Module) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.ndim > 1:
            parameter.normal_(0.0, 0.02)
        else:
            parameter.fill_(0.0 if "bias" in name else 1.0)


def fill_all(model: nn.Module, seed: int, device: torch.device | None = None) -> nn.Module:
    """Give all parameters of a model memory and the values that they have under any plan; ties are kept."""
    first = aliases(model)
    fill(model, "", first, seed, device or torch.device("cpu"))
    for name, canonical in first.items():
        if name != canonical:
            path, _, last = name.rpartition(".")
            setattr(model.get_submodule(path), last, model.get_parameter(canonical))
    return model
