"""``uniap profile``: what the layers of a model, the links and the arithmetic of this machine really take.

A layer's own module is timed where the model can be built (with the arguments that the model passes to it); the
widths of tensor parallelism are timed from the layer's operators, divided, and scaled by what the module took over
its operators undivided. Collectives are measured apart, between processes of their own. Every measurement is
written when it is made, so that an unfinished profile goes on where it stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from uniap_core.api import (
    BadValue,
    Emit,
    Layer,
    LayerTiming,
    ModelGraph,
    Note,
    PluginError,
    Profile,
    Progress,
    UniapError,
    read,
    silent,
    write,
)

if TYPE_CHECKING:
    import torch

    from .modules import Call

BUDGET_S = {"cpu": 0.3, "cuda": 0.2}
"""Seconds for one measurement, after warming up."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and for how long."""

    tp: tuple[int, ...]
    samples: tuple[int, ...]
    precision: str
    ranks: int
    budget_s: float
    links: str | os.PathLike[str] | None


def profile(
    graph: ModelGraph,
    device: str = "cpu",
    path: str | os.PathLike[str] | None = None,
    emit: Emit = silent,
    *,
    tp: Sequence[int] = (1, 2, 4, 8),
    samples: Sequence[int] = (1, 2, 4),
    precision: str | None = None,
    ranks: int | None = None,
    budget_s: float | None = None,
    links: str | os.PathLike[str] | None = None,
) -> Profile:
    """Measure a model's layers and this machine.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    path
        Where to write the profile as it grows; one that is there is gone on with.
    tp, samples
        Tensor parallel widths (those that divide a layer's heads) and samples per device.
    precision
        ``fp32``, ``bf16`` or ``fp16`` (default: bf16 on a GPU, fp32 on a CPU).
    ranks
        Processes between which collectives are measured; 0 for none (default: all GPUs of this machine, or 4). On a
        CPU, layers are timed on one thread while as many ranks work.
    budget_s
        Seconds for each measurement.
    links
        Collectives measured on several nodes (``torchrun ... -m uniap_torch.links``), taken instead of measuring.

    Raises
    ------
    BadValue
        If there is no such device, or the file at ``path`` is of another model, device or precision.
    PluginError
        If torch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise PluginError("profiling needs torch", "pip install 'uniap[torch]'") from None
    if device not in BUDGET_S:
        raise BadValue(f"there is no device {device!r}", "choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise BadValue("this machine has no CUDA device that torch can use", "profile on cpu, or on another machine")
    chosen = precision or ("bf16" if device == "cuda" else "fp32")
    if chosen not in ("fp32", "bf16", "fp16"):
        raise BadValue(f"precision {chosen!r} cannot be measured", "choose fp32, bf16 or fp16")
    count = ranks if ranks is not None else torch.cuda.device_count() if device == "cuda" else 4
    settings = Settings(tuple(tp), tuple(samples), chosen, count, budget_s or BUDGET_S[device], links)
    where = torch.device(device, torch.cuda.current_device()) if device == "cuda" else torch.device(device)
    return _measure(graph, where, path, emit, settings)


def _measure(
    graph: ModelGraph, device: torch.device, path: str | os.PathLike[str] | None, emit: Emit, settings: Settings
) -> Profile:
    from . import links, timing
    from .companions import busy

    began = time.monotonic()
    now = start(graph, device, path, settings.precision)
    have = {(t.layer, t.tp, t.samples) for t in now.layers}
    work = list(layer_work(graph, settings))
    todo = [item for item in work if (item[0].name, *item[1:]) not in have]
    linked = bool(now.collectives) or (settings.ranks <= 1 and settings.links is None)
    total = len(work) + 2
    done = total - len(todo) - (not linked) - (not now.matmul_flops)

    def advance(label: str, **changes: Any) -> Profile:
        nonlocal now, done
        done += 1
        now = msgspec.structs.replace(now, **changes)
        if path is not None:
            write(path, now)
        emit(Progress(time.monotonic() - began, done, total, label))
        return now

    if settings.links is not None and not linked:
        given = read(settings.links, links.Links)
        advance("collectives", collectives=given.collectives, overlap=given.overlap)
    elif not linked:
        try:
            found = links.measure(device.type, settings.ranks)
            advance("collectives", collectives=found.collectives, overlap=found.overlap)
        except UniapError as error:
            emit(Note(time.monotonic() - began, str(error)))
            advance("collectives", notes=[*now.notes, error.cause])
    if not todo and now.matmul_flops:
        return now
    with busy(max(0, settings.ranks - 1)) if device.type == "cpu" else nullcontext():
        if not now.matmul_flops:
            advance("matrix products", matmul_flops=timing.matmul_flops(device), launch_s=timing.launch_floor(device))
        bench = Bench(graph, device, settings)
        for layer, tp, samples in todo:
            timed = bench.timing(layer, tp, samples)
            if timed is None:
                advance(layer.name, notes=[*now.notes, f"{layer.name}, tp {tp}, {samples} samples: out of memory"])
            else:
                advance(f"{layer.name} tp {tp}, {samples} samples", layers=[*now.layers, timed])
    return now


def start(graph: ModelGraph, device: torch.device, path: str | os.PathLike[str] | None, precision: str) -> Profile:
    """An empty profile, or the one to go on with.

    Raises
    ------
    BadValue
        If the file is of another model, device, torch or precision.
    """
    import torch

    from .timing import device_name

    fresh = Profile(
        device=device_name(device), software=f"torch {torch.__version__}", precision=precision, graph=graph.hash
    )
    if path is None or not os.path.exists(path):
        return fresh
    old = read(path, Profile)
    for field in ("device", "software", "precision", "graph"):
        if getattr(old, field) != getattr(fresh, field):
            what = "model" if field == "graph" else field
            raise BadValue(f"{path} is a profile of another {what}", "name another file with -o, or delete this one")
    return old


def layer_work(graph: ModelGraph, settings: Settings) -> Iterator[tuple[Layer, int, int]]:
    """What there is to measure: one layer of each kind, by width and samples."""
    first: dict[object, Layer] = {}
    for layer in graph.layers:
        first.setdefault(layer.signature(), layer)
    for layer in first.values():
        heads = [op.heads for op in layer.operators if op.kind == "attention" and op.split == "heads"]
        divisible = any(op.split != "none" for op in layer.operators)
        for tp in settings.tp:
            if (tp == 1 or divisible) and all(h % tp == 0 for h in heads):
                for samples in settings.samples:
                    yield layer, tp, samples


class Bench:
    """Times layers; keeps what modules took over their operators, by layer and samples."""

    def __init__(self, graph: ModelGraph, device: torch.device, settings: Settings) -> None:
        from .timing import PRECISIONS

        self.graph, self.device, self.settings = graph, device, settings
        self.dtype = PRECISIONS[settings.precision]
        self.calls: dict[int, dict[str, Call]] = {}
        self.ratios: dict[tuple[str, int], tuple[float, float]] = {}

    def timing(self, layer: Layer, tp: int, samples: int) -> LayerTiming | None:
        """One measurement, or ``None`` if it does not fit in memory."""
        import torch

        try:
            return self._timing(layer, tp, samples)
        except torch.OutOfMemoryError:
            return None
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _timing(self, layer: Layer, tp: int, samples: int) -> LayerTiming:
        from .replay import Replay
        from .timing import adam_step

        replay = Replay(layer, tp, samples, self.graph.sequence, self.device, self.dtype)
        forward, backward, peak = self.clock(replay)
        del replay
        saved = None
        key = (layer.name, samples)
        if tp == 1:
            real = self.real(layer, samples)
            if real is not None:
                saved = real.measure_saved()
                times = self.clock(real)
                self.ratios[key] = times[0] / forward, times[1] / backward
                peak = times[2]
        scale = self.ratios.get(key, (1.0, 1.0))
        held = sum(op.trained / (tp if op.split != "none" else 1) for op in layer.operators)
        return LayerTiming(
            layer=layer.name,
            tp=tp,
            samples=samples,
            sequence=self.graph.sequence,
            forward_s=forward * scale[0],
            backward_s=backward * scale[1],
            optimizer_s=adam_step(round(held), self.device) if held else 0.0,
            saved_bytes=saved,
            peak_bytes=peak,
        )

    def clock(self, runner: Any) -> tuple[float, float, float | None]:
        """Seconds forward and backward, and on a GPU the peak of bytes over what was there before."""
        import torch

        from .timing import elapsed

        cuda = self.device.type == "cuda"
        before = torch.cuda.memory_allocated(self.device) if cuda else 0
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        forward, backward = elapsed(
            [runner.forward, runner.backward], self.device, self.settings.budget_s, shared=self.settings.ranks > 1
        )
        peak = float(torch.cuda.max_memory_allocated(self.device) - before) if cuda else None
        return forward, backward, peak

    def real(self, layer: Layer, samples: int) -> Any:
        """The layer's module, ready to run, if the model calls it by itself once."""
        from .modules import Real, calls

        if samples not in self.calls:
            blocks = [x for x in self.graph.layers if any(op.kind == "attention" for op in x.operators)]
            self.calls[samples] = calls(self.graph, blocks, samples)
        call = self.calls[samples].get(layer.name)
        if call is None:
            return None
        try:
            real = Real(call, self.device, self.dtype)
            real.forward()
        except (RuntimeError, TypeError, StopIteration):
            return None  # its operators are timed instead
        return real
