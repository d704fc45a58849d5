"""The part of a model that one stage runs: its own layers, and stand-ins for all others.

A pipeline rank has a stage for each of its chunks. The model's own forward method runs on every stage. Layers of
earlier stages return what was received, layers of later stages end the pass. Between layers of different layouts
activations are moved; what the model computes beside its layers (masks, positions) is computed for the whole
micro-batch and cut for each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.utils._pytree import tree_flatten, tree_unflatten

from uniap_core.api import Inexpressible, Layout

from .loss import cross_entropy
from .meshes import Meshes
from .relayout import relayout, spread
from .shard import Unit
from .split import Borders
from .where import Where
from .wiring import Leaf, Port, Shape, Site, Wiring

TARGET = "target."
"""Prefix of the keyword arguments that carry the loss's targets."""


@dataclass(frozen=True)
class Route:
    """The static facts of a pipeline.

    Attributes
    ----------
    stage_of
        Stage of each layer; stages are the chunks of the pipeline, in the order of the flow.
    layouts
        Layout of the output of each layer on the stage that owns it.
    borders
        Of each planned module, by path.
    boundaries
        Ports that cross from each stage to the next.
    micro_batch
        Samples of a micro-batch, over the whole stage.
    samples
        Samples of an iteration, which the loss is divided by.
    split
        Whether backward passes come apart into gradients of inputs and of weights.
    """

    wiring: Wiring
    stage_of: Mapping[str, int]
    layouts: Mapping[str, Layout]
    borders: Mapping[str, Borders]
    boundaries: tuple[tuple[Port, ...], ...]
    micro_batch: int
    samples: int
    dtype: torch.dtype
    split: bool = False

    @property
    def depth(self) -> int:
        """Number of stages."""
        return len(self.boundaries) + 1

    def produced(self, port: Port) -> Layout:
        """Layout in which a port leaves its layer."""
        site = self.wiring.sites[port.site]
        layout = self.layouts[site.layer]
        sliced = layout.split and self.borders[site.path].output and _sliceable(layout, self.wiring.shape(port))
        return layout._replace(split=sliced)

    def crossing(self, port: Port) -> Layout:
        """Layout in which a port crosses stage boundaries: each element once, if its rows can be sliced."""
        made = self.produced(port)
        return made._replace(split=_sliceable(made, self.wiring.shape(port)))

    def layout(self, port: Port, stage: int) -> Layout:
        """Layout of a port on a stage."""
        own = self.stage_of[self.wiring.sites[port.site].layer] == stage
        return self.produced(port) if own else self.crossing(port)

    def wanted(self, site: Site, place: int, shape: Shape) -> Layout:
        """Layout in which a site reads its activation number ``place``."""
        layout = self.layouts[site.layer]
        sliced = layout.split and self.borders[site.path].input(place) and _sliceable(layout, shape)
        return layout._replace(split=sliced)

    def local_shape(self, port: Port, layout: Layout, rank: int) -> tuple[int, ...]:
        """Shape of a rank's box of a port."""
        shape = self.wiring.shape(port)
        if shape.batch is None:
            return shape.sizes
        rows = layout.rows.part(rank, shape.rows) if layout.split else None
        return shape.at(self.micro_batch // layout.samples.size, rows)


def _sliceable(layout: Layout, shape: Shape) -> bool:
    """Whether a layout can slice the rows of an activation."""
    tp = layout.grid.size("tp")
    return tp > 1 and shape.rows > 1 and shape.rows % tp == 0


class _Joined(torch.autograd.Function):
    """Identity that hangs on what the stage received, without a gradient for it.

    torch finds the weights of a stage from what its inputs lead to, and would pass over layers that start anew from
    inputs of the model (``get_param_groups`` of torch/distributed/pipelining/_backward.py).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, received: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grads[0], None


class _Done(Exception):
    """All layers of the stage have run."""


@dataclass
class _Pass:
    """One forward pass: activations by port in the layout they have here, what was received, and moved copies."""

    live: dict[Port, torch.Tensor]
    left: int
    received: tuple[torch.Tensor, ...]
    moved: dict[tuple[Port, Layout], torch.Tensor] = field(default_factory=dict)


class Portal(nn.Module):
    """Stands where a planned module was; other attributes are those of the module."""

    def __init__(self, original: nn.Module, unit: Unit | None, call: Callable[..., Any], path: str) -> None:
        super().__init__()
        # Not as a submodule: layers of other stages must not appear among this stage's parameters.
        object.__setattr__(self, "original", original)
        object.__setattr__(self, "call", call)
        self.path = path
        self.unit = unit

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        return self.call(self.path, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.original, name)


class Stage(nn.Module):
    """The module of one stage, for one rank.

    ``forward(*received, **inputs)`` takes the activations of the boundary before it and the whole micro-batch's
    inputs; it returns the activations of the boundary after it, or on the last stage this rank's share of the
    loss.
    """

    def __init__(
        self,
        model: nn.Module,
        place: int,
        units: Mapping[str, Unit],
        route: Route,
        meshes: Meshes,
        result: Callable[[Any], tuple[torch.Tensor, ...]],
        where: Where | None = None,
    ) -> None:
        super().__init__()
        self.route, self.meshes, self.result, self.where = route, meshes, result, where or Where()
        self.place, self.index, self.wires = place, meshes.index, meshes.wires
        self.last = place == route.depth - 1
        self.pass_: _Pass | None = None
        self._next = 0
        for path in dict.fromkeys(site.path for site in route.wiring.sites):
            portal = Portal(model.get_submodule(path), units.get(path), self._call, path)
            model.set_submodule(path, portal)
        self.units = dict(units)
        self.model = model

    def forward(self, *received: torch.Tensor, **inputs: torch.Tensor) -> Any:  # noqa: D102
        route, wiring = self.route, self.route.wiring
        arriving = route.boundaries[self.place - 1] if self.place else ()
        targets = [inputs.pop(name) for name in sorted(n for n in inputs if n.startswith(TARGET))]
        own = sum(route.stage_of[site.layer] == self.place for site in wiring.sites)
        self.pass_ = _Pass(dict(zip(arriving, received, strict=True)), own, received)
        self._next = 0
        try:
            output = self.model(**inputs)
        except _Done:
            output = None
        if self.last:
            loss = self._loss(self.result(output), targets)
            self.pass_ = None
            return loss
        leaving = tuple(self._leave(port) for port in route.boundaries[self.place])
        self.pass_ = None
        return leaving

    # --- layers ----------------------------------------------------------------------------------------------

    def _call(self, path: str, args: Any, kwargs: Any) -> Any:
        number = self._next
        site = self.route.wiring.sites[number]
        if site.path != path:
            raise Inexpressible(f"the model calls {path} where it called {site.path} before", "make its flow static")
        self._next += 1
        if self.route.stage_of[site.layer] != self.place:
            return self._absent(number, site)
        unit = self.units[path]
        text = f"layer {site.layer}, strategy {unit.strategy.name}, stage {self.place}"
        self.where.set(f"forward of {text}")
        leaves, spec = tree_flatten((args, kwargs))
        place, cut = 0, []
        for value, leaf in zip(leaves, site.inputs, strict=True):
            cut.append(self._input(site, place, value, leaf))
            place += bool(leaf.ports)
        args, kwargs = tree_unflatten(cut, spec)
        output = unit(*args, **kwargs)
        return self._collect(number, site, output, text)

    def _input(self, site: Site, place: int, value: Any, leaf: Leaf) -> Any:
        if leaf.ports:
            return self._activation(site, place, value, leaf)
        if leaf.shape is None or leaf.shape.batch is None or not isinstance(value, torch.Tensor):
            return value
        dim, per_sample = leaf.shape.batch, leaf.shape.sizes[leaf.shape.batch]
        mine = self.route.layouts[site.layer].samples.part(self.index, self.route.micro_batch)
        if value.shape[dim] != per_sample * self.route.micro_batch:
            return value
        return value.narrow(dim, mine.start * per_sample, (mine.stop - mine.start) * per_sample)

    def _activation(self, site: Site, place: int, value: Any, leaf: Leaf) -> torch.Tensor:
        """An activation that a layer reads, in the layout in which it reads it."""
        assert self.pass_ is not None
        port = leaf.ports[0]
        here = self.route.layout(port, self.place)
        if not leaf.direct:
            assert leaf.shape is not None
            here = here._replace(split=False)
            return self._move(_whole_rows(value), leaf.shape, here, self.route.wanted(site, place, leaf.shape))
        shape = self.route.wiring.shape(port)
        wanted = self.route.wanted(site, place, shape)
        if (port, wanted) not in self.pass_.moved:
            self.pass_.moved[port, wanted] = self._move(self.pass_.live[port], shape, here, wanted)
        return self.pass_.moved[port, wanted]

    def _move(self, x: torch.Tensor, shape: Shape, a: Layout, b: Layout) -> torch.Tensor:
        if shape.batch is None:
            return spread(x, a, b, self.wires)
        return relayout(x, a, b, self.route.micro_batch, shape.rows, self.wires)

    def _collect(self, number: int, site: Site, output: Any, text: str) -> Any:
        """Keep what a layer returned and hand the model something of the whole micro-batch's shape."""
        assert self.pass_ is not None
        leaves, spec = tree_flatten(output)
        shown = list(leaves)
        for k, leaf in enumerate(site.outputs):
            if leaf.ports:
                port = Port(number, k)
                if self.route.split and self.pass_.received and not any(x.ports for x in site.inputs):
                    leaves[k] = _Joined.apply(leaves[k], self.pass_.received[0])  # type: ignore[no-untyped-call]
                self.pass_.live[port] = leaves[k]
                if leaves[k].requires_grad:
                    leaves[k].register_hook(lambda grad: self.where.set(f"backward of {text}"))
                shown[k] = self._show(port, leaves[k])
        self.pass_.left -= 1
        if not self.pass_.left and not self.last:
            raise _Done
        return tree_unflatten(shown, spec)

    def _absent(self, number: int, site: Site) -> Any:
        """What a layer of another stage returns: what was received of it, and stand-ins."""
        assert self.pass_ is not None
        shown: list[Any] = []
        for k, leaf in enumerate(site.outputs):
            port = Port(number, k)
            if leaf.shape is None:
                shown.append(leaf.value)
            elif port in self.pass_.live:
                shown.append(self._show(port, self.pass_.live[port]))
            else:
                dtype = self.route.dtype if leaf.shape.dtype.is_floating_point else leaf.shape.dtype
                blank = torch.zeros((), dtype=dtype, device=self.meshes.device)
                shown.append(blank.expand(leaf.shape.at(self.route.micro_batch)))
        return tree_unflatten(shown, site.output_spec)

    def _show(self, port: Port, x: torch.Tensor) -> torch.Tensor:
        """An activation as the model's own code sees it: of its whole shape, wherever its parts are."""
        layout, shape = self.route.layout(port, self.place), self.route.wiring.shape(port)
        if not self.route.wiring.glue or layout.grid.ranks == 1:
            return x
        if shape.batch is None:
            # Each rank's samples give a share of its gradient; the layer that made it sums them.
            shares = [Partial(), Replicate()]
            mesh = self.meshes.stage_mesh(layout.grid.size("tp"))
            return DTensor.from_local(x, mesh, [Replicate(), Replicate()], run_check=False, grad_placements=shares)
        columns = x.shape[-1] != shape.sizes[-1]
        inner = Shard(1) if layout.split else Shard(x.dim() - 1) if columns else Replicate()
        mesh = self.meshes.stage_mesh(layout.grid.size("tp"))
        full = torch.Size(shape.at(self.route.micro_batch))
        stride = torch.empty(full, device="meta").stride()
        return DTensor.from_local(x, mesh, [Shard(0), inner], run_check=False, shape=full, stride=stride)

    # --- borders ---------------------------------------------------------------------------------------------

    def _leave(self, port: Port) -> torch.Tensor:
        assert self.pass_ is not None
        here, crossing = self.route.layout(port, self.place), self.route.crossing(port)
        moved = self._move(self.pass_.live[port], self.route.wiring.shape(port), here, crossing)
        moved = moved.to(self.route.dtype).contiguous()
        # torch detaches them in place when the gradients of inputs are known, which views and leaves do not bear.
        return moved.clone() if self.route.split and (moved.is_leaf or moved._is_view()) else moved

    def _loss(self, results: tuple[torch.Tensor, ...], targets: list[torch.Tensor]) -> torch.Tensor:
        """The sum over the results of their mean cross-entropy, this rank's share of it."""
        route = self.route
        loss = torch.zeros((), device=self.meshes.device)
        for logits, target, port in zip(results, targets, route.wiring.result, strict=True):
            layout, shape = route.layout(port, self.place), route.wiring.shape(port)
            mine, tp = target[layout.samples.part(self.index, route.micro_batch)], layout.grid.size("tp")
            group = self.meshes.tp(tp).get_group() if tp > 1 else None
            rows = route.samples * (target.numel() // len(target))
            self.where.set(f"loss, stage {self.place}")
            loss = loss + cross_entropy(_local(logits), mine, shape.sizes[-1], group) / rows
        return loss


def _local(x: torch.Tensor) -> torch.Tensor:
    if not isinstance(x, DTensor):
        return x
    local: torch.Tensor = x.to_local(grad_placements=x.placements)
    return local


def _whole_rows(x: torch.Tensor) -> torch.Tensor:
    """What the model made of activations between layers: the samples of this rank, all else whole."""
    return _local(x.redistribute(placements=[Shard(0), Replicate()])) if isinstance(x, DTensor) else x
