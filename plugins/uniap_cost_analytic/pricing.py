"""``price``: a candidate's cost tables from shapes, rooflines and byte counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np

from uniap_core.api import (
    MEMORY_PARTS,
    TIME_PARTS,
    BadValue,
    Candidate,
    Cluster,
    CostTables,
    Device,
    EdgeTable,
    Flow,
    Grids,
    Layer,
    LayerCosts,
    Length,
    ModelGraph,
    Operator,
    Pipeline,
    Profile,
    Span,
    Strategy,
    StrategySpace,
    check_candidate,
    extent_of,
    extents,
    pipeline_ranks,
)

from . import COST_MODEL
from .constants import Constants, constants_of, digest
from .edges import aligned, edge_tables
from .fitting import misfit
from .kernels import Cut, active, engine
from .layers import LayoutCosts, Place, layout_costs, price_layer
from .links import Group, stage_group
from .memory import (
    frozen_bytes,
    local_parameters,
    narrow_bytes,
    recipe,
    stash_bytes,
    state_bytes,
    transient_bytes,
)
from .vocabulary import padded

CONTEXT_BYTES = 0.5 * 2**30
"""CUDA context with its loaded kernels and cuBLAS workspaces: outside the allocator."""

NCCL_BYTES = 1.0 * 2**30
"""Buffers of NCCL's communicators (channels of 4 MiB, ``NCCL_BUFFSIZE``, for every group that a device is in). With the
context this is what nvidia-smi shows beyond what the allocator has reserved."""

WORKSPACE_SHARE = 0.1
"""Most of a device's memory that is set aside for what layers need while they run; strategies that need more are
charged the rest as if all layers needed it at once (an upper bound that keeps the memory row linear)."""

FRAGMENTED = 0.25
"""What large blocks that come and go leave unusable, as a share of them."""

STATE_PARTS = MEMORY_PARTS[:3]

Inputs = tuple[tuple[Length, int], ...]


class Site(NamedTuple):
    """Stages that are alike: one of them stands for all."""

    first: int
    ranks: int
    device: Device


class PricedLayer(NamedTuple):
    """The arrays that all layers of one signature share; ``needs`` are the transients of the default space."""

    strategies: tuple[Strategy, ...]
    costs: LayerCosts
    transient: np.ndarray
    needs: np.ndarray


def price(
    graph: ModelGraph,
    cluster: Cluster,
    space: StrategySpace,
    candidate: Candidate,
    profile: Profile | None = None,
) -> CostTables:
    """Price one candidate analytically.

    Memory is an upper bound: the reserve of each stage includes a margin and a workspace for what layers need only
    while they run. The workspace depends on the model and the candidate, not on the space: a narrower space prices
    every strategy as a wider one does. A profile, if given, is not used (``profiled`` uses it).

    Raises
    ------
    BadValue
        If the candidate does not fit the cluster, a device has no figure for the precision, or no strategy of the
        space fits a layer (naming the layer and why).
    """
    return Pricing(graph, cluster, space, candidate).tables()


class Pricing:
    """One candidate being priced: sites, signatures and shared arrays.

    A model that knows more (``uniap_cost_profiled``) overrides ``group``, ``layout`` and ``stash``.

    Parameters
    ----------
    constants
        By device generation, to override what is shipped (calibration does).
    """

    def __init__(
        self,
        graph: ModelGraph,
        cluster: Cluster,
        space: StrategySpace,
        candidate: Candidate,
        constants: Mapping[str, Constants] | None = None,
    ) -> None:
        check_candidate(cluster, candidate)
        self.graph, self.cluster, self.candidate = graph, cluster, candidate
        self.fabric = cluster.fabric
        self.training = candidate.training
        self.recipe = recipe(self.training, adapters=graph.adapted)
        self.override = constants or {}
        self.sites = _sites(self.fabric, candidate.pipeline, self._slowest)
        self.ranks = candidate.pipeline.devices_per_rank(cluster.devices)
        self.extents = dict(zip((layer.name for layer in graph.layers), extents(graph, space), strict=True))
        self.options = {e: space.strategies(self.ranks, cluster.node_size, e) for e in set(self.extents.values())}
        if not all(self.options.values()):
            raise BadValue(
                f"no strategy of the space uses {self.ranks} devices ({candidate.name} on {cluster.name})",
                "allow more tensor, context or data parallel degrees, or another number of stages",
            )
        self.title = f"{COST_MODEL.name}/{COST_MODEL.version}+{digest(self.override)}"
        self.notes: dict[str, None] = {}
        self.wires = self.fabric
        self.places: dict[tuple[int, Grids, bool, int], Place] = {}

    # --- what a device of a stage is -------------------------------------------------------------------------

    def constants(self, device: Device) -> Constants:
        """The constants of a device's generation."""
        return self.override.get(device.generation) or constants_of(device.generation)

    def _slowest(self, devices: tuple[Device, ...]) -> Device:
        """The device that holds the others of its stage up: the slowest engine, at the slowest memory among them."""
        slowest = min(devices, key=lambda d: engine(d, self.training, self.constants(d)).linear_flops)
        memory_Bps = min(d.memory_Bps for d in devices)
        return slowest if slowest.memory_Bps == memory_Bps else msgspec.structs.replace(slowest, memory_Bps=memory_Bps)

    def devices(self, rank: int) -> tuple[Device, ...]:
        """The devices of a pipeline rank; equal ones of a node once."""
        return self.cluster.devices_among(self.candidate.pipeline.block(rank, self.cluster.devices))

    def place(self, site: int, strategy: Strategy) -> Place:
        """The device and the groups of a strategy on a stage."""
        grids = strategy.grids
        key = site, grids, strategy.sharding != "none", strategy.replicate
        if key not in self.places:
            device = self.sites[site].device
            self.places[key] = Place(
                engine=engine(device, self.training, self.constants(device)),
                tensor=self.group(site, grids.dense.span("tp")),
                context=self.group(site, grids.dense.span("cp")),
                expert=self.group(site, grids.expert.span("ep")),
                data=self.sharing(site, strategy.shards(grids.data)),
                expert_data=self.sharing(site, strategy.shards(grids.expert_data)),
            )
        return self.places[key]

    def sharing(self, site: int, spans: tuple[Span, Span]) -> tuple[Group, Group]:
        """The groups of ranks that share states, and of those that hold copies of one share."""
        share, copies = spans
        return self.group(site, share), self.group(site, copies)

    def group(self, site: int, span: Span) -> Group:
        """The group that a span forms on a stage."""
        first, ranks, device = self.sites[site]
        return stage_group(self.fabric, first, ranks, span, self.constants(device))

    def layout(self, layer: Layer, site: int, cut: Cut, place: Place) -> LayoutCosts:
        """One pass of a layer in each direction on one device of a stage."""
        operators = self.operators(layer, cut.tp)
        return layout_costs(operators, cut, place, self.training, self.constants(self.sites[site].device))

    def operators(self, layer: Layer, tp: int) -> tuple[Operator, ...]:
        """The operators of a layer that run, vocabularies padded."""
        running = tuple(op for op in layer.operators if active(op, self.training))
        multiple = self.training.vocabulary_multiple
        return padded(running, tp, multiple) if multiple > 1 else running

    def stash(self, layer: Layer, inputs: Inputs, strategy: Strategy) -> float:
        """Bytes that a layer stashes per micro-batch in flight."""
        operators = self.operators(layer, strategy.tp)
        return stash_bytes(operators, inputs, self.cut(strategy), strategy, self.training)

    def reached(self, layer: Layer) -> bool:
        """Whether a gradient reaches a layer, so that it has a backward pass and keeps what that needs."""
        return layer.name not in self.graph.without_backward

    # --- layers -----------------------------------------------------------------------------------------------

    def tables(self) -> CostTables:
        """The cost tables."""
        inputs, ends = _inputs(self.graph), _ends(self.graph)
        shared: dict[tuple[tuple[Operator, ...], Inputs, str, bool], PricedLayer] = {}
        kinds = [
            (layer.signature(), inputs[layer.name], ends[layer.name], self.reached(layer))
            for layer in self.graph.layers
        ]
        for layer, kind in zip(self.graph.layers, kinds, strict=True):
            if kind not in shared:
                shared[kind] = self._layer(layer, kind[1])
        reserves, parts = self._reserves([(p.needs, kind[2]) for kind, p in shared.items()])
        charged = {kind: self._charged(p, kind[2], parts["workspace"]) for kind, p in shared.items()}
        layers = tuple(
            replace(charged[kind], name=layer.name) for layer, kind in zip(self.graph.layers, kinds, strict=True)
        )
        memory = [min(device.memory_bytes for device in self.devices(i)) for i in range(self.candidate.pp)]
        return CostTables(
            self.title,
            self.candidate,
            pipeline_ranks(memory, reserves, self.candidate),
            layers,
            self._edges(layers),
            parts,
            tuple(self.notes),
        )

    def _layer(self, layer: Layer, inputs: Inputs) -> PricedLayer:
        fitting = []
        reasons: dict[str, None] = {}
        for strategy in self.options[self.extents[layer.name]]:
            reason = misfit(layer, strategy, self.candidate, self.graph.sequence)
            if reason:
                reasons[reason] = None
            else:
                fitting.append(strategy)
        if not fitting:
            raise BadValue(
                f"layer {layer.name} has no strategy for {self.candidate.name} on {self.cluster.name}: "
                + "; ".join(list(reasons)[:3]),
                "allow other tensor, context or data parallel degrees, or change the batch or the micro-batches",
            )
        copies = self.candidate.pp > 1
        times = np.empty((3, len(self.sites), len(fitting)))
        parts = np.empty((5, len(self.sites), len(fitting)))
        layouts: dict[tuple[int, tuple[object, ...]], LayoutCosts] = {}
        for j, strategy in enumerate(fitting):
            cut = self.cut(strategy)
            for i in range(len(self.sites)):
                place = self.place(i, strategy)
                if (i, cut) not in layouts:
                    layouts[i, cut] = self.layout(layer, i, cut, place)
                priced = price_layer(
                    self.operators(layer, strategy.tp),
                    layouts[i, cut],
                    strategy,
                    place,
                    self.recipe,
                    self.constants(self.sites[i].device),
                    self.candidate.turns,
                    copies=copies,
                    reached=self.reached(layer),
                )
                times[:, i, j] = priced[:3]
                parts[:, i, j] = priced.parts
        transient = self._transient(layer, fitting)
        return PricedLayer(
            tuple(fitting),
            self._arrays(layer, inputs, fitting, times, parts),
            transient,
            self._needs(layer, fitting, transient),
        )

    def cut(self, strategy: Strategy) -> Cut:
        """What one device holds of a layer."""
        samples = self.candidate.micro_batch / strategy.dp
        return Cut(
            samples=samples,
            sequence=self.graph.sequence,
            tp=strategy.tp,
            cp=strategy.cp,
            ep=strategy.ep,
            sequence_parallel=strategy.sequence_parallel,
            etp=strategy.grids.expert.size("etp"),
            imbalance=min(self.training.imbalance, strategy.ep),
        )

    def _arrays(
        self, layer: Layer, inputs: Inputs, fitting: list[Strategy], times: np.ndarray, parts: np.ndarray
    ) -> LayerCosts:
        depth = self.candidate.pp
        rows = np.arange(depth) if len(self.sites) > 1 else np.zeros(depth, dtype=int)
        whole = self._states(layer, fitting, copies=True)
        alone = depth > 1 or not any(op.tied for op in layer.operators)
        states = whole if alone else self._states(layer, fitting, copies=False)
        # One number per strategy must do: a tied weight is charged as if the other one lay in another layout.
        tied = whole.sum(axis=0) - states.sum(axis=0)
        stash = np.array([self.stash(layer, inputs, s) if self.reached(layer) else 0.0 for s in fitting])
        return LayerCosts(
            layer.name,
            tuple(fitting),
            times[0][rows],
            times[1][rows],
            times[2][rows],
            whole.sum(axis=0),
            stash,
            {name: part[rows] for name, part in zip(TIME_PARTS, parts, strict=True)},
            {**dict(zip(STATE_PARTS, states, strict=True)), "tied": tied},
        )

    def _states(self, layer: Layer, fitting: list[Strategy], *, copies: bool) -> np.ndarray:
        """Bytes by part (rows) and strategy."""

        def held(strategy: Strategy) -> tuple[tuple[float, float], tuple[float, float]]:
            running = self.operators(layer, strategy.tp)
            trained, frozen = self._weights(running, strategy, copies=copies)
            if strategy.sharding != "zero3":  # which makes its narrow copies of what it gathers, anew
                narrow = narrow_bytes(running, strategy, self.training)
                frozen = frozen[0] + narrow[0], frozen[1] + narrow[1]
            return trained, frozen

        return np.array([state_bytes(*held(s), s, self.recipe) for s in fitting]).T

    def _weights(
        self, running: tuple[Operator, ...], strategy: Strategy, *, copies: bool
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """Trained elements and frozen bytes of a layer on one device, of dense parts and of experts each."""
        trained = local_parameters(running, strategy, copies=copies, frozen=False)
        return trained, frozen_bytes(running, strategy, self.recipe, copies=copies)

    def _transient(self, layer: Layer, fitting: list[Strategy]) -> np.ndarray:
        copies = self.candidate.pp > 1
        running = [self.operators(layer, s.tp) for s in fitting]
        return np.array(
            [
                transient_bytes(
                    mine,
                    self.cut(s),
                    s,
                    *self._weights(mine, s, copies=copies),
                    self.recipe,
                    self.training,
                    backward=self.reached(layer),
                )
                for mine, s in zip(running, fitting, strict=True)
            ]
        )

    def _needs(self, layer: Layer, fitting: list[Strategy], transient: np.ndarray) -> np.ndarray:
        """Transients of the layer under the strategies of the default space, whatever space is asked for."""
        usual = StrategySpace().strategies(self.ranks, self.cluster.node_size, extent_of(layer, self.graph.sequence))
        if usual == self.options[self.extents[layer.name]]:
            return transient
        fits = [s for s in usual if not misfit(layer, s, self.candidate, self.graph.sequence)]
        return self._transient(layer, fits) if fits else transient

    # --- memory -----------------------------------------------------------------------------------------------

    def _reserves(self, transients: list[tuple[np.ndarray, str]]) -> tuple[list[float], dict[str, tuple[float, ...]]]:
        """Reserve of each stage and its parts."""
        depth = self.candidate.pp
        names = ("context", "nccl", "workspace", "fragmentation", "margin")
        parts: dict[str, list[float]] = {name: [] for name in names}
        for i in range(depth):
            memory = min(device.memory_bytes for device in self.devices(i))
            needs = [need.max() for need, end in transients if _may_lie(end, i, depth)]
            least = [need.min() for need, end in transients if _may_lie(end, i, depth)]
            parts["context"].append(CONTEXT_BYTES)
            parts["nccl"].append(NCCL_BYTES)
            parts["workspace"].append(max(max(least), min(WORKSPACE_SHARE * memory, max(needs))))
            parts["fragmentation"].append(FRAGMENTED * parts["workspace"][-1])
            parts["margin"].append(self.training.margin * memory)
        if self.training.buckets_bytes:  # some strategies need them, and the reserve is that of all
            parts["buckets"] = [self.training.buckets_bytes] * depth
        return [sum(part) for part in zip(*parts.values(), strict=True)], {k: tuple(v) for k, v in parts.items()}

    def _charged(self, priced: PricedLayer, end: str, workspace: tuple[float, ...]) -> LayerCosts:
        """The costs of a kind of layer, with what a strategy needs beyond the workspace added to its state."""
        depth = self.candidate.pp
        smallest = min(w for i, w in enumerate(workspace) if _may_lie(end, i, depth))
        excess = (1 + FRAGMENTED) * np.maximum(0.0, priced.transient - smallest)
        costs = priced.costs
        return replace(
            costs,
            state_bytes=costs.state_bytes + excess if excess.any() else costs.state_bytes,
            state_parts_bytes={**costs.state_parts_bytes, "workspace": excess},
            workspace_bytes=priced.transient,
        )

    # --- edges ------------------------------------------------------------------------------------------------

    def _edges(self, layers: tuple[LayerCosts, ...]) -> tuple[EdgeTable, ...]:
        index = {layer.name: u for u, layer in enumerate(layers)}
        shared: dict[
            tuple[Length, int, tuple[Strategy, ...], tuple[Strategy, ...], bool], tuple[np.ndarray, np.ndarray]
        ] = {}
        slowest = self.constants(self.sites[0].device)
        edges = []
        for flow in self.graph.edges:
            u, v = index[flow.source], index[flow.target]
            returns = flow.source not in self.graph.without_backward
            key = flow.rows, flow.width, layers[u].strategies, layers[v].strategies, returns
            if key not in shared:
                shared[key] = edge_tables(
                    flow, self.graph.sequence, key[2], key[3], self.wires, self.candidate, slowest, returns=returns
                )
            edges.append(EdgeTable(u, v, flow.tensor, *shared[key]))
        return tuple(edges)


def _sites(cluster: Cluster, pipeline: Pipeline, slowest: Callable[[tuple[Device, ...]], Device]) -> tuple[Site, ...]:
    size = pipeline.devices_per_rank(cluster.devices)
    if cluster.homogeneous and aligned(cluster, size):
        return (Site(0, size, cluster.device(0)),)
    blocks = (pipeline.block(i, cluster.devices) for i in range(pipeline.ranks))
    return tuple(Site(block.start, size, slowest(cluster.devices_among(block))) for block in blocks)


def _inputs(graph: ModelGraph) -> dict[str, Inputs]:
    found: dict[str, dict[str, Flow]] = {layer.name: {} for layer in graph.layers}
    for flow in graph.edges:
        found[flow.target][flow.tensor] = flow
    return {name: tuple((f.rows, f.width) for f in flows.values()) for name, flows in found.items()}


def _ends(graph: ModelGraph) -> dict[str, str]:
    """The only source of a graph lies on the first stage, its only sink on the last: every stage has a layer."""
    sources = {layer.name for layer in graph.layers} - {flow.target for flow in graph.edges}
    sinks = {layer.name for layer in graph.layers} - {flow.source for flow in graph.edges}
    ends = dict.fromkeys((layer.name for layer in graph.layers), "")
    if len(sources) == 1 and len(graph.layers) > 1:
        ends[sources.pop()] = "first"
    if len(sinks) == 1 and len(graph.layers) > 1:
        ends[sinks.pop()] = "last"
    return ends


def _may_lie(end: str, stage: int, depth: int) -> bool:
    return {"first": stage == 0, "last": stage == depth - 1}.get(end, True)
