"""Moving activations between the layouts of neighbouring layers.

A layout cuts (batch, rows) of an activation into one box per rank of a stage; ranks of one tensor-parallel group
hold the same box, or slices of its rows under sequence parallelism. The gradient of an activation lies like the
activation itself, so the backward pass of a move is the opposite move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist

from uniap_core.api import Layout, Span


@dataclass(frozen=True)
class Move:
    """What one rank sends and receives: boxes (batch slice, row slice) in coordinates of its own tensors.

    ``group`` is the size of the blocks of neighbouring ranks that exchange data, 1 if nobody needs to; then
    ``receive`` has the one box to cut out of what the rank has.
    """

    group: int
    shape: tuple[int, int]
    send: tuple[tuple[slice, slice] | None, ...]
    receive: tuple[tuple[slice, slice] | None, ...]


@lru_cache(maxsize=4096)
def plan_move(a: Layout, b: Layout, rank: int, batch: int, rows: int) -> Move:
    """The move of one rank (index within its stage) from layout ``a`` to ``b``.

    Parameters
    ----------
    batch, rows
        Samples and rows of the whole activation.
    """
    block = _block(a, b)
    peers = block.peers(rank)
    shape = _shape(b, rank, batch, rows)
    if all(_holder(a, b, r, peers, batch, rows) == {r} for r in peers):
        have, want = _box(a, rank, batch, rows), _box(b, rank, batch, rows)
        return Move(1, shape, (), ((_within(want[0], have[0]), _within(want[1], have[1])),))
    send: list[tuple[slice, slice] | None] = []
    receive: list[tuple[slice, slice] | None] = []
    for peer in peers:
        send.append(_piece(a, b, rank, peer, batch, rows, owner=True))
        receive.append(_piece(a, b, peer, rank, batch, rows, owner=False))
    return Move(block.size, shape, tuple(send), tuple(receive))


def _block(a: Layout, b: Layout) -> Span:
    """Neighbouring ranks that have the same samples under both layouts, all together."""
    return Span(math.lcm(a.samples.stride, b.samples.stride), 1)


def _box(layout: Layout, rank: int, batch: int, rows: int) -> tuple[slice, slice]:
    """The samples and the rows of a rank of the stage."""
    return layout.samples.part(rank, batch), layout.rows.part(rank, rows)


def _shape(layout: Layout, rank: int, batch: int, rows: int) -> tuple[int, int]:
    b, r = _box(layout, rank, batch, rows)
    return b.stop - b.start, r.stop - r.start


def _source(a: Layout, target: int, source: int) -> int:
    """Which holder of what a rank holds serves another: itself if it can, else the one at the same place."""
    alike = a.grid.span("tp")
    holders = alike.peers(source)
    return target if target in holders else holders[alike.place(target)]


def _piece(
    a: Layout, b: Layout, source: int, target: int, batch: int, rows: int, *, owner: bool
) -> tuple[slice, slice] | None:
    """The box that ``source`` gives ``target``, in coordinates of the owner's or the receiver's tensor."""
    if not a.split and _source(a, target, source) != source:
        return None
    have, want = _box(a, source, batch, rows), _box(b, target, batch, rows)
    box = _cross(have[0], want[0]), _cross(have[1], want[1])
    if box[0] is None or box[1] is None:
        return None
    frame = have if owner else want
    return _within(box[0], frame[0]), _within(box[1], frame[1])


def _holder(a: Layout, b: Layout, target: int, peers: range, batch: int, rows: int) -> set[int]:
    return {p for p in peers if _piece(a, b, p, target, batch, rows, owner=True) is not None}


def _cross(x: slice, y: slice) -> slice | None:
    start, stop = max(x.start, y.start), min(x.stop, y.stop)
    return slice(start, stop) if start < stop else None


def _within(x: slice, frame: slice) -> slice:
    return slice(x.start - frame.start, x.stop - frame.start)


@dataclass(frozen=True)
class Wires:
    """A rank's place in its stage and the process groups of its blocks of neighbours, by block size."""

    rank: int
    groups: dict[int, dist.ProcessGroup]


def relayout(x: torch.Tensor, a: Layout, b: Layout, batch: int, rows: int, wires: Wires) -> torch.Tensor:
    """Move an activation of shape (batch, rows, ...) from layout ``a`` to ``b``; differentiable.

    Parameters
    ----------
    x
        This rank's box under ``a``.
    batch, rows
        Size of the whole activation; rows is 1 for an activation without rows.
    """
    if a == b or _block(a, b).size == 1:
        return x
    moved: torch.Tensor = _Relayout.apply(x, a, b, batch, rows, wires)  # type: ignore[no-untyped-call]
    return moved


class _Relayout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: Layout, b: Layout, batch: int, rows: int, wires: Wires) -> torch.Tensor:
        ctx.move = a, b, batch, rows, wires
        return _exchange(x, a, b, batch, rows, wires)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        a, b, batch, rows, wires = ctx.move
        return _exchange(grads[0], b, a, batch, rows, wires), None, None, None, None, None


def _exchange(x: torch.Tensor, a: Layout, b: Layout, batch: int, rows: int, wires: Wires) -> torch.Tensor:
    move = plan_move(a, b, wires.rank, batch, rows)
    flat = x.dim() == 2 and not (a.split or b.split)
    y = x.unsqueeze(1) if flat else x
    if move.group == 1:
        assert move.receive[0] is not None
        done = y[move.receive[0]].contiguous()
    else:
        done = _all_to_all(y, move, wires.groups[move.group])
    return done.squeeze(1) if flat else done


def _all_to_all(x: torch.Tensor, move: Move, group: dist.ProcessGroup) -> torch.Tensor:
    tail = x.shape[2:]
    width = math.prod(tail)

    def count(box: tuple[slice, slice] | None) -> int:
        return 0 if box is None else (box[0].stop - box[0].start) * (box[1].stop - box[1].start) * width

    parts = [x[box].reshape(-1) for box in move.send if box is not None]
    out = torch.cat(parts) if parts else x.new_empty(0)
    taken = [count(box) for box in move.receive]
    incoming = x.new_empty(sum(taken))
    dist.all_to_all_single(incoming, out, taken, [count(box) for box in move.send], group=group)
    done = x.new_empty((*move.shape, *tail))
    for box, part in zip(move.receive, incoming.split(taken), strict=True):
        if box is not None:
            target = done[box]
            target.copy_(part.view(target.shape))
    return done


def spread(x: torch.Tensor, a: Layout, b: Layout, wires: Wires) -> torch.Tensor:
    """The move of an activation that does not grow with the batch: every rank has all of it.

    Its gradient is a sum over the batch, so what the ranks of ``b`` have are shares that the ranks of ``a`` must
    split anew.
    """
    if a.samples == b.samples:
        return x
    moved: torch.Tensor = _Spread.apply(x, a, b, wires)  # type: ignore[no-untyped-call]
    return moved


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: Layout, b: Layout, wires: Wires) -> torch.Tensor:
        ctx.move = a, b, wires
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        a, b, wires = ctx.move
        size = _block(a, b).size
        total = grads[0] / b.samples.stride
        dist.all_reduce(total, group=wires.groups[size])
        return total * (a.samples.stride / size), None, None, None
