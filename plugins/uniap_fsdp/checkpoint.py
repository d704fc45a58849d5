"""Distributed checkpoints, written under one plan and readable under any other plan of the model.

Entries are named by the parameter's name in the whole model and carry their own sharding, so torch's distributed
checkpoint re-cuts them on reading. Of tied parameters the owner's copy is written and all copies read it.

A checkpoint is data. Its index is a pickle, which is read here by an unpickler that knows the few types of an index
and nothing else, and its entries are tensors, which torch reads as weights alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from pickle import Unpickler, UnpicklingError
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import metadata, state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.tensor import DTensor

from uniap_core.api import BadFile

from .reduce import Held


def save(folder: str, step: int, held: Sequence[Held], optimizer: torch.optim.Optimizer) -> str:
    """Write ``folder/step-N`` after N iterations, whole or not at all; every rank calls it. Returns its path."""
    target = Path(folder) / f"step-{step}"
    partial = target.with_name(f".{target.name}.partial")
    state = _state([one for one in held if one.owner], held, optimizer)
    state["step"] = torch.tensor(step)
    state_dict_saver.save(state, checkpoint_id=str(partial))
    dist.barrier()
    if dist.get_rank() == 0:
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
    dist.barrier()
    return str(target)


def load(path: str, held: Sequence[Held], optimizer: torch.optim.Optimizer) -> int:
    """Read parameters and optimizer state in place; returns the number of iterations behind them.

    Raises
    ------
    BadFile
        If there is no checkpoint, or it is of another model or optimizer.
    """
    if not Path(path, ".metadata").is_file():
        raise BadFile(f"{path} is not a checkpoint", "name a folder step-N that a run has written")
    step = 0
    for chosen in _rounds(held):
        state = _state(chosen, held, optimizer)
        state["step"] = torch.tensor(0)
        try:
            state_dict_loader.load(state, storage_reader=Reader(path))
        except UnpicklingError as error:
            raise BadFile(f"{path}: {error}", "use checkpoints that a run has written") from None
        except (CheckpointException, RuntimeError, ValueError) as error:
            last = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
            raise BadFile(f"{path} does not fit this model: {last}", "resume with the model it was made of") from None
        step = int(state["step"])
    for part in optimizer.param_groups[0]["params"]:
        if _slots(optimizer) and optimizer.state[part]:
            optimizer.state[part]["step"].fill_(float(step))
    return step


class Reader(FileSystemReader):
    """Reads tensors that lie in the checkpoint's own folder, and unpickles nothing but an index of them."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The index.

        Raises
        ------
        UnpicklingError
            If it names anything that an index of tensors does not need.
        """
        with open(Path(self.path) / ".metadata", "rb") as file:
            index = _Index(file).load()
        if not isinstance(index, Metadata):
            raise UnpicklingError("its index is none")
        for name, entry in index.state_dict_metadata.items():
            if not isinstance(entry, TensorStorageMetadata):
                raise UnpicklingError(f"its entry {name!r} is no tensor")
        for stored in index.storage_data.values():
            if not isinstance(stored, _StorageInfo) or Path(stored.relative_path).name != str(stored.relative_path):
                raise UnpicklingError("an entry lies outside its folder")
        index.storage_meta = StorageMeta(load_id=self.load_id)
        return index


class _Index(Unpickler):
    """Knows the types of an index of tensors."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in KNOWN or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise UnpicklingError(f"its index names {module}.{name}, which no index of tensors does")


KNOWN = {
    *((metadata.__name__, name) for name in (
        "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta", "TensorProperties",
        "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    )),
    (_StorageInfo.__module__, "_StorageInfo"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
    ("collections", "OrderedDict"),
}  # fmt: skip
"""What an index of tensors is made of, besides dtypes; the paths are of its own files."""


def _rounds(held: Sequence[Held]) -> list[list[Held]]:
    """Parameters in rounds in which no name comes twice: copies of a tied one may be cut in different ways."""
    rounds: list[list[Held]] = []
    for one in held:
        free = next((chosen for chosen in rounds if all(other.name != one.name for other in chosen)), None)
        if free is None:
            rounds.append(free := [])
        free.append(one)
    # Reading is collective, so every rank takes as many rounds.
    most = torch.tensor(len(rounds), device=held[0].local.device if held else "cpu")
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return rounds + [[] for _ in range(int(most) - len(rounds))]


def _state(chosen: Sequence[Held], held: Sequence[Held], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    places = {id(one): part for one, part in zip(held, optimizer.param_groups[0]["params"], strict=False)}
    state: dict[str, Any] = {}
    for one in chosen:
        part = places[id(one)]
        state[f"model.{one.name}"] = one.parameter.detach()
        if not one.parameter.requires_grad:
            continue  # the optimizer has nothing of it
        slots = optimizer.state[part]
        if not slots and _slots(optimizer):
            slots["step"] = torch.zeros((), device=part.device)
            slots |= {key: torch.zeros_like(part) for key in _slots(optimizer)}
        for key in _slots(optimizer):
            state[f"optimizer.{one.name}.{key}"] = _like(slots[key], one.parameter)
    return state


def _slots(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    return () if isinstance(optimizer, torch.optim.SGD) else ("exp_avg", "exp_avg_sq")


def _like(x: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A local tensor cut as a parameter is."""
    if not isinstance(parameter, DTensor):
        return x
    return DTensor.from_local(
        x,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
