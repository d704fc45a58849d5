"""What a search considers for each key of a pin, and the refusal of pins that leave none of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import msgspec

from .. import menus
from ..costs import Candidate
from ..errors import UsageError
from ..pins import CANDIDATE_KEYS, Pin, Pins, satisfies
from ..pipeline import devices_per_rank, placements
from ..schedules import names
from ..strategy import AXES, DEGREES, FREE, LEAST, LONG, Extent, Strategy, divisors
from .request import Search

Value = int | str

Kind = tuple[tuple[Pin, ...], Extent]
"""What tells what a layer may choose: the pins on it, and what of it can be cut."""


class Shape(NamedTuple):
    """What of a candidate is counted: its schedule, ranks, chunks on each, and micro-batches."""

    schedule: str
    pp: int
    vpp: int
    micro_batches: int

    def allowed(self, pins: Pins) -> bool:
        """True if it agrees with some pins."""
        return pins.allows(self.pp, self.micro_batches, self.schedule, self.vpp)

    def value(self, key: str) -> Value:
        """Its value for a key of a pin."""
        return self.micro_batches if key in ("micro_batches", "c") else getattr(self, key)


@dataclass(frozen=True)
class Considered:
    """Everything that a search looks at but for its pins: schedules, stages, micro-batches, strategies of each layer.

    A cost model may refuse more, and says why when it prices.
    """

    search: Search

    @cached_property
    def names(self) -> list[str]:
        """Names of the layers."""
        return [layer.name for layer in self.search.graph.layers]

    @cached_property
    def extents(self) -> tuple[Extent, ...]:
        """What of each layer can be cut."""
        return menus.extents(self.search.graph, self.search.space)

    @cached_property
    def plain(self) -> frozenset[int]:
        """Layers that pins on experts do not mean."""
        return menus.without_experts(self.extents)

    @cached_property
    def regimes(self) -> list[tuple[Pins, list[Kind]]]:
        """The regimes of the executor, each with its pins on each layer and what of that can be cut."""
        found = ((regime, regime.of_layers(self.names, self.plain)) for regime in self.search.regimes)
        return [(regime, list(zip(on, self.extents, strict=True))) for regime, on in found]

    @cached_property
    def candidates(self) -> tuple[Shape, ...]:
        """Every candidate: pp divides the devices, no chunk is empty, c divides the batch."""
        return tuple(
            shape
            for schedule in self.search.schedules
            for pp in divisors(self.search.cluster.devices)
            for vpp in placements(schedule, pp, len(self.names))
            for c in divisors(self.search.training.global_batch)
            if any((shape := Shape(schedule, pp, vpp, c)).allowed(regime) for regime, _ in self.regimes)
        )

    def strategies(self, pp: int, micro_batches: int, extent: Extent) -> list[Strategy]:
        """The strategies of a layer on a stage whose data-parallel degree divides the micro-batch."""
        cluster = self.search.cluster
        every = self.search.free_space.strategies(devices_per_rank(cluster.devices, pp), cluster.node_size, extent)
        batch = self.search.training.global_batch // micro_batches
        packed = self.search.training.documents  # one pack to a data-parallel rank
        return [s for s in every if (batch == s.dp if packed else batch % s.dp == 0)]

    @cached_property
    def _offered(self) -> dict[Kind, dict[Strategy, None]]:
        """Strategies that some candidate offers to a kind of layer."""
        found: dict[Kind, dict[Strategy, None]] = {}
        for regime, on in self.regimes:
            for pp, c in dict.fromkeys((s.pp, s.micro_batches) for s in self.candidates if s.allowed(regime)):
                strategies = {extent: self.strategies(pp, c, extent) for extent in dict.fromkeys(self.extents)}
                for pins, extent in set(on):
                    fine = dict.fromkeys(s for s in strategies[extent] if satisfies(s, pins))
                    found.setdefault((pins, extent), {}).update(fine)
        return found

    @cached_property
    def _values(self) -> dict[tuple[Kind, str], set[Value]]:
        keys = (*DEGREES, "sharding", "recompute")
        return {(kind, key): {s[key] for s in known} for kind, known in self._offered.items() for key in keys}

    def values(self, pin: Pin) -> list[Value]:
        """The values of a pin's key that are considered for all layers that it names, in order."""
        if pin.key in CANDIDATE_KEYS:
            extents = dict.fromkeys(self.extents)
            keys = {(s.pp, s.micro_batches) for s in self.candidates}
            able = {key: all(self.strategies(*key, extent) for extent in extents) for key in keys}
            found = {s.value(pin.key) for s in self.candidates if able[s.pp, s.micro_batches]}
            return sorted(found, key=lambda value: (str(type(value)), value))
        if pin.key == "etp" and not any(extent.experts for extent in self.extents):
            return []  # how experts are cut is tp by name alone where there are none
        common = set().union(*(set.intersection(*sets) for sets in self._where(pin)))
        return sorted(common, key=lambda value: (str(type(value)), value))

    def excludes(self, pin: Pin) -> bool:
        """True if a pin takes anything away."""
        if pin.key in CANDIDATE_KEYS:
            return not all(pin.holds(value) for value in self.values(pin))
        if pin.key == "max_strategies":
            return True
        return not all(pin.holds(value) for sets in self._where(pin) for values in sets for value in values)

    def _where(self, pin: Pin) -> Iterator[list[set[Value]]]:
        """By regime, the values of a pin's key for each kind of layer that it names."""
        named = Pins((pin,)).of_layers(self.names, self.plain)
        for _, on in self.regimes:
            kinds = dict.fromkeys(kind for kind, asked in zip(on, named, strict=True) if asked)
            yield [self._values.get((kind, pin.key), set()) for kind in kinds]


