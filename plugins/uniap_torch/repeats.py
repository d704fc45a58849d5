"""Modules that are alike run alike: what one of them did is written down again for the others.

Blocks of one class with the same settings and shapes of parameters, called with tensors of the same shapes, run the
same operators. The first two run; if both did the same, all others are written down from the first, with storages of
their own, and hand on tensors of the right shape. Anything that might tell two blocks apart leaves them to run: other
settings or arguments, tensors from elsewhere, hooks, a block that looks at its own number in the model.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from .tape import Event, Packed, Ran

if TYPE_CHECKING:
    from .recording import Recorder

NUMBERS = frozenset({"layer_idx", "layer_id", "layer_index", "layer_number", "block_idx"})
"""Attributes that count blocks; a block that reads its own is not like the others."""

LISTS = ("ModuleList", "Sequential", "ModuleDict")
"""Containers whose children may repeat."""

PLAIN = (type(None), bool, int, float, complex, str, torch.dtype, torch.device)
"""Values that are equal if they compare so."""

INTERNAL = frozenset(vars(torch.nn.Module()))
"""Attributes that every module has; what matters of them is looked at by itself."""


class _Untold:
    """Stands for a block's number: it can be passed on, and nothing can be learnt from it."""

    def _refuse(self, *_: Any) -> Any:
        raise TypeError("a block reads its own number")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __bool__ = __str__ = __repr__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __floordiv__ = __format__ = _refuse


@dataclass(frozen=True)
class _Made:
    """A tensor that a module returned: its key among those of its template, and what it looks like."""

    key: Any
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    grad: bool


@dataclass(frozen=True)
class _Given:
    """An argument that a module returned as it was: which one."""

    index: int


@dataclass(frozen=True)
class _Template:
    """What a call did, with keys relative to it; and what it returned.

    Keys are ``("given", i)`` of its arguments, ``("own", path)`` of its parameters and buffers, ``("new", i)``.
    """

    events: tuple[Event, ...]
    returned: tuple[Any, ...]
    form: Any


class Repeats:
    """The groups of alike modules of a model, and which of them were seen to do the same.

    Parameters
    ----------
    module
        The model, before anything hooks into it.
    trusted
        Groups of which two members did the same in an earlier run; one run of them is enough.
    """

    def __init__(self, module: torch.nn.Module, trusted: frozenset[str] = frozenset()) -> None:
        self.trusted = trusted
        self.groups: dict[str, str] = {}
        found: dict[Any, list[str]] = defaultdict(list)
        for path in candidates(module):
            likeness = like(module.get_submodule(path))
            if likeness is not None:
                found[likeness].append(path)
        for paths in found.values():
            if len(paths) > 2:
                self.groups.update(dict.fromkeys(paths, paths[0]))
        self.templates: dict[Any, _Template] = {}
        self.agreed: dict[Any, bool] = {}

    @property
    def proven(self) -> frozenset[str]:
        """Groups whose members did the same wherever two ran."""
        agreed: dict[str, bool] = {}
        for (group, *_), same in self.agreed.items():
            agreed[group] = agreed.get(group, True) and same
        return frozenset(group for group, same in agreed.items() if same)

    @contextmanager
    def standing_in(self, module: torch.nn.Module, recorder: Recorder) -> Iterator[None]:
        """While it lasts, alike modules run as often as needed, and no block of them knows its number."""
        self.templates, self.agreed = {}, {}
        self.fresh = 0
        numbers: list[tuple[Any, str, Any]] = []
        patched = []
        try:
            for path in self.groups:
                child = module.get_submodule(path)
                for part in child.modules():
                    numbers += [(part, name, value) for name, value in vars(part).items() if _counts(name, value)]
                child.forward = self._instead(path, child, recorder)
                patched.append(child)
            for part, name, _ in numbers:
                setattr(part, name, _Untold())
            yield
        finally:
            for child in patched:
                del child.forward
            for part, name, value in reversed(numbers):
                setattr(part, name, value)

    def _instead(self, path: str, module: torch.nn.Module, recorder: Recorder) -> Any:
        forward, group, hooks = module.forward, self.groups[path], _hooks(module)

        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            leaves, form = tree_flatten((args, kwargs))
            asked = given(leaves, recorder)
            if asked is None or _hooks(module) != hooks:
                return forward(*args, **kwargs)
            key = (group, form, asked, torch.is_grad_enabled())
            template = self.templates.get(key)
            call = _Call(path, module, leaves, recorder)
            if template is not None and (self.agreed.get(key) or group in self.trusted):
                return call.again(template, self)
            out = forward(*args, **kwargs)
            made = call.template(out)
            if template is None:
                if made is not None:
                    self.templates[key] = made
            else:
                self.agreed[key] = self.agreed.get(key, True) and made == template
            return out

        return run

    def key(self) -> int:
        """A key that no storage has."""
        self.fresh -= 1
        return self.fresh


