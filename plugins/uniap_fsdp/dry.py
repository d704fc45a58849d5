"""The dry run: every stage of a plan built on one CPU, without data, in a fake world of the plan's size."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from uniap_core.api import Inexpressible, Plan, RankLayout, UniapError, rank_layout, warden

from .check import check
from .wiring import Wiring


def layout(plan: Plan) -> RankLayout:
    """Build the first rank of every pipeline rank on the meta device in a fake world; say who works with whom.

    Catches what a plan's text cannot show: a model that does not build, layers that its forward pass does not
    reach, a split or a mesh that torch refuses.

    It runs in a process of its own: torch keeps meshes of a process group in caches that outlive the group.

    Raises
    ------
    Inexpressible
        If the executor cannot run the plan.
    """
    from . import parallel, source  # noqa: F401, here once: otherwise every child imports half of torch again

    check(plan)
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    with warnings.catch_warnings(), _pool(context) as apart:
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads; the child starts none of its own
        return apart.submit(_layout, plan).result()


def _pool(context: Any) -> ProcessPoolExecutor:
    """One process that does not outlive this one, however this one ends."""
    return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(os.getpid(),))


def _begin(parent: int) -> None:
    # The threads of OpenMP that the parent has used do not survive a fork: a loop over them would never end.
    torch.set_num_threads(1)
    warden.follow(parent)


def _layout(plan: Plan) -> RankLayout:
    width = plan.candidate.pipeline.devices_per_rank(plan.cluster.devices)
    groups: dict[str, dict[str, tuple[tuple[int, ...], ...]]] = {}
    parameters: dict[int, int] = {}
    notes: dict[str, None] = {}
    wiring = _wire(plan)
    for pipeline_rank in range(plan.pp):
        rank = pipeline_rank * width
        with _fake_world(rank, plan.cluster.devices):
            parameters[rank] = _build(plan, pipeline_rank, wiring, groups, notes)
    expected = rank_layout(plan)
    return RankLayout(
        world=plan.cluster.devices,
        stages=expected.stages,
        groups={layer.name: groups[layer.name] for layer in plan.layers},
        parameters=parameters,
        notes=tuple(notes),
        pipelines=expected.pipelines,
    )


def _wire(plan: Plan) -> Wiring:
    from .parallel import wire
    from .source import load

    return wire(load(plan.model))


def _build(
    plan: Plan,
    pipeline_rank: int,
    wiring: Wiring,
    groups: dict[str, dict[str, tuple[tuple[int, ...], ...]]],
    notes: dict[str, None],
) -> int:
    from .parallel import apply
    from .source import load

    try:
        built = apply(load(plan.model), plan, "cpu", wiring=wiring, dry=True)
    except UniapError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise Inexpressible(
            f"pipeline rank {pipeline_rank} cannot be built: {type(error).__name__}: {lines[-1]}",
            "pin other strategies for its layers; uniap run --help says how to report this",
        ) from error
    for layer in plan.layers:
        if plan.candidate.pipeline.chunks[layer.stage] == pipeline_rank:
            tp = layer.strategy.tp
            mesh = built.meshes.by_tp[tp].mesh[pipeline_rank].reshape(-1, tp)
            groups[layer.name] = {
                "tp": tuple(tuple(row) for row in mesh.tolist()),
                "dp": tuple(tuple(row) for row in mesh.T.tolist()),
            }
    notes.update(dict.fromkeys(built.notes))
    return sum(one.local.numel() for one in built.held)


@contextmanager
def _fake_world(rank: int, world: int) -> Iterator[None]:
    """A default process group in which collectives do nothing."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
        try:
            yield
        finally:
            dist.destroy_process_group()
