"""Device meshes and process groups of a plan.

Pipeline ranks take consecutive blocks of ranks, which lie in each as the dense grid of a strategy says. Every
tensor-parallel width has a mesh (pp, dp, tp) of its own over the whole world, made by all ranks in the same order.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from uniap_core.api import Span, arrange

from .relayout import Wires


@dataclass(frozen=True)
class Meshes:
    """The meshes of a world.

    Attributes
    ----------
    device
        ``cpu`` or ``cuda``.
    depth, width
        Pipeline ranks, and ranks of each: of its stages.
    by_tp
        Mesh (pp, dp, tp) for each tensor-parallel width, or (pp, dp, one, tp), where ``one`` has size 1 and stands
        for the shard group of replicated parameters.
    """

    device: str
    depth: int
    width: int
    by_tp: dict[int, DeviceMesh]

    @property
    def pipeline_rank(self) -> int:
        """Which of the ``depth`` pipeline ranks this rank belongs to."""
        return int(self.pipelines.place(dist.get_rank()))

    @property
    def index(self) -> int:
        """The rank's place in its stage."""
        return int(Span(self.width, 1).place(dist.get_rank()))

    @property
    def pipelines(self) -> Span:
        """Ranks that pass activations on: those at the same place of every pipeline rank."""
        return Span(self.depth, self.width)

    def dp(self, tp: int) -> DeviceMesh:
        """Ranks that hold the same part of a layer of this width."""
        return self.by_tp[tp]["dp"]

    def tp(self, tp: int) -> DeviceMesh:
        """Ranks that share a layer of this width."""
        return self.by_tp[tp]["tp"]

    def replicas(self, tp: int) -> DeviceMesh:
        """The data-parallel ranks as (replicate, shard) mesh with shards of size one."""
        return self.by_tp[tp]["dp", "one"]

    def stage_mesh(self, tp: int) -> DeviceMesh:
        """All ranks of the stage as (dp, tp)."""
        return self.by_tp[tp]["dp", "tp"]

    @property
    def pipeline(self) -> dist.ProcessGroup:
        """The rank's peers of the other pipeline ranks."""
        return self.by_tp[1].get_group("pp")

    @property
    def wires(self) -> Wires:
        """Groups of neighbouring ranks for moving activations."""
        return Wires(self.index, {tp: mesh.get_group("tp") for tp, mesh in self.by_tp.items() if tp > 1})


def make(device: str, depth: int, width: int, widths: set[int], *, replicas: bool) -> Meshes:
    """All meshes of a plan; every rank must call it.

    Parameters
    ----------
    depth, width
        Pipeline ranks, and ranks of each.
    widths
        Tensor-parallel widths of the plan's layers.
    replicas
        Whether FSDP keeps replicated parameters too (mixed precision), which needs the dimension ``one``.
    """
    sizes = {1} | widths | {math.lcm(a, b) for a, b in itertools.combinations(widths, 2)}
    meshes = {}
    shape: tuple[int, ...]
    names: tuple[str, ...]
    for tp in sorted(sizes):
        grid = arrange(tp=tp, dp=width // tp).dense
        if replicas:
            grid = grid.beside("one", 1, inside="dp")
        shape, names = grid.piled("pp", depth).mesh("cp")
        meshes[tp] = init_device_mesh(device, shape, mesh_dim_names=names)
    return Meshes(device, depth, width, meshes)
