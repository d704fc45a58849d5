"""The real module of a layer, called as its model calls it: what a layer takes and keeps in the code that will run."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map

from uniap_core.api import Layer, ModelGraph, UniapError, check_source

from . import sources
from .recording import storage


@dataclass(frozen=True)
class Call:
    """A module on the meta device and the arguments that its model gave it (fake tensors)."""

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def calls(graph: ModelGraph, layers: list[Layer], samples: int) -> dict[str, Call]:
    """How the model calls the modules of layers; those that it does not call exactly once are left out.

    Empty if the model cannot be built here (no transformers, a zoo family without a Hugging Face twin).
    """
    try:
        source = twin(graph)
    except (UniapError, ImportError):
        return {}
    if source is None:
        return {}
    model = source.module.eval()
    found: dict[str, list[Call]] = {}
    handles = []
    known = dict(model.named_modules())
    for layer in layers:
        if layer.module in known:

            def note(module: Any, args: Any, kwargs: Any, name: str = layer.name) -> None:
                args, kwargs = tree_map(without_mask, (args, kwargs))
                found.setdefault(name, []).append(Call(module, args, kwargs))

            handles.append(known[layer.module].register_forward_pre_hook(note, with_kwargs=True))
    args, kwargs = source.inputs(samples, graph.sequence)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), sources.advice_off():
            model(*args, **kwargs)
    except Exception:  # a model that does not run alone is timed from its operators
        return {}
    finally:
        for handle in handles:
            handle.remove()
    return {name: made[0] for name, made in found.items() if len(made) == 1}


def without_mask(value: Any) -> Any:
    """No mask for a mask over all pairs: under fake tensors models make one that they leave to the kernel otherwise."""
    pairs = isinstance(value, torch.Tensor) and value.dtype == torch.bool and value.dim() == 4
    return None if pairs else value


def twin(graph: ModelGraph) -> sources.Source | None:
    """The torch model of a graph: its source, or the Hugging Face model that a zoo graph is equal to."""
    if graph.source and not graph.source.startswith("zoo:"):
        check_source(graph.source)
        return sources.load(graph.source, graph.sequence if graph.layers[0].kind != "patch" else None)
    import json
    import tempfile
    from pathlib import Path

    config = sources.config_of(graph.architecture)
    if config is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config))
        images = graph.family in ("vit", "swin")
        return sources.load(f"hf:{path}", None if images else graph.sequence)


class Real:
    """A layer's module on a device, with random weights and inputs."""

    def __init__(self, call: Call, device: torch.device, dtype: torch.dtype) -> None:
        self.module = copy.deepcopy(call.module).to_empty(device=device).to(dtype).eval()
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.normal_(std=0.02)
            for buffer in self.module.buffers():
                buffer.zero_()
        self.leaves: list[torch.Tensor] = [p for p in self.module.parameters() if p.requires_grad]
        made: dict[int, torch.Tensor] = {}

        def fill(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if id(value) not in made:
                made[id(value)] = self.tensor(value, device, dtype)
            return made[id(value)]

        self.args, self.kwargs = tree_map(fill, (call.args, call.kwargs))

    def tensor(self, like: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """A real tensor for a fake one: small noise that gradients are taken of, zeros for indices, true for masks."""
        if like.dtype == torch.bool:
            return torch.ones(like.shape, dtype=torch.bool, device=device)
        if not like.is_floating_point():
            return torch.zeros(like.shape, dtype=like.dtype, device=device)
        noise = torch.randn(like.shape, device=device).mul_(0.02).to(dtype)
        if like.dim() == 3:
            self.leaves.append(noise.requires_grad_())
        return noise

    def forward(self, _: Any = None) -> torch.Tensor:
        """Call the module; its first tensor that a gradient reaches, if it reaches any."""
        out = [t for t in tree_leaves(self.module(*self.args, **self.kwargs)) if isinstance(t, torch.Tensor)]
        return next((t for t in out if t.requires_grad), out[0])

    def backward(self, out: torch.Tensor) -> None:
        """Take the gradient of inputs and weights."""
        if out.requires_grad:
            torch.autograd.grad(out, self.leaves, torch.ones_like(out), allow_unused=True)

    def measure_saved(self) -> float:
        """Bytes of distinct storages that one forward pass keeps, weights and buffers excluded."""
        own = {storage(t) for t in [*self.module.parameters(), *self.module.buffers()]}
        seen: dict[int, Any] = {}

        def pack(tensor: Any) -> Any:
            if storage(tensor) not in own:
                seen[storage(tensor)] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = self.forward()
        del out
        return float(sum(t.untyped_storage().nbytes() for t in seen.values()))
