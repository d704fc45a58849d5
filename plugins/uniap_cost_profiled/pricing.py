"""``price`` from a profile: measured points are met, and the analytic model carries them to other shapes.

A measured layer is the analytic one times the ratio of measured to predicted at the nearest measured shapes; so at a
measured point the measurement itself is what counts, and between points the analytic curve bends through them.
"""

from __future__ import annotations

import math
from collections import defaultdict

import msgspec
from uniap_cost_analytic.constants import Constants
from uniap_cost_analytic.kernels import Cut
from uniap_cost_analytic.layers import LayoutCosts, Place
from uniap_cost_analytic.links import Group, collective_s
from uniap_cost_analytic.pricing import Inputs, Pricing

from uniap_core.api import (
    BadValue,
    Candidate,
    Cluster,
    Collective,
    CollectiveTiming,
    CostTables,
    Device,
    Layer,
    LayerTiming,
    Link,
    ModelGraph,
    Operator,
    Profile,
    Span,
    Strategy,
    StrategySpace,
    identity,
)

from . import COST_MODEL

LEAST_BETA = 1e-15
"""Seconds per byte where a fit found none: a petabyte per second."""


def price(
    graph: ModelGraph,
    cluster: Cluster,
    space: StrategySpace,
    candidate: Candidate,
    profile: Profile | None = None,
) -> CostTables:
    """Price one candidate from measurements.

    The tables' notes say what was not measured and is analytic.

    Raises
    ------
    BadValue
        If there is no profile, its precision is another one, or the analytic model refuses the candidate.
    """
    if profile is None:
        raise BadValue("the profiled cost model needs a profile", "give --profile profile.json (see uniap profile)")
    if profile.precision != candidate.training.precision:
        raise BadValue(
            f"the profile was measured in {profile.precision}, not {candidate.training.precision}",
            f"plan with --precision {profile.precision}, or measure again",
        )
    return ProfiledPricing(graph, cluster, space, candidate, profile).tables()


