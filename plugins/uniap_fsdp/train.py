"""The training loop of one rank."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.distributed as dist

from uniap_core.api import Job, Plan

from . import checkpoint
from .data import Field, Stream
from .parallel import Parallel, apply
from .reduce import clip, hand_over, optimizer
from .source import Source, load
from .where import Where

WARM = 2
"""Iterations that do not count for measured times: allocations and connections are made in them."""


@dataclass
class Measured:
    """What one rank measured.

    Attributes
    ----------
    busy_s
        Seconds per micro-batch inside forward and backward passes of each of the rank's stages, by iteration.
    memory_bytes
        Allocator's peak (CUDA), or growth of the largest resident set (CPU).
    """

    first_step: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    busy_s: list[tuple[float, ...]] = field(default_factory=list)
    memory_bytes: float = 0.0
    checkpoint: str = ""

    def settled(self, values: list[float]) -> float:
        """Median without the first iterations."""
        return statistics.median(values[WARM:] or values or [0.0])


def train(
    plan: Plan,
    job: Job,
    kind: str,
    *,
    source: Source | None = None,
    where: Where | None = None,
    tell: Callable[[int, float, float, float], None] | None = None,
) -> tuple[Measured, Parallel]:
    """Train under a plan; every rank of the default process group calls it.

    Parameters
    ----------
    kind
        ``cpu`` or ``cuda``.
    source
        The model (default: the plan's own).
    tell
        Called after each iteration with step, loss, norm and seconds.
    """
    where = where or Where()
    before = _memory(kind)
    where.set("building the model")
    source = source or load(plan.model)
    if plan.precision == "tf32":
        torch.set_float32_matmul_precision("high")
    parallel = apply(source, plan, kind, seed=job.seed, where=where)
    opt = optimizer(plan.training.optimizer, parallel.held, job.learning_rate)
    measured = Measured()
    if job.resume:
        where.set(f"reading the checkpoint {job.resume}")
        measured.first_step = checkpoint.load(job.resume, parallel.held, opt)
    wiring = parallel.route.wiring
    shapes = [wiring.shape(port) for port in wiring.result]
    classes = tuple(shape.sizes[-1] for shape in shapes)
    task = source.task
    if not task.targets:
        rows = [shape.sizes[1:-1] for shape in shapes]
        task = replace(task, targets=tuple(Field(f"classes{i}", row, 0) for i, row in enumerate(rows)))
    stream = Stream(task, plan.global_batch, job.seed, classes, job.data)
    torch.manual_seed(job.seed + dist.get_rank())
    for step in range(measured.first_step, job.steps):
        where.set(f"step {step + 1}")
        start = time.perf_counter()
        loss, norm = _iterate(parallel, opt, stream, step, job.clip_norm, where)
        measured.losses.append(loss)
        measured.norms.append(norm)
        measured.step_s.append(time.perf_counter() - start)
        measured.busy_s.append(tuple(pipe.clock.take() / plan.micro_batches for pipe in parallel.pipes))
        if tell is not None:
            tell(step, loss, norm, measured.step_s[-1])
        done = step + 1
        if job.checkpoint and (done == job.steps or (job.checkpoint_every and done % job.checkpoint_every == 0)):
            where.set("writing a checkpoint")
            measured.checkpoint = checkpoint.save(job.checkpoint, done, parallel.held, opt)
    measured.memory_bytes = _memory(kind) - (before if kind == "cpu" else 0.0)
    where.set("done")
    return measured, parallel


def _iterate(
    parallel: Parallel, opt: torch.optim.Optimizer, stream: Stream, step: int, limit: float | None, where: Where
) -> tuple[float, float]:
    device = parallel.pipes[0].device
    inputs, targets = stream.step(step)
    for one in parallel.held:
        one.parameter.grad = None
    share = parallel.step(
        {name: x.to(device) for name, x in inputs.items()}, tuple(target.to(device) for target in targets)
    )
    where.set("gradient norm and optimizer")
    norm = clip(parallel.held, parallel.meshes.width, limit)
    hand_over(parallel.held, opt)
    opt.step()
    total = share.detach() / parallel.replicas_of_loss
    dist.all_reduce(total)
    return float(total), float(norm)


def _memory(kind: str) -> float:
    if kind == "cuda":
        return float(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
