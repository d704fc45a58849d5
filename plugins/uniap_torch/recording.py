"""One forward pass without values, written down: operators, who feeds whom, and what autograd keeps.

Attention is recorded as one fused kernel that keeps queries, keys, values, a bias that needs it, its output and a
statistic per head, as the flash and memory-efficient kernels do, whatever the device would choose. Dropout is
recorded and not run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from uniap_core.api import BadValue

from .loops import ROUNDS, fold
from .records import Recording
from .tape import Event, Packed, Ran, assemble
from .watch import TooLong, Watch

if TYPE_CHECKING:
    from .repeats import Repeats
    from .sources import Inputs

UNREPEATED = "TRANSFORMERS_SDPA_FORCE_GQA"
"""Tells transformers to hand keys and values to the attention kernel as they are; fake tensors make it repeat them."""

VIEWS = frozenset(
    {
        "view",
        "t",
        "transpose",
        "permute",
        "expand",
        "slice",
        "select",
        "unsqueeze",
        "squeeze",
        "detach",
        "alias",
        "split",
        "unbind",
        "as_strided",
        "_unsafe_view",
        "split_with_sizes",
        "diagonal",
        "reshape",
        "lift_fresh",
        "_reshape_alias",
        "unfold",
        "narrow",
        "chunk",
        "movedim",
        "as_strided_",
    }
)
"""Operators that make no new tensor."""


class _Core(torch.autograd.Function):
    """The attention kernel's stand-in: right shapes, right kept tensors, no arithmetic."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, bias: Any) -> tuple[Any, Any]:
        batch, heads, rows = query.shape[0], query.shape[-3], query.shape[-2]
        out = query.new_empty(*query.shape[:-3], rows, heads, value.shape[-1]).transpose(-3, -2)
        statistic = query.new_empty((batch, heads, rows), dtype=torch.float32)
        kept = bias if bias is not None and (bias.requires_grad or bias.is_floating_point()) else None
        ctx.save_for_backward(query, key, value, kept, out, statistic)
        ctx.mark_non_differentiable(statistic)
        return out, statistic

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> None:
        raise NotImplementedError


