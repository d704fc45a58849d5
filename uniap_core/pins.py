"""Pins: what the user decides, so that the rest is solved around it.

A pin is ``KEY OP VALUE`` with an operator of ``=``, ``<=``, ``>=``, ``!=``, optionally for some layers only:
``pp=4``, ``tp<=4``, ``schedule=zbv``, ``layers.0-15:recompute=full``, ``block*:sharding=zero3``, ``max_strategies=2``,
``uniform``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import msgspec
import numpy as np

from .axes import EXPERT
from .costs import CostTables, LayerCosts
from .errors import BadValue, UsageError
from .modules import MODULES, misspelt
from .schedules import names
from .strategy import AXES, DEGREES, Strategy, StrategySpace
from .tables import Array, EdgeTable, Kinds, numbered

CANDIDATE_KEYS = ("pp", "vpp", "schedule", "micro_batches", "c")
PLAN_KEYS = (*CANDIDATE_KEYS, "max_strategies")
"""Keys that are one number for a whole plan."""

WORDS = {axis.name: axis.words for axis in AXES if axis.kind == "word"}
OPERATORS: dict[str, Callable[[object, object], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
}

_PIN = re.compile(r"(?:(?P<where>[^:=<>!]+):)?(?P<key>[a-z_]+)\s*(?P<op><=|>=|!=|=)\s*(?P<value>[\w+-]+)")
_RANGE = re.compile(r"layers\.(?:(?P<first>\d+)-(?P<last>\d+)|(?P<only>\d+)|\*)")


@dataclass(frozen=True)
class Pin:
    """One parsed pin; ``where`` is a pattern of layer names, ``layers.A-B`` by position among blocks, or empty."""

    text: str
    key: str
    op: str
    value: int | str
    where: str = ""

    def holds(self, actual: int | str) -> bool:
        """True if a value satisfies the pin."""
        return OPERATORS[self.op](actual, self.value)


def parse(text: str) -> Pin:
    """Parse one pin.

    Raises
    ------
    UsageError
        If it is not a pin, with the grammar.
    """
    if text == "uniform":
        return Pin(text, "max_strategies", "=", 1)
    match = _PIN.fullmatch(text.strip())
    keys = (*CANDIDATE_KEYS, *DEGREES, *WORDS, "max_strategies")
    if match is None or match["key"] not in keys:
        raise UsageError(
            f"{text!r} is not a pin",
            f"write [LAYERS:]KEY=VALUE with KEY of {', '.join(keys)}, e.g. pp=4, 'tp<=4', 'layers.0-15:recompute=full'",
        )
    key, op, value = match["key"], match["op"], match["value"]
    key = {"c": "micro_batches"}.get(key, key)
    where = (match["where"] or "").strip()
    if key in PLAN_KEYS and where:
        raise UsageError(f"pin {text!r}: {key} is one number for the whole plan", "drop the layer pattern")
    if key == "schedule":
        if value not in names() or op not in ("=", "!="):
            raise UsageError(f"pin {text!r} is not understood", f"schedule is one of {', '.join(names())}")
        return Pin(text, key, op, value, where)
    if key in WORDS:
        sets = key == "recompute" and not misspelt(value)
        if not (value in WORDS[key] or sets) or op not in ("=", "!="):
            more = f", or modules joined by +: {', '.join(MODULES[1:])}" if key == "recompute" else ""
            raise UsageError(f"pin {text!r} is not understood", f"{key} is one of {', '.join(WORDS[key])}{more}")
        return Pin(text, key, op, value, where)
    if key == "max_strategies" and op not in ("=", "<="):
        raise UsageError(f"pin {text!r} is not understood", "max_strategies is a limit: max_strategies=2")
    if not value.isdigit() or int(value) < 1:
        raise UsageError(f"pin {text!r}: {value!r} is not a degree", "give a whole number, 1 or more")
    return Pin(text, key, op, int(value), where)


@dataclass(frozen=True)
class Pins:
    """All pins of a search; empty means free."""

    pins: tuple[Pin, ...] = ()

    @classmethod
    def of(cls, texts: tuple[str, ...] | list[str]) -> Pins:
        """Parse many pins."""
        return cls(tuple(parse(text) for text in texts))

    @property
    def texts(self) -> tuple[str, ...]:
        """The pins as given."""
        return tuple(pin.text for pin in self.pins)

    def without(self, pin: Pin) -> Pins:
        """The others: for pricing one pin."""
        return Pins(tuple(other for other in self.pins if other is not pin))

    def allows(
        self, pp: int, micro_batches: int | None = None, schedule: str | None = None, vpp: int | None = None
    ) -> bool:
        """True if a candidate agrees with the pins, as far as it is told (``None`` agrees with any)."""
        told = {"pp": pp, "micro_batches": micro_batches, "schedule": schedule, "vpp": vpp}
        values = {key: value for key, value in told.items() if value is not None}
        return all(pin.holds(values[pin.key]) for pin in self.pins if pin.key in values)

    def narrow(self, space: StrategySpace) -> StrategySpace:
        """The space with ``uniform`` and ``max_strategies`` applied, never widened; the other pins act on tables."""
        limits = [int(pin.value) for pin in self.pins if pin.key == "max_strategies"]
        if space.max_strategies is not None:
            limits.append(space.max_strategies)
        return msgspec.structs.replace(space, max_strategies=min(limits)) if limits else space

    def named_sets(self) -> tuple[str, ...]:
        """Sets of modules that pins ask to be recomputed."""
        asked = (str(pin.value) for pin in self.pins if pin.key == "recompute" and pin.op == "=")
        return tuple(dict.fromkeys(name for name in asked if name not in WORDS["recompute"]))

    def restrict(self, tables: CostTables, plain: Container[int] = ()) -> CostTables:
        """The tables with only the strategies that the pins leave; ``plain`` as in :meth:`of_layers`.

        Raises
        ------
        BadValue
            If a layer has none left, naming it.
        """
        found = self.of_layers([layer.name for layer in tables.layers], plain)
        if not any(found):
            return tables
        keep: dict[tuple[object, ...], Array] = {}
        masks = []
        for layer, mine in zip(tables.layers, found, strict=True):
            key = (layer.strategies, mine)
            if key not in keep:
                keep[key] = np.flatnonzero([satisfies(s, mine) for s in layer.strategies])
            if not len(keep[key]):
                raise BadValue(*_nothing_left(layer, mine))
            masks.append(keep[key])
        return select(tables, masks)

    def of_layers(self, names: list[str], plain: Container[int] = ()) -> list[tuple[Pin, ...]]:
        """The pins on the strategy of each layer.

        Parameters
        ----------
        plain
            Layers (by number) without experts: a pin on those of all layers does not mean them.

        Raises
        ------
        UsageError
            If a pin matches no layer.
        """
        pins = [pin for pin in self.pins if pin.key in (*DEGREES, *WORDS)]
        found: list[list[Pin]] = [[] for _ in names]
        for pin in pins:
            matched = [u for u in range(len(names)) if not pin.where or _matches(pin.where, u, names)]
            if not matched:
                raise UsageError(f"pin {pin.text!r} matches no layer", f"layers are {names[0]} ... {names[-1]}")
            for u in matched:
                if pin.where or pin.key not in EXPERT or u not in plain:
                    found[u].append(pin)
        return [tuple(mine) for mine in found]


def _nothing_left(layer: LayerCosts, pins: tuple[Pin, ...]) -> tuple[str, str]:
    """What is said of a layer that pins leave nothing, and what it has without them."""
    asked = ", ".join(pin.text for pin in pins)
    has = {key: dict.fromkeys(s[key] for s in layer.strategies) for key in dict.fromkeys(p.key for p in pins)}
    known = "; ".join(f"{key} {', '.join(map(str, values))}" for key, values in has.items())
    return f"the pins {asked} leave layer {layer.name} no strategy: it has {known}", "loosen one of them"


def select(tables: CostTables, chosen: list[Array]) -> CostTables:
    """The tables with only some strategies of each layer.

    Parameters
    ----------
    chosen
        Per layer, the indices of the strategies to keep.
    """
    kinds = numbered((kind, index.tobytes()) for kind, index in zip(tables.kinds.layers, chosen, strict=True))
    ends = [(kinds[e.source], kinds[e.target]) for e in tables.edges]
    flows = numbered(zip(tables.kinds.edges, ends, strict=True))
    layers: dict[int, LayerCosts] = {}
    cropped: dict[int, tuple[Array, Array]] = {}
    for kind, layer, index in zip(kinds, tables.layers, chosen, strict=True):
        if kind not in layers:
            layers[kind] = _pick(layer, index)
    for flow, edge in zip(flows, tables.edges, strict=True):
        if flow not in cropped:
            cells = np.ix_(chosen[edge.source], chosen[edge.target])
            cropped[flow] = edge.reshard_s[cells], edge.cross_s[cells]
    return replace(
        tables,
        layers=tuple(replace(layers[kind], name=t.name) for kind, t in zip(kinds, tables.layers, strict=True)),
        edges=tuple(
            EdgeTable(e.source, e.target, e.tensor, *cropped[flow]) for flow, e in zip(flows, tables.edges, strict=True)
        ),
        alike=Kinds(kinds, flows),
    )


def _pick(layer: LayerCosts, index: Array) -> LayerCosts:
    return replace(
        layer,
        strategies=tuple(layer.strategies[k] for k in index),
        forward_s=layer.forward_s[:, index],
        backward_s=layer.backward_s[:, index],
        iteration_s=layer.iteration_s[:, index],
        state_bytes=layer.state_bytes[index],
        stash_bytes=layer.stash_bytes[index],
        time_parts_s={name: table[:, index] for name, table in layer.time_parts_s.items()},
        state_parts_bytes={name: table[index] for name, table in layer.state_parts_bytes.items()},
        workspace_bytes=None if layer.workspace_bytes is None else layer.workspace_bytes[index],
    )


def satisfies(strategy: Strategy, pins: tuple[Pin, ...]) -> bool:
    """True if a strategy agrees with all pins."""
    return all(pin.holds(strategy[pin.key]) for pin in pins)


def _matches(where: str, position: int, names: list[str]) -> bool:
    """``layers.A-B`` counts the repeated blocks from 0 (names that end in a number); else a pattern of names."""
    by_position = _RANGE.fullmatch(where)
    if by_position is None:
        return fnmatchcase(names[position], where)
    blocks = [u for u, name in enumerate(names) if re.search(r"\d$", name)]
    if position not in blocks:
        return False
    number = blocks.index(position)
    if by_position["only"] is not None:
        return number == int(by_position["only"])
    if by_position["first"] is None:
        return True
    return int(by_position["first"]) <= number <= int(by_position["last"])