def candidates(search: Search) -> tuple[Candidate, ...]:
    """Every candidate of a search, pins applied.

    Raises
    ------
    UsageError
        If the pins ask for what is not considered.
    """
    check_pins(search)
    found = (shape for shape in Considered(replace(search, regimes=(Pins(),))).candidates if shape.allowed(search.pins))
    return tuple(
        Candidate.of(shape.pp, shape.micro_batches, search.training, shape.schedule, shape.vpp) for shape in found
    )


def check_pins(search: Search) -> None:
    """Refuse pins that nothing considered satisfies: one by one, then all together.

    Raises
    ------
    UsageError
        Naming the pin, the values that are considered, and why that one is not among them.
    """
    if not search.pins.pins:
        return
    known = Considered(search)
    asked = search.pins.of_layers(known.names, known.plain)
    for pin in search.pins.pins:
        if pin.key != "max_strategies" and not any(pin.holds(value) for value in known.values(pin)):
            raise _refusal(known, pin)
    left = [shape for shape in known.candidates if shape.allowed(search.pins)]
    alike = {(s.pp, s.micro_batches, *(s.allowed(regime) for regime, _ in known.regimes)): s for s in left}
    if not any(_agree(known, asked, shape) for shape in alike.values()):
        raise UsageError(
            f"nothing satisfies the pins {', '.join(search.pins.texts)} together; considered are {listing(search)}",
            f"loosen one of them: pp x tp x cp x dp are the {search.cluster.devices} devices, dp divides a micro-batch"
            + (f"; or choose another executor than {search.executor.name}" if search.executor else ""),
        )


def listing(search: Search) -> str:
    """The values that are considered of every key that is pinned, in words."""
    known = Considered(search)
    values = {pin.key: _list(known.values(pin)) for pin in search.pins.pins if pin.key != "max_strategies"}
    return "; ".join(f"{key} {listed}" for key, listed in values.items()) or "all strategies"


