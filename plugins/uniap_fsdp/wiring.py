"""Which tensors flow between the layers of a model, found by running it on fake tensors.

The forward method of the model stays the only description of its data flow. Each planned layer is a *site*; what a
site returns with a gradient is a *port*. Running the model twice, with two batch sizes, tells which arguments are
activations (and of which ports), which are computed beside the layers (masks, rotary angles) and along which
dimension they carry the batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from uniap_core.api import Inexpressible

Batch = dict[str, torch.Tensor]

PROBES = (6, 10)
"""Batch sizes of the two runs; a dimension that differs between them carries the batch."""


class Port(NamedTuple):
    """An activation: which site returns it, and at which leaf of its output."""

    site: int
    leaf: int


@dataclass(frozen=True)
class Shape:
    """Sizes of a tensor; those of dimension ``batch`` are per sample, or the tensor is the same for all samples."""

    sizes: tuple[int, ...]
    dtype: torch.dtype
    batch: int | None

    def at(self, samples: int, rows: slice | None = None) -> tuple[int, ...]:
        """Sizes for a number of samples, and for some of the rows (dimension 1)."""
        sizes = list(self.sizes)
        if self.batch is not None:
            sizes[self.batch] *= samples
        if rows is not None:
            sizes[1] = rows.stop - rows.start
        return tuple(sizes)

    @property
    def rows(self) -> int:
        """Rows per sample of an activation of shape (batch, rows, width); 1 if it has none."""
        return self.sizes[1] if len(self.sizes) > 2 and self.batch == 0 else 1


@dataclass(frozen=True)
class Leaf:
    """A leaf of a site's arguments or output: an activation of ``ports``, another tensor, or a plain value.

    ``direct`` says that it is a port itself or an input of the model, and not computed from them by the model.
    """

    shape: Shape | None = None
    ports: tuple[Port, ...] = ()
    value: Any = None
    direct: bool = True


@dataclass(frozen=True)
class Site:
    """One call of a planned module.

    Attributes
    ----------
    path, layer
        Where the module lies, and the plan's layer it belongs to.
    inputs, outputs
        Leaves of (args, kwargs) and of what it returns.
    output_spec
        How to put the output together again.
    """

    path: str
    layer: str
    inputs: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    output_spec: TreeSpec


@dataclass(frozen=True)
class Wiring:
    """The sites of a model in the order in which it calls them, and the ports that its result comes from.

    ``glue`` says that the model's own code computes something between its layers.
    """

    sites: tuple[Site, ...]
    result: tuple[Port, ...]
    glue: bool

    def shape(self, port: Port) -> Shape:
        """Shape of a port's activation."""
        shape = self.sites[port.site].outputs[port.leaf].shape
        assert shape is not None
        return shape

    def consumers(self, port: Port) -> tuple[int, ...]:
        """Sites that read a port."""
        return tuple(i for i, site in enumerate(self.sites) if any(port in leaf.ports for leaf in site.inputs))

    def boundaries(self, stage: Mapping[str, int], depth: int) -> tuple[tuple[Port, ...], ...]:
        """Ports that cross from each stage to the next, relays included.

        Parameters
        ----------
        stage
            Stage of each layer.
        depth
            Number of stages.
        """
        place = [stage[site.layer] for site in self.sites]
        crossing: list[list[Port]] = [[] for _ in range(depth - 1)]
        for i, site in enumerate(self.sites):
            for k, leaf in enumerate(site.outputs):
                if not leaf.ports:
                    continue
                port = Port(i, k)
                last = max([place[j] for j in self.consumers(port)], default=place[i])
                last = max(last, depth - 1) if port in self.result else last
                for boundary in range(place[i], last):
                    crossing[boundary].append(port)
        return tuple(tuple(ports) for ports in crossing)


