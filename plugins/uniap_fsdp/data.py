"""What a model is fed: synthetic samples, or token ids from a file, the same on every rank for a given step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from uniap_core.api import BadFile


@dataclass(frozen=True)
class Field:
    """A tensor per sample: integers below ``high``, or normal numbers if that is 0."""

    name: str
    shape: tuple[int, ...]
    high: int


@dataclass(frozen=True)
class Task:
    """A model's inputs, and the classes that its results are scored against.

    Attributes
    ----------
    follows
        The input that the (one) target is the continuation of: a language model's next token.
    """

    inputs: tuple[Field, ...]
    targets: tuple[Field, ...]
    follows: str = ""

    def example(self, samples: int) -> dict[str, torch.Tensor]:
        """Inputs of the right shapes and types."""
        return {f.name: torch.zeros(samples, *f.shape, dtype=torch.long if f.high else None) for f in self.inputs}


@dataclass(frozen=True)
class Stream:
    """The samples of a job.

    Attributes
    ----------
    classes
        Number of classes of each result, for targets that are not token ids.
    tokens
        Path of a ``.npy`` file of token ids, or empty.
    """

    task: Task
    samples: int
    seed: int
    classes: tuple[int, ...]
    tokens: str = ""

    def step(self, step: int) -> tuple[dict[str, torch.Tensor], tuple[torch.Tensor, ...]]:
        """Inputs and targets of one iteration, for the global batch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        inputs = {field.name: self._draw(field, field.high, generator) for field in self.task.inputs}
        if not self.task.follows:
            made = zip(self.task.targets, self.classes, strict=False)
            return inputs, tuple(self._draw(field, classes, generator) for field, classes in made)
        source = next(field for field in self.task.inputs if field.name == self.task.follows)
        rows = source.shape[0]
        longer = Field(source.name, (rows + 1,), source.high)
        text = self._read(step, rows + 1) if self.tokens else self._draw(longer, source.high, generator)
        inputs[source.name] = text[:, :-1].contiguous()
        return inputs, (text[:, 1:].contiguous(),)

    def _draw(self, field: Field, high: int, generator: torch.Generator) -> torch.Tensor:
        shape = (self.samples, *field.shape)
        if not high:
            return torch.randn(shape, generator=generator)
        return torch.randint(0, high, shape, generator=generator)

    def _read(self, step: int, rows: int) -> torch.Tensor:
        ids = self._file
        count = self.samples * rows
        start = step * count % (len(ids) - count + 1)
        return torch.from_numpy(ids[start : start + count].astype("int64")).view(self.samples, rows)

    @cached_property
    def _file(self) -> Any:
        import numpy

        try:
            ids = numpy.load(self.tokens, mmap_mode="r", allow_pickle=False).reshape(-1)
        except (OSError, ValueError) as error:
            raise BadFile(f"{self.tokens} holds no token ids: {error}", "give a .npy file of integers") from None
        high = next(field.high for field in self.task.inputs if field.name == self.task.follows)
        needed = self.samples * (self.task.inputs[0].shape[0] + 1)
        if ids.dtype.kind not in "iu" or len(ids) < needed:
            raise BadFile(
                f"{self.tokens} has {len(ids)} values of type {ids.dtype}", f"give at least {needed} integers"
            )
        if int(ids[:needed].max()) >= high:
            raise BadFile(f"{self.tokens} has token ids of {high} and more", "use the model's own vocabulary")
        return ids