def _counts(name: str, value: Any) -> bool:
    """Whether an attribute says which block of the model it belongs to."""
    return name in NUMBERS and type(value) is int


def _hooks(module: torch.nn.Module) -> int:
    """How many hooks want to see the modules inside run."""
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def candidates(module: torch.nn.Module) -> Iterator[str]:
    """Paths of the children of lists, and of their children, that have parameters."""
    for path, container in module.named_modules():
        if type(container).__name__ in LISTS:
            for name, child in container.named_children():
                whole = f"{path}.{name}".strip(".")
                inner = [f"{whole}.{key}" for key, _ in child.named_children()]
                for each in [whole, *inner]:
                    if any(True for _ in module.get_submodule(each).parameters()):
                        yield each


def like(module: torch.nn.Module) -> Any:
    """A value that alike modules share; ``None`` for one that holds what nothing can be said of."""
    found: list[Any] = []
    for path, part in module.named_modules():
        more = {k: v for k, v in vars(part).items() if k not in INTERNAL and not _counts(k, v)}
        if "forward" in more or part._forward_hooks or part._forward_pre_hooks:
            return None
        if any(isinstance(v, torch.Tensor) for v in more.values()):
            return None
        found.append((path, type(part), part.training, tuple(sorted((k, _value(v)) for k, v in more.items()))))
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    for name, t in tensors:
        same = first.setdefault(t.untyped_storage()._cdata, name)
        found.append((name, same, tuple(t.shape), str(t.dtype), t.requires_grad))
    return tuple(found)


def _value(value: Any) -> str:
    """A value as text that is equal for equal ones; of an object, which one it is."""
    if isinstance(value, PLAIN):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} ({', '.join(map(_value, value))})"
    return f"{type(value).__name__} at {id(value)}"


def given(leaves: list[Any], recorder: Recorder) -> Any:
    """What a call is given: the looks of tensors, which of them share storage, and plain values; else ``None``."""
    looks: list[Any] = []
    place: dict[int, int] = {}
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            key = recorder.key(leaf)
            same = place.setdefault(key, len(place))
            own = key in recorder.parameters or key in recorder.buffers
            looks.append((same, own, leaf.storage_offset(), leaf.untyped_storage().nbytes(), *look(leaf)))
        elif isinstance(leaf, _Untold):
            looks.append("number")
        elif isinstance(leaf, PLAIN):
            looks.append(_value(leaf))
        else:
            return None
    return tuple(looks)


def look(tensor: Any) -> tuple[Any, ...]:
    """Shape, strides, type, place, and whether a gradient flows through it."""
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad


class _Foreign(Exception):
    """A call touched a storage that is neither given, nor its own, nor new."""