class _Mark(torch.autograd.Function):
    """Identity that leaves the port's name in the autograd graph."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, port: Port) -> torch.Tensor:
        ctx.port = port
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grads[0], None


def record(
    model: nn.Module,
    sites: Mapping[str, str],
    batch: Callable[[int], Batch],
    result: Callable[[Any], tuple[torch.Tensor, ...]],
) -> Wiring:
    """Find the wiring of a model.

    Parameters
    ----------
    model
        The whole model, on any device; it is not run and not changed.
    sites
        Planned modules by path, with the layer that each belongs to.
    batch
        Makes the model's keyword arguments for a number of samples.
    result
        Picks the tensors that the loss is made from out of what the model returns.

    Raises
    ------
    Inexpressible
        If the model uses parameters outside of the planned layers, or does not call one of them.
    """
    small, large = (_run(model, sites, batch(size), result) for size in PROBES)
    if [site.path for site in small.sites] != [site.path for site in large.sites]:
        raise Inexpressible("the model calls other layers for another batch size", "make its control flow static")
    missed = set(sites) - {site.path for site in small.sites}
    if missed:
        raise Inexpressible(
            f"the model's forward pass does not call {', '.join(sorted(missed))}", "trace the model again"
        )
    return Wiring(tuple(_merge(a, b) for a, b in zip(small.sites, large.sites, strict=True)), small.result, small.glue)


def _run(
    model: nn.Module, sites: Mapping[str, str], batch: Batch, result: Callable[[Any], tuple[torch.Tensor, ...]]
) -> Wiring:
    twin = on_meta(model)
    for parameter in twin.parameters():
        # What depends on what is read off gradients' paths, which frozen layers would cut.
        parameter.requires_grad_(parameter.is_floating_point())
    planned = {id(p) for path in sites for p in twin.get_submodule(path).parameters()}
    names = {id(p): name for name, p in twin.named_parameters()}
    found: list[Site] = []
    open_calls: dict[str, tuple[Leaf, ...]] = {}
    known: set[int] = set()

    def trace(tensor: torch.Tensor) -> tuple[Port, ...]:
        ports, stray = _sources(tensor, planned)
        if stray is not None:
            raise Inexpressible(
                f"parameter {names.get(stray, '?')} is used outside of the planned layers",
                "trace the model again with --layers so that each parameter belongs to a layer",
            )
        return ports

    def given(x: Any) -> bool:
        return not isinstance(x, torch.Tensor) or hasattr(x.grad_fn, "port") or id(x) in known

    def enter(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            leaves = tree_flatten((args, kwargs))[0]
            open_calls[path] = tuple(replace(_leaf(x, trace), direct=given(x)) for x in leaves)

        return hook

    def leave(path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            leaves, spec = tree_flatten(output)
            site = len(found)
            marked, outputs = [], []
            for k, x in enumerate(leaves):
                active = isinstance(x, torch.Tensor) and x.requires_grad
                marked.append(_Mark.apply(x, Port(site, k)) if active else x)  # type: ignore[no-untyped-call]
                outputs.append(_leaf(x, _always(Port(site, k))))
            found.append(Site(path, sites[path], open_calls.pop(path), tuple(outputs), spec))
            return tree_unflatten(marked, spec)

        return hook

    for path in sites:
        module = twin.get_submodule(path)
        module.register_forward_pre_hook(enter(path), with_kwargs=True)
        module.register_forward_hook(leave(path))
    with FakeTensorMode(allow_non_fake_inputs=True), torch.enable_grad():
        inputs = {k: torch.empty(v.shape, dtype=v.dtype, device="meta") for k, v in batch.items()}
        known.update(id(x) for x in inputs.values())
        results = result(twin(**inputs))
        final = tuple(trace(tensor)[-1] for tensor in results)
    glue = not all(leaf.direct for site in found for leaf in site.inputs) or not all(map(given, results))
    return Wiring(tuple(found), final, glue)


def _always(port: Port) -> Callable[[torch.Tensor], tuple[Port, ...]]:
    return lambda _: (port,)


def _leaf(x: Any, trace: Callable[[torch.Tensor], tuple[Port, ...]]) -> Leaf:
    if not isinstance(x, torch.Tensor):
        return Leaf(value=x)
    return Leaf(Shape(tuple(x.shape), x.dtype, None), trace(x) if x.requires_grad else ())


def _sources(tensor: torch.Tensor, planned: set[int]) -> tuple[tuple[Port, ...], int | None]:
    """Ports that a tensor was computed from, and a parameter used on the way that no layer owns."""
    ports: dict[Port, None] = {}
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "port"):
            ports[node.port] = None
        elif hasattr(node, "variable"):
            if id(node.variable) not in planned:
                return (), id(node.variable)
        else:
            waiting += [following for following, _ in node.next_functions]
    return tuple(sorted(ports)), None


def _merge(small: Site, large: Site) -> Site:
    inputs = tuple(_scaled(a, b, small.path) for a, b in zip(small.inputs, large.inputs, strict=True))
    outputs = tuple(_scaled(a, b, small.path) for a, b in zip(small.outputs, large.outputs, strict=True))
    return replace(small, inputs=inputs, outputs=outputs)


def _scaled(a: Leaf, b: Leaf, path: str) -> Leaf:
    if a.shape is None or b.shape is None:
        return a
    grown = [i for i, (x, y) in enumerate(zip(a.shape.sizes, b.shape.sizes, strict=True)) if x != y]
    if not grown:
        return a
    dim = grown[0]
    per_sample, rest = divmod(a.shape.sizes[dim], PROBES[0])
    if len(grown) > 1 or rest or per_sample * PROBES[1] != b.shape.sizes[dim] or (a.ports and dim):
        raise Inexpressible(
            f"{path} exchanges a tensor of shape {a.shape.sizes} in which the batch is not one dimension",
            "keep samples in a dimension of their own, the first of activations",
        )
    sizes = tuple(per_sample if i == dim else size for i, size in enumerate(a.shape.sizes))
    return replace(a, shape=replace(a.shape, sizes=sizes, batch=dim))


def on_meta(model: nn.Module) -> nn.Module:
    """A copy of a model without data: parameters and buffers on the meta device, ties kept."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, memo)


def paths(sites: Iterable[Site]) -> tuple[str, ...]:
    """Module paths of some sites, in order."""
    return tuple(dict.fromkeys(site.path for site in sites))