class _Grouped(torch.autograd.Function):
    """The grouped product's stand-in: fake tensors allow it in bf16 alone."""

    @staticmethod
    def forward(ctx: Any, rows: Any, weights: Any, offsets: Any) -> Any:
        ctx.save_for_backward(rows, weights, offsets)
        return rows.new_empty(rows.shape[0], weights.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> None:
        raise NotImplementedError


class _Functions(TorchFunctionMode):
    """Catches attention, grouped products and dropout before torch takes them apart."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

        functional = torch.nn.functional
        self.originals: dict[str, Any] = {
            "scaled_dot_product_attention": functional.scaled_dot_product_attention,
            "dropout": functional.dropout,
            "grouped_mm": functional.grouped_mm,
        }
        stand_ins = {
            "scaled_dot_product_attention": self._attention,
            "dropout": self._dropout,
            "grouped_mm": self._grouped,
        }
        self.caught = {self.originals[name]: stand_in for name, stand_in in stand_ins.items()}
        self.caught[torch._grouped_mm] = self._grouped
        self.stand_ins = stand_ins

    def __enter__(self) -> Any:
        # A mode does not see calls made inside torch's own Python functions (multi_head_attention_forward).
        for name, stand_in in self.stand_ins.items():
            setattr(torch.nn.functional, name, stand_in)
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for name, original in self.originals.items():
            setattr(torch.nn.functional, name, original)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.caught.get(function, function)(*args, **(kwargs or {}))

    def _attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        with self.recorder.paused():
            out, statistic = _Core.apply(query, key, value, attn_mask)  # type: ignore[no-untyped-call]
        inputs = [query, key, value] + ([attn_mask] if attn_mask is not None else [])
        # With a mask, causality is the mask's; the module knows.
        module = self.recorder.modules[self.recorder.stack[-1]]
        causal = is_causal or (attn_mask is not None and bool(getattr(module, "is_causal", False)))
        self.recorder.add("attention", inputs, [out, statistic], causal=causal)
        return out

    def _grouped(self, rows: Any, weights: Any, offs: Any = None, **more: Any) -> Any:
        if weights.dim() != 3:
            return self.originals["grouped_mm"](rows, weights, offs=offs, **more)
        with self.recorder.paused():
            out = _Grouped.apply(rows, weights, offs)  # type: ignore[no-untyped-call]
        self.recorder.add("_grouped_mm", [rows, weights], [out])
        return out

    def _dropout(self, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        if p > 0:
            self.recorder.add("dropout", [input], [input])
        return input


class Recorder(TorchDispatchMode):
    """Writes down every aten operator below autograd."""

    def __init__(self, module: torch.nn.Module, watch: Watch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.modules = dict(module.named_modules())
        self.watch = watch
        self.alias: dict[int, int] = {}
        self.events: list[Event] = []
        self.alive: list[Any] = []
        self.stack: list[str] = [""]
        self.starts: list[int] = [0]
        self.clock = 0
        self.seen: dict[int, int] = {}
        self.pause = 0
        self.parameters: dict[int, tuple[str, int]] = {}
        self.frozen: set[int] = set()
        self.buffers = {storage(b) for b in module.buffers()}
        for name, parameter in module.named_parameters():
            self.parameters.setdefault(storage(parameter), (name, parameter.numel()))
            if not parameter.requires_grad:
                self.frozen.add(storage(parameter))

    def paused(self) -> Recorder._Pause:
        """Context in which operators run unrecorded."""
        return Recorder._Pause(self)

    class _Pause:
        def __init__(self, recorder: Recorder) -> None:
            self.recorder = recorder

        def __enter__(self) -> None:
            self.recorder.pause += 1

        def __exit__(self, *error: object) -> None:
            self.recorder.pause -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.pause:
            tensors = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor)]
            made = [x for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
            name = func._schema.name.partition("::")[2]
            if name in VIEWS:
                # Fake tensors give the view of a real (meta) parameter a storage of its own.
                self.alias.update({storage(v): self.key(tensors[0]) for v in made if storage(v) != storage(tensors[0])})
                self.alive += made
            elif made:
                self.add(name, tensors, made)
        return out

    def key(self, tensor: Any) -> int:
        """Identity of a tensor's storage, seen through views."""
        own = storage(tensor)
        return self.alias.get(own, own)

    def add(self, op: str, tensors: list[Any], made: list[Any], *, causal: bool = False) -> None:
        """Append what ran."""
        self.alive += made
        reads = tuple(map(self.key, tensors))
        event = Ran(
            op=op,
            path=self.stack[-1],
            reads=reads,
            makes=tuple(map(self.key, made)),
            weights=tuple(s for s in dict.fromkeys(reads) if s in self.parameters),
            shapes=tuple(tuple(t.shape) for t in tensors),
            shape=tuple(made[0].shape),
            moved=sum(t.numel() * t.element_size() for t in [*tensors, *made]),
            floating=any(t.is_floating_point() for t in made),
            causal=causal,
        )
        self.events.append(event)
        self.see([*reads, *event.makes])
        self.watch.tick(self.stack[-1])

    def see(self, keys: list[int]) -> None:
        """Note when storages are seen first."""
        self.clock += 1
        for key in keys:
            self.seen.setdefault(key, self.clock)

    def pack(self, tensor: Any) -> Any:
        """Note a tensor that autograd keeps; parameters and buffers are not activations."""
        key = self.key(tensor)
        if key not in self.parameters and key not in self.buffers:
            self.alive.append(tensor)
            self.events.append(Packed(key, tensor.untyped_storage().nbytes(), tensor.dtype))
            self.see([key])
        return tensor

    def enter(self, name: str) -> None:
        """A module begins."""
        self.stack.append(name)
        self.starts.append(len(self.events))

    def leave(self) -> None:
        """A module ends: its loops are folded."""
        self.stack.pop()
        self.fold(self.starts.pop())

    def fold(self, start: int) -> None:
        """Fold the loops of the tape from an event on."""
        if len(self.events) - start < 2 * ROUNDS:
            return
        events, renamed = fold(self.events[start:])
        if renamed:
            self.events[start:] = events
            self.alias.update({own: renamed[key] for own, key in self.alias.items() if key in renamed})
            self.alias.update(renamed)


def storage(tensor: Any) -> int:
    """Identity of a tensor's storage (as long as it is alive)."""
    return int(tensor.untyped_storage()._cdata)


def record(
    module: torch.nn.Module,
    inputs: Inputs,
    batch: int,
    sequence: int,
    repeats: Repeats | None = None,
    watch: Watch | None = None,
    ways: list[Way] | None = None,
) -> Recording:
    """Run one forward pass of a meta module and write it down.

    Parameters
    ----------
    repeats
        Which modules are alike: they run once or twice, and are written down again for the others.
    watch
        Hears of progress, and ends what takes too long.
    ways
        Ways to run it, best first; those that failed where another did not are taken out, for the next run. All by
        default.

    Raises
    ------
    BadValue
        If the forward pass fails or depends on the values of tensors, or takes too long; names the module.
    """
    ways = list(WAYS) if ways is None else ways
    for number, way in enumerate(ways):
        standing_in = repeats if way.repeats else None
        try:
            made = _record(module, inputs, batch, sequence, standing_in, watch or Watch(), fake=way.fake)
        except TooLong:
            raise
        except BadValue:
            if number == len(ways) - 1:
                raise
        else:
            del ways[:number]
            return made
    raise AssertionError("no way to run it")


class Way(NamedTuple):
    """How a model is run without values.

    Meta tensors take a third of the time of fake ones, and fewer operators know them. A block that reads its own
    number fails when it is kept from it; then all blocks run.
    """

    fake: bool
    repeats: bool


WAYS = (Way(fake=False, repeats=True), Way(fake=True, repeats=True), Way(fake=True, repeats=False))


@contextmanager
def _meta() -> Iterator[None]:
    """Tensors are made on the meta device; transformers takes them for fake ones, and looks at no values of them."""
    asked = getattr(sys.modules.get("transformers"), "utils", None)
    asked = getattr(asked, "import_utils", None)
    before = getattr(asked, "is_fake_tensor", None)
    if asked is None or before is None:
        with torch.device("meta"):
            yield
        return
    asked.is_fake_tensor = lambda value: isinstance(value, torch.Tensor) and value.is_meta
    try:
        with torch.device("meta"):
            yield
    finally:
        asked.is_fake_tensor = before


def _record(
    module: torch.nn.Module,
    inputs: Inputs,
    batch: int,
    sequence: int,
    repeats: Repeats | None,
    watch: Watch,
    *,
    fake: bool,
) -> Recording:
    recorder = Recorder(module, watch)
    last = [""]

    def enter(name: str) -> Any:
        def hook(*_: Any) -> None:
            recorder.enter(name)
            last[0] = name

        return hook

    def leave(*_: Any) -> None:
        recorder.leave()

    handles = []
    for name, child in module.named_modules():
        handles.append(child.register_forward_pre_hook(enter(name)))
        handles.append(child.register_forward_hook(leave))
    args, kwargs = inputs
    os.environ[UNREPEATED] = "1"
    try:
        with (
            repeats.standing_in(module, recorder) if repeats else nullcontext(),
            FakeTensorMode(allow_non_fake_inputs=True) if fake else _meta(),
            recorder,
            _Functions(recorder),
            torch.autograd.graph.saved_tensors_hooks(recorder.pack, lambda tensor: tensor),
        ):
            module(*args, **kwargs)
    except TooLong:
        raise
    except Exception as error:
        where = f" in {last[0]}" if last[0] else ""
        said = (str(error).splitlines() or [""])[0]
        raise BadValue(
            f"the forward pass fails{where}: {type(error).__name__}: {said}",
            "tracing runs without values: shapes must not depend on them; check the example inputs",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        os.environ.pop(UNREPEATED, None)
    size = next((p.element_size() for p in module.parameters() if p.is_floating_point()), 4)
    records, kept = assemble(recorder.events, recorder.parameters)
    return Recording(records, kept, recorder.parameters, batch, sequence, size, frozenset(recorder.frozen))
