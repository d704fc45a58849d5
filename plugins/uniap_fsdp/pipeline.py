"""torch's pipeline stage and schedules, with the two things they lack for a plan.

The stage of torch before 2.15 keeps a receive buffer for every micro-batch of the iteration all the time; here buffers
live only while their micro-batch is in flight, as the plan's memory says (and as later versions do themselves). torch's
1F1B refuses fewer micro-batches than stages, which a plan may have.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.pipelining.schedules import PipelineScheduleSingle

from .meshes import Meshes
from .shard import Unit
from .stage import Stage


class Pipe(PipelineStage):
    """A stage of the pipeline that times itself and tells FSDP which micro-batch is the last."""

    def __init__(self, body: nn.Module, stage: Stage, meshes: Meshes, device: torch.device) -> None:
        def example(boundary: int) -> tuple[torch.Tensor, ...]:
            route = stage.route
            return tuple(
                torch.empty(
                    route.local_shape(port, route.crossing(port), meshes.index), dtype=route.dtype, device="meta"
                ).requires_grad_()
                for port in route.boundaries[boundary]
            )

        first, last = meshes.stage == 0, stage.last
        inputs = () if first else example(meshes.stage - 1)
        outputs = (torch.empty((), device="meta").requires_grad_(),) if last else example(meshes.stage)
        super().__init__(
            body, meshes.stage, meshes.depth, device, input_args=inputs, output_args=outputs, group=meshes.pipeline
        )
        self.units: list[Unit] = list(stage.units.values())
        self.clock = Stopwatch(device)

    def forward_one_chunk(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        with self.clock:
            return super().forward_one_chunk(*args, **kwargs)

    def backward_one_chunk(self, bwd_chunk_id: int, *args: Any, **kwargs: Any) -> None:  # noqa: D102
        with self.clock:
            super().backward_one_chunk(bwd_chunk_id, *args, **kwargs)
        _drop(self.args_recv_info.get(bwd_chunk_id, ()))
        _drop(self.grad_recv_info.get(bwd_chunk_id, ()))

    def backward_maybe_with_nosync(  # noqa: D102
        self, backward_type: Any, bwd_kwargs: dict[str, Any], last_backward: bool = False
    ) -> Any:
        if isinstance(self.submod, Body) and isinstance(self.submod.stage, FSDPModule):
            self.submod.stage.set_is_last_backward(last_backward)
        for unit in self.units:
            unit.before_backward(last_backward)
        return super().backward_maybe_with_nosync(backward_type, bwd_kwargs, last_backward)

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


SCHEDULES: dict[str, type[PipelineScheduleSingle]] = {"gpipe": ScheduleGPipe, "1f1b": OneForwardOneBackward}


def _passed(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return output


def schedule(name: str, pipe: Pipe, micro_batches: int) -> PipelineScheduleSingle:
    """The schedule of a plan; the last stage computes the loss itself, over the whole batch."""
    return SCHEDULES[name](stage=pipe, n_microbatches=micro_batches, loss_fn=_passed, scale_grads=False)


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