def _agree(known: Considered, asked: list[tuple[Pin, ...]], shape: Shape) -> bool:
    """True if a candidate has a strategy for every layer, and these are no more than may differ."""
    most = known.search.space.max_strategies
    menu = {e: known.strategies(shape.pp, shape.micro_batches, e) for e in dict.fromkeys(known.extents)}
    for regime, on in known.regimes:
        if not shape.allowed(regime):
            continue
        groups = {(_bare((*mine, *theirs)), extent) for mine, (theirs, extent) in zip(asked, on, strict=True)}
        served = {
            frozenset((pins, mine) for pins, mine in groups if mine == extent and satisfies(s, pins))
            for extent, strategies in menu.items()
            for s in strategies
        }
        if groups <= frozenset().union(*served) and (most is None or _cover(groups, served, most)):
            return True
    return False


def _cover(left: set[Kind], served: set[frozenset[Kind]], most: int) -> bool:
    """True if at most so many strategies serve all that is left."""
    if not left:
        return True
    first = min(left, key=repr)
    return most > 0 and any(_cover(left - s, served, most - 1) for s in served if first in s)


def _bare(pins: Iterable[Pin]) -> tuple[Pin, ...]:
    """Pins without where they came from, so that equal ones are one."""
    return tuple(sorted({replace(pin, text="", where="") for pin in pins}, key=repr))


def _refusal(known: Considered, pin: Pin) -> UsageError:
    values, search = known.values(pin), known.search
    listed = f"{pin.key} {_list(values)}" if values else f"no {pin.key}"
    cause = f"pin {pin.text!r}: the search considers {listed}"
    if search.executor is not None:
        free = Considered(replace(search, free_space=FREE, regimes=(Pins(),)))
        if any(pin.holds(value) for value in free.values(pin)):
            name = search.executor.name
            shapes = _undivided(search, pin)
            return UsageError(
                f"{cause}; {name} runs nothing else here{': ' + shapes if shapes else ''}",
                "pin one of these, or choose another executor",
            )
    reason = _reason(search, pin)
    return UsageError(f"{cause}{': ' + reason if reason else ''}", "pin one of these, or drop the pin")


def _undivided(search: Search, pin: Pin) -> str:
    """What of the model a pinned tensor parallel degree does not divide, though it may be run elsewhere."""
    if pin.key != "tp" or pin.op != "=" or not isinstance(pin.value, int):
        return ""
    tp, graph = pin.value, search.graph
    heads = {op.kv_heads for layer in graph.layers for op in layer.operators if op.split == "heads" and op.kv_heads}
    found = [f"{count} key heads do not divide by tp {tp}" for count in sorted(heads) if count % tp]
    found += [f"the sequence of {graph.sequence} does not divide by tp {tp}"] * (graph.sequence % tp > 0)
    return "; ".join(found)


def _reason(search: Search, pin: Pin) -> str:
    """Why the one value that a pin asks for is not considered."""
    if pin.op == "=" and pin.key == "schedule":
        return f"--schedule {pin.value} searches it, --schedule any searches all"
    if pin.op == "=" and pin.key == "vpp":
        return _no_such_chunks(search, pin)
    if pin.op != "=" or not isinstance(pin.value, int):
        return ""
    value, cluster, batch = pin.value, search.cluster, search.training.global_batch
    if pin.key == "replicate":
        return "replicas are considered where a shard group would span nodes, over those of one (under zero3 of 8 too)"
    if pin.key == "micro_batches":
        if batch % value:
            return f"{value} does not divide the batch of {batch}"
        return f"no data parallel degree divides micro-batches of {batch // value}"
    if pin.key in ("ep", "etp"):
        return _no_such_experts(search, pin.key, value)
    if pin.key == "cp":
        return _no_such_context(search, value)
    if cluster.devices % value:
        return f"{value} does not divide the {cluster.devices} devices"
    if pin.key == "pp" and value > len(search.graph.layers):
        return f"{len(search.graph.layers)} layers do not fill {value} stages"
    if pin.key == "dp" and batch % value:
        return f"{value} does not divide the batch of {batch}"
    if pin.key == "tp" and cluster.node_size % value:
        sizes = sorted({node.devices for node in cluster.nodes})
        have = f"{' or '.join(map(str, sizes))} device{'s' * (sizes != [1])}"
        return f"tensor parallelism stays inside a node, and the nodes of {cluster.name} have {have}"
    return ""


