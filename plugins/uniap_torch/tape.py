"""What a forward pass did, event by event, and the records that the events amount to.

Storages go by keys: numbers that stand for one storage each within one tape. A piece of a tape can therefore be
written again with other keys (:mod:`uniap_torch.repeats`) or be folded (:mod:`uniap_torch.loops`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .records import Kept, Record


@dataclass(frozen=True, slots=True)
class Ran:
    """An operator that ran.

    Attributes
    ----------
    reads, makes
        Keys of its tensors: arguments in order, and results.
    weights
        Those keys read that are parameters.
    floating
        Whether any result is of a floating type.
    moved
        Bytes read and written, of all its runs.
    times
        How often a loop ran it; shapes are those of one run.
    """

    op: str
    path: str
    reads: tuple[Any, ...]
    makes: tuple[Any, ...]
    weights: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    moved: int
    floating: bool
    causal: bool = False
    times: int = 1

    def renamed(self, name: Callable[[Any], Any], path: str) -> Ran:
        """The same with other keys, elsewhere."""
        keys = (tuple(map(name, group)) for group in (self.reads, self.makes, self.weights))
        reads, makes, weights = keys
        return Ran(
            self.op,
            path,
            reads,
            makes,
            weights,
            self.shapes,
            self.shape,
            self.moved,
            self.floating,
            self.causal,
            self.times,
        )


@dataclass(frozen=True, slots=True)
class Packed:
    """A storage that autograd keeps."""

    key: Any
    nbytes: int
    dtype: Any

    def renamed(self, name: Callable[[Any], Any]) -> Packed:
        """The same with another key."""
        return replace(self, key=name(self.key))


Event = Ran | Packed


@dataclass
class _State:
    """Records so far, kept tensors, who wrote what last, and kept tensors that no record claims yet."""

    records: list[Record] = field(default_factory=list)
    kept: dict[int, Kept] = field(default_factory=dict)
    writer: dict[int, int] = field(default_factory=dict)
    pending: list[Packed] = field(default_factory=list)

    def settle(self, record: Record | None, touched: set[int]) -> None:
        """Give each pending tensor to this record if it touches it, else to the one before."""
        for event in self.pending:
            before = max(0, len(self.records) - (1 if record is None else 2))
            index = record.index if record is not None and event.key in touched else before
            if event.key not in self.kept:
                self.kept[event.key] = Kept(event.key, index, event.nbytes, event.dtype)
            self.kept[event.key].packs.append(index)
        self.pending.clear()


def assemble(events: Sequence[Event], parameters: Mapping[int, Any]) -> tuple[list[Record], dict[int, Kept]]:
    """Records in order, and kept storages in order.

    Parameters
    ----------
    parameters
        Keys of parameters.
    """
    state = _State()
    for event in events:
        if isinstance(event, Packed):
            state.pending.append(event)
            continue
        if event.op == "dropout":
            state.settle(None, set())
        record = _record(event, state, parameters)
        state.records.append(record)
        state.settle(record, {*event.reads, *event.makes})
        if event.op != "dropout":
            state.writer.update(dict.fromkeys(event.makes, record.index))
    state.settle(None, set())
    return state.records, state.kept


def _record(event: Ran, state: _State, parameters: Mapping[int, Any]) -> Record:
    inputs = tuple(s for s in dict.fromkeys(event.reads) if s not in parameters)
    weights = tuple(s for s in dict.fromkeys(event.reads) if s in parameters)
    written = tuple(s for s in inputs if s in state.writer)
    producers = tuple(state.writer[s] for s in written)
    fed = any(state.records[p].real for p in producers)
    return Record(
        index=len(state.records),
        op=event.op,
        path=event.path,
        inputs=inputs,
        written=written,
        producers=producers,
        output=event.makes[0],
        outputs=tuple(dict.fromkeys(event.makes)),
        parameters=weights,
        shapes=event.shapes,
        shape=event.shape,
        moved=event.moved,
        real=event.op != "dropout" and event.floating and (fed or bool(weights)),
        causal=event.causal,
        leading=len(set(event.reads[:3])) if event.op == "attention" else len(inputs),
        times=event.times,
    )
