"""The records of one forward pass: operators, who feeds whom, and what autograd keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass
class Kept:
    """A storage that autograd keeps: first by which record, how large, of what type."""

    storage: int
    record: int
    nbytes: int
    dtype: torch.dtype
    packs: list[int] = field(default_factory=list)


@dataclass
class Record:
    """One operator as it ran.

    Attributes
    ----------
    op
        Name of the aten operator, or ``attention`` or ``dropout``.
    path
        Path of the innermost module that was running.
    inputs, output, outputs
        Storages read, first written, and all written (activations).
    written, producers
        Those inputs that a record wrote, and which record did last.
    parameters
        Storages of parameters read.
    shapes, shape
        Shapes of all tensor arguments in order, and of the output.
    moved
        Bytes read and written.
    real
        Whether a gradient can flow through it.
    leading
        How many of the inputs are queries, keys and values (a bias comes after them), for attention.
    times
        How often a loop ran it; shapes are those of one run, bytes moved those of all.
    """

    index: int
    op: str
    path: str
    inputs: tuple[int, ...]
    written: tuple[int, ...]
    producers: tuple[int, ...]
    output: int
    outputs: tuple[int, ...]
    parameters: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    moved: int
    real: bool
    causal: bool = False
    leading: int = 0
    times: int = 1

    @property
    def elements(self) -> int:
        """Elements written, by all its runs."""
        return prod(self.shape) * self.times

    @property
    def fed(self) -> list[tuple[int, int]]:
        """Storages read that some record wrote, each with the record that wrote it last."""
        return list(zip(self.written, self.producers, strict=True))


@dataclass
class Recording:
    """A forward pass: records in order, kept storages in order, and the sizes of parameters by storage.

    ``frozen`` are the storages of parameters without ``requires_grad``.
    """

    records: list[Record]
    kept: dict[int, Kept]
    parameters: dict[int, tuple[str, int]]
    batch: int
    sequence: int
    element_bytes: int
    frozen: frozenset[int] = frozenset()
