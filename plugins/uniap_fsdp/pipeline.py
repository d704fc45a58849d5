"""torch's pipeline stage and schedules, with what they lack for a plan.

The stage of torch before 2.15 keeps a receive buffer for every micro-batch of the iteration all the time; here buffers
live only while their micro-batch is in flight, as the plan's memory says (and as later versions do themselves). torch's
1F1B refuses fewer micro-batches than stages, which a plan may have. Where a schedule splits backward passes, no hook of
FSDP sees the gradients of weights, so they are reduced when all of a stage are there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.pipelining.schedules import (
    PipelineScheduleMulti,
    PipelineScheduleSingle,
    ScheduleDualPipeV,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
    ScheduleZBVZeroBubble,
)

from .meshes import Meshes
from .reduce import Tie, reduce_replicated, reduce_ties
from .shard import Unit
from .stage import Stage


class Ties:
    """The tied parameters of a rank, whose gradients are summed when all of its stages have theirs."""

    def __init__(self, ties: tuple[Tie, ...], places: Sequence[int]) -> None:
        self.ties, self.places = ties, frozenset(places)
        self._done: set[int] = set()

    def done(self, place: int) -> None:
        """Say that the gradients of a stage are complete but for the ties."""
        self._done.add(place)
        if self._done == self.places:
            self._done.clear()
            reduce_ties(self.ties)


class Pipe(PipelineStage):
    """A stage of the pipeline that times itself, tells FSDP which micro-batch is the last, and reduces gradients."""

    def __init__(self, body: nn.Module, stage: Stage, meshes: Meshes, device: torch.device, ties: Ties) -> None:
        def example(boundary: int) -> tuple[torch.Tensor, ...]:
            route = stage.route
            return tuple(
                torch.empty(
                    route.local_shape(port, route.crossing(port), meshes.index), dtype=route.dtype, device="meta"
                ).requires_grad_()
                for port in route.boundaries[boundary]
            )

        place = stage.place
        inputs = example(place - 1) if place else ()
        outputs = (torch.empty((), device="meta").requires_grad_(),) if stage.last else example(place)
        super().__init__(
            body, place, stage.route.depth, device, input_args=inputs, output_args=outputs, group=meshes.pipeline
        )
        self.units: list[Unit] = list(stage.units.values())
        self.root = stage if isinstance(stage, FSDPModule) else None
        self.split, self.meshes, self.ties = stage.route.split, meshes, ties
        self.clock = Stopwatch(device)

    def forward_one_chunk(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        with self.clock:
            return super().forward_one_chunk(*args, **kwargs)

    def backward_one_chunk(self, bwd_chunk_id: int, *args: Any, **kwargs: Any) -> None:  # noqa: D102
        with self.clock:
            super().backward_one_chunk(bwd_chunk_id, *args, **kwargs)
        _drop(self.args_recv_info.get(bwd_chunk_id, ()))
        _drop(self.grad_recv_info.get(bwd_chunk_id, ()))

    def backward_weight_one_chunk(self, bwd_chunk_id: int, *args: Any, **kwargs: Any) -> None:  # noqa: D102
        with self.clock:
            super().backward_weight_one_chunk(bwd_chunk_id, *args, **kwargs)

    def backward_maybe_with_nosync(  # noqa: D102
        self, backward_type: Any, bwd_kwargs: dict[str, Any], last_backward: bool = False
    ) -> Any:
        self._tell(last_backward and not self.split)
        done = super().backward_maybe_with_nosync(backward_type, bwd_kwargs, last_backward)
        if backward_type == "weight":
            self._collect()
        return done

    def perform_reduce_grad(self, grad_scale_factor: int) -> None:
        """Complete the stage's gradients, after its last backward pass."""
        if self.split and self.root is not None:
            self._tell(last=True)
            self._collect()
            fully_shard.state(self.root)._root_post_backward_final_callback()  # type: ignore[attr-defined]
        reduce_replicated(self.units, self.meshes)
        self.ties.done(self.stage_index)

    def _tell(self, last: bool) -> None:
        """Tell FSDP whether the backward passes of the stage end with this one."""
        if self.root is not None:
            self.root.set_is_last_backward(last)
        for unit in self.units:
            unit.before_backward(last)

    def _collect(self) -> None:
        """Let FSDP take the gradients of weights as it does in its own hook, which does not run for them alone."""
        if self.root is None:
            return
        for state in fully_shard.state(self.root)._state_ctx.all_states:  # type: ignore[attr-defined]
            for group in state._fsdp_param_groups:
                group.post_backward()

    def get_fwd_recv_ops(self, fwd_chunk_id: int) -> Any:  # noqa: D102
        _make(self.args_recv_info[fwd_chunk_id], self.device)
        return super().get_fwd_recv_ops(fwd_chunk_id)

    def get_bwd_recv_ops(self, bwd_chunk_id: int) -> Any:  # noqa: D102
        if not self.is_last:
            _make(self.grad_recv_info[bwd_chunk_id], self.device)
        return super().get_bwd_recv_ops(bwd_chunk_id)

    def _setup_forward_recv_info(self, num_microbatches: int, has_backward: bool) -> None:
        super()._setup_forward_recv_info(num_microbatches, has_backward)
        for infos in self.args_recv_info.values():
            _drop(infos)

    def _setup_backward_recv_info(self, num_microbatches: int) -> None:
        super()._setup_backward_recv_info(num_microbatches)
        for infos in self.grad_recv_info.values():
            _drop(infos)


