"""How tensor parallelism splits a layer: what the layer says itself, or what its traced operators say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, SequenceParallel, parallelize_module
from torch.utils._pytree import tree_flatten, tree_unflatten

from uniap_core.api import Inexpressible, Layer, Operator

from .models.blocks import Styles, row, vocab_columns, vocab_rows, within_heads


@runtime_checkable
class Splittable(Protocol):
    """A layer that says how tensor parallelism splits it.

    Attributes ``splits_input`` (for all activations that it reads, or one flag each) and ``splits_output`` tell
    whether it works on sequence shards at its borders; both are true unless said otherwise.
    """

    def styles(self, sequence_parallel: bool) -> Styles:
        """Parallel styles by path of submodule."""
        ...


@dataclass(frozen=True)
class Borders:
    """Whether a module's inputs (by place among its activations) and output may be split over the sequence."""

    inputs: tuple[bool, ...]
    output: bool

    def input(self, place: int) -> bool:
        """Whether the activation at a place is read in slices."""
        return self.inputs[min(place, len(self.inputs) - 1)]


WHOLE = Borders((False,), False)


@dataclass(frozen=True)
class Splitting:
    """The parallel styles of a module, with sequence parallelism and without, and its borders."""

    styles: Callable[[bool], Styles]
    borders: Borders


def splitting(module: nn.Module, path: str, layer: Layer) -> Splitting:
    """How to split one module of a layer.

    Parameters
    ----------
    path
        Where the module lies; names of a traced layer's operators are paths below the layer's module, or below the
        model if it has several.
    """
    if isinstance(module, Splittable):
        inputs = getattr(module, "splits_input", True)
        borders = Borders(inputs if isinstance(inputs, tuple) else (inputs,), getattr(module, "splits_output", True))
        return Splitting(module.styles, borders)
    found = {sub: op for op in layer.operators if (sub := _below(module, path, op.name)) is not None}
    if not any(op.split in ("column", "row", "vocab") for op in found.values()):
        return _unsplit(module)
    return _split(module, path, found)


def apply(module: nn.Module, styles: Styles, mesh: DeviceMesh) -> None:
    """Split a module in place, without communication: every rank has the whole values."""
    inner = {name: style for name, style in styles.items() if name}
    if inner:
        parallelize_module(module, mesh, inner, src_data_rank=None)
    if "" in styles:
        parallelize_module(module, mesh, styles[""], src_data_rank=None)


def _below(module: nn.Module, path: str, name: str) -> str | None:
    """The submodule that an operator runs in, relative to a module, if it is one of it that has parameters."""
    for candidate in (name.removeprefix(path).lstrip(".") if name.startswith(path) else None, name):
        if candidate is None:
            continue
        try:
            found = module.get_submodule(candidate)
        except AttributeError:
            continue
        if any(True for _ in found.parameters(recurse=False)):
            return candidate
    return None


def _unsplit(module: nn.Module) -> Splitting:
    """A module without products: a norm works on sequence shards, anything else on whole activations."""
    if "Norm" not in type(module).__name__:
        return Splitting(lambda _: {}, WHOLE)
    sliced: Styles = {"": SequenceParallel(use_local_output=True)}
    return Splitting(lambda sequence_parallel: sliced if sequence_parallel else {}, Borders((True,), True))


def _split(module: nn.Module, path: str, found: dict[str, Operator]) -> Splitting:
    shards = _shards(module, found)
    parents = {sub.rpartition(".")[0] for sub, op in found.items() if op.split == "column"}

    def styles(sequence_parallel: bool) -> Styles:
        _refuse_unknown(module, path, found)
        sp = sequence_parallel and shards.inputs[0]
        made: Styles = {}
        for sub, op in found.items():
            if op.split == "column":
                made[sub] = ColwiseParallel()
            elif op.split == "row":
                made[sub] = row(sp)
            elif op.split == "vocab":
                lookup = isinstance(module.get_submodule(sub), nn.Embedding)
                made[sub] = vocab_rows(sequence_parallel and shards.output) if lookup else vocab_columns(sp)
            elif op.kind == "norm" and op.split == "heads":
                made[sub] = within_heads()
            elif op.kind == "norm" and sp:
                made[sub] = SequenceParallel(use_local_output=True)
        if sp:
            made |= {parent: Gather() for parent in parents}
        return made

    return Splitting(styles, shards)


def _refuse_unknown(module: nn.Module, path: str, found: dict[str, Operator]) -> None:
    if any(hasattr(part, "has_relative_attention_bias") for part in module.modules()):
        raise Inexpressible(
            f"{path} adds a bias per head to its attention, which tensor parallelism would have to split",
            "pin tp=1 for the layer, or plan the model from the zoo",
        )
    for sub, op in found.items():
        if op.split in ("column", "row", "vocab") and not isinstance(
            module.get_submodule(sub), nn.Linear | nn.Embedding
        ):
            kind = type(module.get_submodule(sub)).__name__
            raise Inexpressible(
                f"tensor parallelism of {path}.{sub}, a {kind}, is not known here", "pin tp=1 for its layer"
            )


def _shards(module: nn.Module, found: dict[str, Operator]) -> Borders:
    """Whether all of a module works on sequence shards: its products are split and the rest are norms."""
    if list(found) == [""]:
        lookup = isinstance(module, nn.Embedding)
        return Borders((not lookup,), lookup)
    known = {id(p) for sub in found for p in module.get_submodule(sub).parameters(recurse=False)}
    split = all(op.kind == "norm" or op.split in ("column", "row") for op in found.values())
    beside = any(sub.rpartition(".")[0] == "" and op.split == "column" for sub, op in found.items())
    able = split and not beside and all(id(p) in known for p in module.parameters())
    return Borders((able, False), able)


class Gather(ParallelStyle):
    """Gather a module's first activation over the sequence, wherever it is among the arguments."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def gather(_: nn.Module, args: Any, kwargs: Any) -> Any:
            leaves, spec = tree_flatten((args, kwargs))
            at = next(i for i, x in enumerate(leaves) if hasattr(x, "requires_grad") and x.requires_grad)
            sharded = DTensor.from_local(leaves[at], device_mesh, [Shard(1)], run_check=False)
            leaves[at] = sharded.redistribute(placements=[Replicate()])
            return tree_unflatten(leaves, spec)

        module.register_forward_pre_hook(gather, with_kwargs=True)
        return module