class _Call:
    """One call of a module that has others like it."""

    def __init__(self, path: str, module: torch.nn.Module, leaves: list[Any], recorder: Recorder) -> None:
        self.path, self.recorder = path, recorder
        self.start, self.clock = len(recorder.events), recorder.clock
        self.tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        self.names: dict[Any, Any] = {}
        for tensor in self.tensors:
            self.names.setdefault(recorder.key(tensor), ("given", len(self.names)))
        for name, own in [*module.named_parameters(), *module.named_buffers()]:
            self.names.setdefault(recorder.key(own), ("own", name))
        self.grads = [t.requires_grad for t in self.tensors]

    def template(self, out: Any) -> _Template | None:
        """What the call did since it began, or ``None`` if that cannot be said of another."""
        recorder = self.recorder
        recorder.fold(self.start)
        events = recorder.events[self.start :]
        prefix = f"{self.path}."
        paths = {e.path for e in events if isinstance(e, Ran)}
        if any(p != self.path and not p.startswith(prefix) for p in paths) or self.changed():
            return None
        try:
            written = tuple(self.relative(event) for event in events)
            leaves, form = tree_flatten(out)
            returned = tuple(self.returned(leaf) for leaf in leaves)
        except _Foreign:
            return None
        return _Template(written, returned, form)

    def changed(self) -> bool:
        """Whether an argument was made to need a gradient."""
        return self.grads != [t.requires_grad for t in self.tensors]

    def relative(self, event: Event) -> Event:
        if isinstance(event, Packed):
            return event.renamed(self.name)
        return event.renamed(self.name, event.path[len(self.path) :])

    def name(self, key: int) -> Any:
        """A storage's key as the template has it."""
        if key not in self.names:
            if self.recorder.seen.get(key, self.clock) < self.clock:
                raise _Foreign
            self.names[key] = ("new", len(self.names))
        return self.names[key]

    def returned(self, leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            if isinstance(leaf, PLAIN):
                return leaf
            raise _Foreign
        for index, tensor in enumerate(self.tensors):
            if leaf is tensor:
                return _Given(index)
        name = self.name(self.recorder.key(leaf))
        whole = leaf.numel() * leaf.element_size() == leaf.untyped_storage().nbytes()
        if name[0] != "new" or not whole or leaf.storage_offset():
            raise _Foreign
        shape, stride, dtype, device, grad = look(leaf)
        return _Made(name, shape, stride, dtype, device, grad)

    def again(self, template: _Template, repeats: Repeats) -> Any:
        """Write a template down for this call, and return tensors like those that it returned."""
        recorder = self.recorder
        keys: dict[Any, int] = {name: key for key, name in self.names.items()}

        def key(name: Any) -> int:
            if name not in keys:
                keys[name] = repeats.key()
                recorder.see([keys[name]])
            return keys[name]

        for event in template.events:
            if isinstance(event, Packed):
                recorder.events.append(event.renamed(key))
            else:
                recorder.events.append(event.renamed(key, self.path + event.path))
        recorder.watch.tick(self.path)
        leaves = [self.again_returned(leaf, key) for leaf in template.returned]
        return tree_unflatten(leaves, template.form)

    def again_returned(self, leaf: Any, key: Any) -> Any:
        """What the call returns for what another returned."""
        if isinstance(leaf, _Given):
            return self.tensors[leaf.index]
        return self.tensor(leaf, key) if isinstance(leaf, _Made) else leaf

    def tensor(self, made: _Made, key: Any) -> Any:
        """A tensor that stands for one that a module returned."""
        recorder = self.recorder
        with recorder.paused():
            anchor = torch.empty(0, requires_grad=made.grad)
            out = _Stand.apply(anchor, made)  # type: ignore[no-untyped-call]
        recorder.alive.append(out)
        recorder.alias[out.untyped_storage()._cdata] = key(made.key)
        return out


class _Stand(torch.autograd.Function):
    """Makes a tensor that has a place in autograd's graph."""

    @staticmethod
    def forward(ctx: Any, anchor: Any, made: _Made) -> Any:
        return torch.empty_strided(made.shape, made.stride, dtype=made.dtype, device=made.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> None:
        raise NotImplementedError