def _no_such_experts(search: Search, key: str, value: int) -> str:
    """Why experts are not spread over, or cut into, so many."""
    counts = sorted({op.experts for layer in search.graph.layers for op in layer.operators if op.experts})
    if not counts:
        return f"{search.graph.name} has no experts"
    if key == "etp":
        return "each expert is cut as tensor parallelism cuts all else, or not at all"
    if odd := [count for count in counts if count % value]:
        return f"{odd[0]} experts do not divide by ep {value}"
    return ""


def _no_such_context(search: Search, value: int) -> str:
    """Why no layer shares its sequence among so many ranks."""
    sequence = search.graph.sequence
    if not search.graph.counts_positions:
        return f"{search.graph.name} has no sequence"
    if sequence < LONG:
        return f"context parallelism is considered for sequences of {LONG} or more, and this has {sequence}"
    if sequence % (2 * value):
        return f"the sequence of {sequence} does not divide by twice cp {value}"
    if sequence // value < LEAST:
        return f"context parallelism is considered down to {LEAST} positions on each rank"
    return ""


def _no_such_chunks(search: Search, pin: Pin) -> str:
    """Why no candidate has so many chunks per rank."""
    layers, devices = len(search.graph.layers), search.cluster.devices
    ranks = [pp for pp in divisors(devices) if isinstance(pin.value, int) and 1 < pp * pin.value <= layers]
    if not ranks:
        return f"{layers} layers do not fill {pin.value} chunks on each of several ranks of {devices} devices"
    have = [name for name in names() if any(pin.value in placements(name, pp, layers) for pp in ranks)]
    return f"{', '.join(search.schedules)} has other chunks; --schedule {' or '.join(have)} has these" if have else ""


def outside(search: Search, candidate: Candidate, strategies: Iterable[Strategy]) -> str:
    """Why a search does not consider a plan, or an empty string if it does.

    Parameters
    ----------
    candidate
        Its pipeline and micro-batches.
    strategies
        One for each layer. Which layers are on which stage does not matter: all cuts are considered.
    """
    pp, c, known = candidate.pp, candidate.micro_batches, Considered(search)
    if candidate.schedule not in search.schedules:
        return f"schedule {candidate.schedule}: {_reason(search, Pins.of([f'schedule={candidate.schedule}']).pins[0])}"
    for key, value, values in (
        ("pp", pp, divisors(search.cluster.devices)),
        ("vpp", candidate.vpp, placements(candidate.schedule, pp, len(known.names))),
        ("micro_batches", c, divisors(search.training.global_batch)),
    ):
        if value not in values:
            return f"{key} {value}: {_reason(search, Pins.of([f'{key}={value}']).pins[0])}"
    for extent, strategy in dict.fromkeys(zip(known.extents, strategies, strict=True)):
        if menu := known.strategies(pp, c, extent):
            found = strategy in menu
            odd = [axis for axis in AXES if strategy[axis.name] not in {s[axis.name] for s in menu}]
            if not found and odd and odd[0].kind == "degree":
                degree = strategy[odd[0].name]
                reason = _reason(search, Pins.of([f"{odd[0].name}={degree}"]).pins[0])
                return f"{odd[0].name} {degree}: {reason or 'no strategy of a layer has it'}"
            other = msgspec.structs.replace(strategy, sequence_parallel=not strategy.sequence_parallel)
            if not found and other in menu:
                return f"{strategy.name} {'with' if strategy.sequence_parallel else 'without'} sequence parallelism"
            if not found:
                named = f"{odd[0].title} {strategy[odd[0].name]}" if odd else strategy.name
                return f"{named} is not searched"
        else:
            return f"no data parallel degree divides micro-batches of {candidate.micro_batch}"
    return ""


def _list(values: list[Value]) -> str:
    return ", ".join(map(str, values))