class Body(nn.Module):
    """Hides a stage that is an FSDP root from PipelineStage, which would take over its gradient reduction."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, *received: torch.Tensor, **inputs: torch.Tensor) -> Any:  # noqa: D102
        return self.stage(*received, **inputs)


class Stopwatch:
    """Seconds spent inside ``with`` blocks; on CUDA by events, read without stopping the device."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self._spans: list[Any] = []
        self._start: Any = None

    def __enter__(self) -> None:
        self._start = self._now()

    def __exit__(self, *error: object) -> None:
        self._spans.append((self._start, self._now()))

    def take(self) -> float:
        """Seconds since the last call."""
        spans, self._spans = self._spans, []
        if not self.cuda:
            return float(sum(end - start for start, end in spans))
        torch.cuda.synchronize()
        return float(sum(start.elapsed_time(end) for start, end in spans)) / 1000

    def _now(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class OneForwardOneBackward(Schedule1F1B):
    """1F1B that also runs with fewer micro-batches than stages."""

    def __init__(self, stage: PipelineStage, n_microbatches: int, **options: Any) -> None:
        PipelineScheduleSingle.__init__(self, stage=stage, n_microbatches=n_microbatches, **options)


ONE: dict[str, type[PipelineScheduleSingle]] = {"gpipe": ScheduleGPipe, "1f1b": OneForwardOneBackward}
"""Schedules of one stage per rank."""

SEVERAL: dict[str, type[PipelineScheduleMulti]] = {
    "interleaved": ScheduleInterleaved1F1B,
    "zb-h1": ScheduleInterleavedZeroBubble,  # with one stage per rank
    "interleaved-zb": ScheduleInterleavedZeroBubble,
    "zbv": ScheduleZBVZeroBubble,
    "dualpipev": ScheduleDualPipeV,
}
"""Schedules of a list of stages."""

Running = PipelineScheduleSingle | PipelineScheduleMulti


def _passed(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return output


def schedule(name: str, pipes: Sequence[Pipe], micro_batches: int) -> Running:
    """The schedule of a plan over a rank's stages; the last stage computes the loss itself, over the whole batch."""
    if name in ONE:
        return ONE[name](stage=pipes[0], n_microbatches=micro_batches, loss_fn=_passed, scale_grads=False)
    return SEVERAL[name](list(pipes), micro_batches, loss_fn=_passed, scale_grads=False)


def _make(infos: Any, device: torch.device) -> None:
    for info in infos:
        if _ours(info) and info.tensor_meta is not None:
            info.buffer = torch.empty(info.tensor_meta.shape, dtype=info.tensor_meta.dtype, device=device)


def _drop(infos: Any) -> None:
    for info in infos:
        if _ours(info):
            info.buffer = None


def _ours(info: Any) -> bool:
    """Whether a received value's buffer is kept here, not by torch (from 2.15) or the caller."""
    return not info.is_root_arg and not hasattr(info, "allocate_buffer")