class ProfiledPricing(Pricing):
    """The analytic pricing with measurements in place of what they cover."""

    def __init__(
        self, graph: ModelGraph, cluster: Cluster, space: StrategySpace, candidate: Candidate, profile: Profile
    ) -> None:
        super().__init__(graph, cluster, space, candidate)
        self.title = identity(COST_MODEL)
        self.profile = profile
        self.notes = dict.fromkeys(profile.notes)
        self.timings = _by_operators(graph, profile)
        if profile.graph and profile.graph != graph.hash:
            self.notes["the profile is of another graph: layers of the same name are taken for the same"] = None
        self.wires = self._wires(self.fabric)

    def constants(self, device: Device) -> Constants:
        """The constants of a device, with the measured overlap coefficient and matrix ceiling."""
        constants = super().constants(device)
        changes: dict[str, float] = {}
        if self.profile.overlap is not None:
            changes["contention"] = max(1.0, self.profile.overlap)
        ceiling = self.profile.matmul_flops.get(self.training.precision)
        peak = device.peak_flops.get(self.training.precision)
        if ceiling and peak:
            changes["matmul_share"] = ceiling / (peak * device.matmul_ceiling)
        return msgspec.structs.replace(constants, **changes) if changes else constants

    def group(self, site: int, span: Span) -> Group:
        """A group of ranks with what was measured on it, and the bandwidth and latency of its all-reduce."""
        group = super().group(site, span)
        if span.size == 1:
            return group
        shape = span.size, span.stride, group.nodes
        known = {c.operation: c for c in self.profile.collectives if (c.ranks, c.stride, c.nodes) == shape}
        if "all_reduce" not in known:
            self.notes[f"collectives of {span.size} ranks {span.stride} apart were not measured: analytic"] = None
            return group
        measured = tuple((c.operation, c.alpha_s, c.beta_s_per_byte) for c in known.values())
        reduced = measured_group(group, known["all_reduce"], self.constants(self.sites[site].device))
        return reduced._replace(measured=measured)

    def layout(self, layer: Layer, site: int, cut: Cut, place: Place) -> LayoutCosts:
        """One pass of a layer: measured compute, analytic where nothing like it was measured."""
        analytic = super().layout(layer, site, cut, place)
        timings = self.timings.get(layer.operators, [])
        if not timings:
            self.notes[f"layers like {layer.name} were not measured: analytic"] = None
            return analytic
        ratios = [(t, self._ratio(layer, site, t)) for t in timings]
        forward = _between([(t, ratio[0]) for t, ratio in ratios], cut)
        backward = _between([(t, ratio[1]) for t, ratio in ratios], cut)
        if cut.tp not in {t.tp for t in timings}:
            self.notes[f"layers like {layer.name} were not measured with tp {cut.tp}: scaled by the analytic model"] = (
                None
            )
        tensor_forward, tensor_backward = self._regions(layer, site, cut, place) or analytic[3:5]
        # The host's pace is in the measurement already.
        return analytic._replace(
            tensor_forward_s=tensor_forward,
            tensor_backward_s=tensor_backward,
            forward_s=analytic.forward_s * forward,
            backward_s=analytic.backward_s * backward,
            selective_s=analytic.selective_s * forward,
            each=tuple(one._replace(forward_s=one.forward_s * forward, kernels=0) for one in analytic.each),
            kernels=0,
            backward_kernels=0,
        )

    def stash(self, layer: Layer, inputs: Inputs, strategy: Strategy) -> float:
        """Stashed bytes: as measured per sample where nothing is recomputed, else analytic."""
        analytic = super().stash(layer, inputs, strategy)
        if strategy.recompute != "none" or strategy.cp > 1:
            return analytic
        cut = self.cut(strategy)
        known = [
            t.saved_bytes / t.samples * cut.samples
            for t in self.timings.get(layer.operators, [])
            if t.saved_bytes is not None and t.tp == strategy.tp
        ]
        return max(known) if known else analytic

    def _regions(self, layer: Layer, site: int, cut: Cut, place: Place) -> tuple[float, float] | None:
        """What tensor parallelism adds, forward and backward, where its regions were measured: one per row split."""
        names: tuple[Collective, Collective] = (
            ("sequence_forward", "sequence_backward")
            if cut.sequence_parallel
            else ("tensor_forward", "tensor_backward")
        )
        if self.training.tensor_overlap != "none":
            return None  # regions are measured with nothing beside them
        rows = [op for op in layer.operators if op.split == "row"]
        known = {name for name, _, _ in place.tensor.measured}
        if not rows or not known.issuperset(names) or any(op.kind == "grouped_gemm" for op in layer.operators):
            return None
        constants = self.constants(self.sites[site].device)
        forward = backward = 0.0
        for op in rows:
            values = cut.samples * op.rows.at(cut.sequence) / cut.cp * max(1, op.count) * op.outer
            size = values * place.engine.element_bytes
            forward += collective_s(names[0], size, place.tensor, constants)
            backward += collective_s(names[1], size, place.tensor, constants)
        return forward, backward

    def _ratio(self, layer: Layer, site: int, timing: LayerTiming) -> tuple[float, float]:
        cut = Cut(timing.samples, timing.sequence, tp=timing.tp, cp=1, ep=1, sequence_parallel=False, etp=timing.tp)
        place = self.place(site, Strategy(tp=1, dp=self.ranks))
        expected = super().layout(layer, site, cut, place)
        # A frozen table has no backward to compare with.
        back = timing.backward_s / expected.backward_s if expected.backward_s else 1.0
        return timing.forward_s / expected.forward_s, back

    def _wires(self, cluster: Cluster) -> Cluster:
        """The cluster with the measured point-to-point bandwidths, for what crosses stages."""
        found = {c.nodes > 1: c for c in self.profile.collectives if c.operation == "p2p"}
        constants = self.constants(cluster.device(0))

        def link(old: Link, timing: CollectiveTiming | None, share: float) -> Link:
            if timing is None:
                return old
            return Link(old.kind, 1 / (max(timing.beta_s_per_byte, LEAST_BETA) * share), timing.alpha_s)

        nodes = tuple(
            msgspec.structs.replace(node, link=link(node.link, found.get(False), constants.link_share))
            for node in cluster.nodes
        )
        inter = link(cluster.inter, found.get(True), constants.inter_share)
        return msgspec.structs.replace(cluster, nodes=nodes, inter=inter)


def measured_group(group: Group, timing: CollectiveTiming, constants: Constants) -> Group:
    """A group whose ring all-reduce takes the measured ``alpha + bytes * beta``."""
    n = group.size
    latency = max(0.0, timing.alpha_s - constants.collective_s) / (2 * (n - 1))
    bandwidth = 2 * (n - 1) / n / max(timing.beta_s_per_byte, LEAST_BETA)
    return group._replace(bandwidth_Bps=bandwidth, latency_s=latency, tree_s=math.inf)


def _by_operators(graph: ModelGraph, profile: Profile) -> dict[tuple[Operator, ...], list[LayerTiming]]:
    """Timings by the operators of the layer they name, for this graph's sequence length."""
    layers = {layer.name: layer for layer in graph.layers}
    found: dict[tuple[Operator, ...], list[LayerTiming]] = defaultdict(list)
    for timing in profile.layers:
        if timing.layer in layers and timing.sequence == graph.sequence:
            found[layers[timing.layer].operators].append(timing)
    return found


def _between(points: list[tuple[LayerTiming, float]], cut: Cut) -> float:
    """The ratio at a shape: of the nearest tensor parallel width, between the samples on either side (log-linear)."""
    near = min(abs(math.log2(t.tp / cut.tp)) for t, _ in points)
    known: dict[int, list[float]] = defaultdict(list)
    for timing, ratio in points:
        if abs(math.log2(timing.tp / cut.tp)) == near:
            known[timing.samples].append(ratio)
    samples = sorted(known)
    values = [sum(known[s]) / len(known[s]) for s in samples]
    if cut.samples <= samples[0]:
        return values[0]
    for low, high, a, b in zip(samples, samples[1:], values, values[1:], strict=False):
        if cut.samples <= high:
            share = math.log(cut.samples / low) / math.log(high / low)
            return float(a * (b / a) ** share)
    return values[-1]
