"""The conformance suite for cost models: tables that add up, and prices that obey what no machine escapes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from uniap_core import cluster as clusters
from uniap_core import models, registry
from uniap_core.cluster import Cluster
from uniap_core.costs import Candidate, CostModelPlugin, CostTables, Training, identity
from uniap_core.devices import Device, Link
from uniap_core.errors import BadValue
from uniap_core.graph import ModelGraph
from uniap_core.menus import extents
from uniap_core.posing import digest, pose
from uniap_core.profile import Profile
from uniap_core.strategy import RECOMPUTES, SHARDINGS, Strategy, StrategySpace
from uniap_core.tables import Array

from . import availability


@dataclass(frozen=True)
class Case:
    """One candidate to price; model and cluster by name."""

    model: str
    cluster: str
    batch: int
    pp: int
    micro_batches: int
    schedule: str = "1f1b"

    @property
    def candidate(self) -> Candidate:
        """The candidate itself."""
        return Candidate.of(self.pp, self.micro_batches, Training(global_batch=self.batch), self.schedule)

    def __str__(self) -> str:
        return f"{self.model}-{self.cluster}-{self.candidate.name}"


CASES = (
    Case("gpt2", "8xA100-40G", 16, 1, 1),
    Case("gpt2", "8xA100-40G", 16, 2, 4),
    Case("llama-7b", "2x8xA100-80G", 32, 4, 8, "gpipe"),
    Case("t5-large", "8xA100-40G", 16, 2, 2),
)
"""A chain with and without pipelining, over nodes, and a graph whose encoder output has many readers."""


class CostModelSuite:
    """Everything that is asked of a cost model plugin.

    Attributes
    ----------
    cost_model
        The name of the entry point, or the descriptor itself.
    cases
        What is priced; ``profile`` is handed over with it.
    tolerance
        Relative, for sums and for comparisons.
    """

    cost_model: ClassVar[str | CostModelPlugin]
    cases: ClassVar[tuple[Case, ...]] = CASES
    profile: ClassVar[Profile | None] = None
    space: ClassVar[StrategySpace] = StrategySpace()
    tolerance: ClassVar[float] = 1e-9

    # --- what subclasses may use ------------------------------------------------------------------------------

    @property
    def plugin(self) -> CostModelPlugin:
        """The descriptor; skips or fails the test if what it needs is not there."""
        found: CostModelPlugin = availability.plugin("cost model", self.cost_model)
        return found

    def price(
        self,
        case: Case,
        *,
        space: StrategySpace | None = None,
        cluster: Cluster | None = None,
        micro_batches: int | None = None,
        graph: ModelGraph | None = None,
    ) -> CostTables:
        """Price a case, with something changed."""
        candidate = case.candidate
        if micro_batches is not None:
            candidate = Candidate.of(case.pp, micro_batches, candidate.training, case.schedule)
        machine = cluster or clusters.load(case.cluster)
        function: Any = registry.resolve(self.plugin.price)
        model = graph or _graph(case.model)
        tables: CostTables = function(model, machine, space or self.space, candidate, self.profile)
        return tables

    # --- the descriptor ---------------------------------------------------------------------------------------

    def test_descriptor_is_plain_data_and_prices_without_torch(self) -> None:
        """Planning must never need torch."""
        assert isinstance(self.plugin, CostModelPlugin)
        assert self.plugin.version
        assert callable(registry.resolve(self.plugin.price))
        if not isinstance(self.cost_model, str) or self.profile is not None:
            return
        code = (
            "import sys; from uniap_core.testing.cost_models import CASES, CostModelSuite; "
            f"suite = type('Suite', (CostModelSuite,), {{'cost_model': {self.cost_model!r}}})(); "
            "suite.price(CASES[0]); assert 'torch' not in sys.modules"
        )
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)

    # --- tables -----------------------------------------------------------------------------------------------

    def test_tables_fit_the_graph_and_the_cluster(self) -> None:
        """Layers, edges, stages and strategies are those that were asked for; the problem is a valid one."""
        for case in self.cases:
            tables, graph, machine = self.price(case), _graph(case.model), clusters.load(case.cluster)
            assert [layer.name for layer in tables.layers] == [layer.name for layer in graph.layers]
            names = [layer.name for layer in graph.layers]
            carried = {(names[e.source], names[e.target], e.tensor) for e in tables.edges}
            assert carried == {(flow.source, flow.target, flow.tensor) for flow in graph.edges}
            assert len(tables.ranks) == case.pp
            flights = case.candidate.pipeline.in_flight(case.micro_batches)
            for stage, moments in zip(tables.ranks, flights, strict=True):
                assert stage.in_flight == moments
                assert 0 <= stage.reserved_bytes <= stage.memory_bytes
            devices = case.candidate.pipeline.devices_per_rank(machine.devices)
            for layer, extent in zip(tables.layers, extents(graph, self.space), strict=True):
                assert set(layer.strategies) <= set(self.space.strategies(devices, machine.node_size, extent))
            assert pose(tables).depth == case.pp
            assert tables.candidate == case.candidate
            assert tables.model == identity(self.plugin)

    def test_parts_add_up(self) -> None:
        """Every total is the sum of its parts, where parts are given."""
        for case in self.cases:
            tables = self.price(case)
            for layer in tables.layers:
                if layer.time_parts_s:
                    total = layer.forward_s + layer.backward_s + layer.iteration_s / case.candidate.turns
                    self.equal(sum(layer.time_parts_s.values(), start=np.zeros_like(total)), total)
                if layer.state_parts_bytes:
                    parts = layer.state_parts_bytes.values()
                    self.equal(sum(parts, start=np.zeros_like(layer.state_bytes)), layer.state_bytes)
            if tables.reserved_parts_bytes:
                parts_bytes = np.sum(list(tables.reserved_parts_bytes.values()), axis=0)
                self.equal(parts_bytes, np.array([s.reserved_bytes for s in tables.ranks]))

    def test_pricing_twice_gives_one_answer(self) -> None:
        """A plan says by hash what it was made from."""
        case = self.cases[0]
        assert digest(self.price(case)) == digest(self.price(case))

    def test_a_narrower_space_changes_no_price(self) -> None:
        """What a strategy costs does not depend on what else is allowed."""
        for case in self.cases:
            narrow = msgspec.structs.replace(self.space, shardings=("none",), recomputes=("none",))
            wide, small = _by_strategy(self.price(case)), _by_strategy(self.price(case, space=narrow))
            assert small
            for key, (time_s, state, stash) in small.items():
                self.equal(wide[key][0], time_s)
                assert wide[key][1:] == pytest.approx((state, stash), rel=self.tolerance)

    # --- what no machine escapes --------------------------------------------------------------------------------

    def test_equal_layouts_reshard_for_free(self) -> None:
        """Data that lies where it is needed is not moved."""
        for case in self.cases:
            tables = self.price(case)
            for edge in tables.edges:
                left, right = tables.layers[edge.source].strategies, tables.layers[edge.target].strategies
                same = np.array([[a.layout == b.layout for b in right] for a in left])
                assert (edge.reshard_s[same] == 0).all()

    def test_a_faster_cluster_is_never_slower(self) -> None:
        """Twice the arithmetic, the bandwidth and the links."""
        for case in self.cases:
            slow = self.price(case)
            fast = self.price(case, cluster=_faster(clusters.load(case.cluster)))
            for a, b in zip(slow.layers, fast.layers, strict=True):
                self.at_most(b.forward_s + b.backward_s + b.iteration_s, a.forward_s + a.backward_s + a.iteration_s)
            for x, y in zip(slow.edges, fast.edges, strict=True):
                self.at_most(y.reshard_s, x.reshard_s)
                self.at_most(y.cross_s, x.cross_s)

    def test_a_larger_micro_batch_costs_no_less(self) -> None:
        """Twice the samples take at least the time and the memory of half of them."""
        for case in (case for case in self.cases if case.micro_batches % 2 == 0):
            small = _by_strategy(self.price(case))
            large = _by_strategy(self.price(case, micro_batches=case.micro_batches // 2))
            for key in small.keys() & large.keys():
                self.at_most(small[key][0], large[key][0])
                assert small[key][2] <= large[key][2] * (1 + self.tolerance)

    def test_freezing_costs_no_less(self) -> None:
        """What is not trained has no gradient and no optimizer state, and never takes longer or keeps more."""
        for case in self.cases:
            graph, trained = _graph(case.model), self.price(case)
            count = len(graph.layers)
            for last in (1, count // 2, count):
                names = {layer.name for layer in graph.layers[:last]}
                part = self.price(case, graph=frozen(graph, names))
                for a, b in zip(trained.layers, part.layers, strict=True):
                    assert a.strategies == b.strategies
                    self.at_most(b.forward_s, a.forward_s)
                    self.at_most(b.backward_s, a.backward_s)
                    self.at_most(b.iteration_s, a.iteration_s)
                    self.at_most(b.stash_bytes, a.stash_bytes)
                    if a.name in names and b.state_parts_bytes:
                        assert not b.state_parts_bytes["gradients"].any()
                        assert not b.state_parts_bytes["optimizer"].any()
                for x, y in zip(trained.edges, part.edges, strict=True):
                    self.at_most(y.reshard_s, x.reshard_s)
                    self.at_most(y.cross_s, x.cross_s)
                whole, less = (_needed(tables) for tables in (trained, part))
                for old, new in zip(whole, less, strict=True):
                    self.at_most(new, old)

    def test_sharding_and_recomputation_save_memory(self) -> None:
        """State shrinks along none, zero1, zero2, zero3; the stash along none, selective, full."""
        for case in self.cases:
            priced = _by_strategy(self.price(case))
            for (layer, strategy), (_, state, stash) in priced.items():
                for field, order in (("sharding", SHARDINGS), ("recompute", RECOMPUTES)):
                    position = order.index(strategy[field])
                    if position:
                        less = msgspec.structs.replace(strategy, **{field: order[position - 1]})
                        if (layer, less) in priced:
                            _, more_state, more_stash = priced[layer, less]
                            assert state <= more_state * (1 + self.tolerance), (layer, strategy.name)
                            assert stash <= more_stash * (1 + self.tolerance), (layer, strategy.name)

    def test_refuses_candidates_that_do_not_fit(self) -> None:
        """Stages must divide devices, micro-batches the batch."""
        case = self.cases[0]
        devices = clusters.load(case.cluster).devices
        for pp, c in ((devices + 1, 1), (3, 1) if devices % 3 else (devices - 1, 1), (1, case.batch + 1), (0, 1)):
            bad = Case(case.model, case.cluster, case.batch, pp, c)
            with pytest.raises(BadValue):
                self.price(bad)

    # --- comparing ----------------------------------------------------------------------------------------------

    def equal(self, found: Array, expected: Array) -> None:
        """Equal to the tolerance; infinities in the same places."""
        np.testing.assert_allclose(found, expected, rtol=self.tolerance)

    def at_most(self, small: Array, large: Array) -> None:
        """Nowhere larger, to the tolerance."""
        assert (small <= large * (1 + self.tolerance)).all()


@cache
def _graph(name: str) -> ModelGraph:
    return models.load(name, None)


def frozen(graph: ModelGraph, names: set[str]) -> ModelGraph:
    """The model with all parameters of some layers frozen."""
    replace = msgspec.structs.replace
    layers = tuple(
        replace(layer, operators=tuple(replace(op, frozen=op.parameters) for op in layer.operators))
        if layer.name in names
        else layer
        for layer in graph.layers
    )
    return replace(graph, layers=layers)


def _needed(tables: CostTables) -> list[Array]:
    """Bytes of a device that holds a layer alone, reserve included, by layer: shape (P, K)."""
    reserved = np.array([rank.reserved_bytes for rank in tables.ranks])[:, None]
    return [reserved + layer.state_bytes[None, :] + layer.stash_bytes[None, :] for layer in tables.layers]


def _by_strategy(tables: CostTables) -> dict[tuple[str, Strategy], tuple[Array, float, float]]:
    """Time on each stage per micro-batch (iteration costs aside), state and stash, by layer and strategy."""
    return {
        (layer.name, strategy): (
            layer.forward_s[:, k] + layer.backward_s[:, k],
            float(layer.state_bytes[k]),
            float(layer.stash_bytes[k]),
        )
        for layer in tables.layers
        for k, strategy in enumerate(layer.strategies)
    }


def _faster(cluster: Cluster) -> Cluster:
    change = msgspec.structs.replace

    def link(old: Link) -> Link:
        return change(old, bandwidth_Bps=old.bandwidth_Bps * 2, latency_s=old.latency_s / 2)

    def device(old: Device) -> Device:
        peak = {name: flops * 2 for name, flops in old.peak_flops.items()}
        return change(old, peak_flops=peak, memory_Bps=old.memory_Bps * 2)

    nodes = tuple(change(node.with_devices(device), link=link(node.link)) for node in cluster.nodes)
    return change(cluster, nodes=nodes, inter=link(cluster.inter))
