"""What of a model is trained: adapters beside frozen weights, quantised or not, or all but what patterns freeze.

A choice changes the graph: frozen parameters are marked, adapters become operators with weights and saved tensors of
their own. Whatever prices, checks or shows a graph then knows what is trained without being told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from .errors import BadValue
from .graph import Layer, ModelGraph, Operator, Saved, Tuning

RANK = 16
"""Rank of adapters where none is given."""

MOST_RANK = 65536

ALL = "all-linear"
"""The target that means every product of the blocks but routers (PEFT's word; the output layer is not one of them)."""

NF4_BYTES = 0.5 + 4 / 64
"""Bytes of a weight in NF4: four bits, and an fp32 constant for each block of 64 (bitsandbytes, ``quantize_4bit``;
Dettmers et al. 2023, arXiv 2305.14314, section 3)."""

NF4_DOUBLE_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""The same with constants quantised once more: a byte each, and an fp32 constant for 256 of those."""

ROUTERS = ("router", "gate")

GATED = ("gate_proj", "up_proj")

PROJECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "gpt": {"qkv": ("c_attn",), "out": ("c_proj",), "up": ("c_fc",), "down": ("c_proj",)},
    "bert": {"qkv": ("query", "key", "value"), "out": ("dense",), "up": ("dense",), "down": ("dense",)},
    "vit": {"qkv": ("query", "key", "value"), "out": ("dense",), "up": ("dense",), "down": ("dense",)},
    "t5": {"qkv": ("q", "k", "v"), "cross_q": ("q",), "cross_kv": ("k", "v"), "out": ("o",), "cross_out": ("o",)}
    | {"up": ("wi",), "down": ("wo",)},
    "": {"qkv": ("q_proj", "k_proj", "v_proj"), "out": ("o_proj",), "up": ("up_proj",), "down": ("down_proj",)}
    | {"gate_up": GATED, "shared_up": GATED, "shared_down": ("down_proj",)}
    | {"query_down": ("q_a_proj",), "query_up": ("q_b_proj",), "kv_up": ("kv_b_proj",)}
    | {"kv_down": ("kv_a_proj_with_mqa",)},
}
"""By family (empty: all others), the modules of transformers that a product of the zoo stands for: what adapters are
put beside, one each."""


class Adapters(msgspec.Struct, frozen=True, kw_only=True):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) beside frozen products.

    Attributes
    ----------
    quantised
        Whether the frozen products of the blocks are kept in NF4 (QLoRA).
    rank
        Inner width of each adapter.
    targets
        Modules that have one, by the last parts of their names; :data:`ALL` alone for all of the blocks.
    double
        Whether the constants of quantised blocks are quantised too.
    """

    quantised: bool = False
    rank: int = RANK
    targets: tuple[str, ...] = (ALL,)
    double: bool = True

    @property
    def words(self) -> str:
        """The text that :func:`adapters` reads as this."""
        single = ",double=no" if self.quantised and not self.double else ""
        return f"{'q' * self.quantised}lora:r={self.rank},targets={'+'.join(self.targets)}{single}"


def adapters(text: str) -> Adapters:
    """Read ``lora``, ``lora:r=16,targets=q_proj+v_proj`` or ``qlora:r=64,double=no``.

    Raises
    ------
    BadValue
        If it is none of these.
    """
    kind, _, rest = text.strip().partition(":")
    fix = "write lora, lora:r=16,targets=q_proj+v_proj or qlora:r=64,double=no"
    if kind not in ("lora", "qlora"):
        raise BadValue(f"--train is {text!r}", fix)
    fields: dict[str, Any] = {"quantised": kind == "qlora"}
    for option in filter(None, rest.split(",")):
        name, _, value = (part.strip() for part in option.partition("="))
        if name == "r" and value.isdecimal() and 1 <= int(value[:9]) <= MOST_RANK:
            fields["rank"] = int(value)
        elif name == "targets" and value:
            fields["targets"] = tuple(dict.fromkeys(filter(None, value.split("+"))))
        elif name == "double" and kind == "qlora" and value in ("yes", "no"):
            fields["double"] = value == "yes"
        else:
            raise BadValue(f"--train {text!r} says {option!r}", fix)
    return Adapters(**fields)


def tuned(graph: ModelGraph, train: str | None = None, freeze: Sequence[str] = ()) -> ModelGraph:
    """The graph of which only that is trained which was chosen.

    Parameters
    ----------
    train
        What :func:`adapters` reads; then everything else is frozen.
    freeze
        Patterns (``vision_tower.*``) of the names of layers, modules or operators, all of whose parameters are frozen;
        a tied weight with all that share it.

    Raises
    ------
    BadValue
        If a word means nothing, a target or a pattern matches nothing, or nothing is left to train.
    """
    if not train and not freeze:
        return graph
    if graph.chosen:
        chosen = " ".join(f"--{name} {value}" for name, value in graph.chosen)
        raise BadValue(f"what is trained of {graph.name} was chosen already: {chosen}", "choose once, from its source")
    changed, words = graph, ""
    if train:
        asked = adapters(train)
        changed, words = _adapted(graph, asked), asked.words
    if freeze:
        changed = _frozen(changed, tuple(freeze))
    if not changed.trained:
        raise BadValue(f"nothing of {graph.name} is left to train", "freeze less of it")
    return msgspec.structs.replace(changed, tuning=Tuning(words, tuple(freeze)))


# --- freezing ---------------------------------------------------------------------------------------------------


def _frozen(graph: ModelGraph, patterns: tuple[str, ...]) -> ModelGraph:
    meant: set[str] = set()
    for pattern in patterns:
        found = {key for layer in graph.layers for op, key in _keyed(layer) if _matches(pattern, layer, op)}
        if not found:
            names = [layer.module or layer.name for layer in graph.layers]
            raise BadValue(
                f"--freeze {pattern!r} matches nothing of {graph.name}",
                f"its layers are {', '.join(names[:3])} ... {names[-1]}; * stands for anything",
            )
        meant |= found
    meant |= {op.tied for layer in graph.layers for op, key in _keyed(layer) if op.tied and key in meant}
    layers = []
    for layer in graph.layers:
        held = {op.name for op, key in _keyed(layer) if key in meant or op.tied in meant}
        layers.append(_still(graph, layer, lambda op, held=held: op.name in held))  # type: ignore[misc]
    return msgspec.structs.replace(graph, layers=tuple(layers))


def _keyed(layer: Layer) -> Iterator[tuple[Operator, str]]:
    """Operators that have parameters, with the name by which others are tied to them."""
    return ((op, f"{layer.name}/{op.name}") for op in layer.operators if op.parameters)


def _matches(pattern: str, layer: Layer, op: Operator) -> bool:
    homes = [home for home in (layer.name, layer.module) if home]
    return any(fnmatchcase(name, pattern) for home in homes for name in (home, f"{home}.{op.name}"))


def _still(graph: ModelGraph, layer: Layer, frozen: Callable[[Operator], bool]) -> Layer:
    """A layer in which some operators are frozen and keep nothing for the gradients of their weights."""
    operators = tuple(
        msgspec.structs.replace(op, frozen=op.parameters) if op.parameters and frozen(op) else op
        for op in layer.operators
    )
    if "kernels" in graph.architecture:
        # Of a traced layer it is not known who else needs a tensor: what is kept for a weight stays, as a bound.
        operators = _based(tuple(_without_input(layer, op) if op.frozen else op for op in operators))
    return msgspec.structs.replace(layer, operators=operators)


def _based(operators: tuple[Operator, ...]) -> tuple[Operator, ...]:
    """Norms before products that keep no input keep their own under selective recomputation, which starts from it."""
    found = list(operators)
    for at, op in enumerate(found[:-1]):
        after = next(other for other in found[at + 1 :] if other.kind != "pointwise" or other is found[-1])
        if op.kind == "norm" and op.saved and after.kind == "gemm" and not after.saved:
            first, *rest = op.saved
            found[at] = msgspec.structs.replace(op, saved=(msgspec.structs.replace(first, selective=False), *rest))
    return tuple(found)


def _without_input(layer: Layer, op: Operator) -> Operator:
    """A frozen operator of the zoo without what it kept for its weight alone.

    A product keeps its input for nothing else, but the one behind attention, whose own backward pass needs it. Eager
    RMS norms keep what they multiply the weight by, after the input in fp32 and the statistic.
    """
    if op.kind == "gemm" and not _behind_attention(layer, op):
        return msgspec.structs.replace(op, saved=())
    if op.kind == "norm" and len(op.saved) == 3 and op.saved[0].bytes == 4:
        return msgspec.structs.replace(op, saved=op.saved[:2])
    return op


def _behind_attention(layer: Layer, op: Operator) -> bool:
    behind = False
    for other in layer.operators:
        if other.name == op.name:
            return behind
        behind = other.kind == "attention" or (behind and other.kind != "gemm")
    return False


# --- adapters ---------------------------------------------------------------------------------------------------


def _adapted(graph: ModelGraph, asked: Adapters) -> ModelGraph:
    """A graph whose own parameters are frozen, with adapters beside some products."""
    if graph.adapted:
        raise BadValue(f"{graph.name} has adapters already", "leave --train out: they are trained as they are")
    if asked.quantised and any(op.kind == "grouped_gemm" for layer in graph.layers for op in layer.operators):
        raise BadValue(
            f"the experts of {graph.name} are weights of three dimensions, which bitsandbytes does not quantise",
            "plan it with --train lora",
        )
    chosen = {
        (layer.name, op.name): parts
        for layer in graph.layers
        for op in layer.operators
        if (parts := _targets(graph, layer, op, asked.targets))
    }
    _check_targets(graph, asked.targets, chosen)
    layers = tuple(_adapted_layer(graph, layer, asked, chosen) for layer in graph.layers)
    return msgspec.structs.replace(graph, layers=layers)


def _targets(graph: ModelGraph, layer: Layer, op: Operator, targets: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """The parts of a product that get an adapter: names of modules and their output widths."""
    if not _linear(layer, op):
        return ()
    parts = _parts(graph, layer, op)
    if ALL in targets:
        return () if op.name.rpartition(".")[2] in ROUTERS else parts
    if any(op.name == target or op.name.endswith(f".{target}") for target in targets):
        return parts
    return tuple(part for part in parts if part[0] in targets)


def _linear(layer: Layer, op: Operator) -> bool:
    """Whether a product is a linear layer of a block: the head and patches are none."""
    inside = layer.kind not in ("embedding", "head", "patch") and op.split != "vocab"
    return inside and op.kind == "gemm" and op.parameters > 0 and not op.tied


def _parts(graph: ModelGraph, layer: Layer, op: Operator) -> tuple[tuple[str, int], ...]:
    """The modules that a product stands for, with their output widths; itself, if it is one or how is not known."""
    names = PROJECTIONS.get(graph.family, PROJECTIONS[""]).get(op.name, (op.name.rpartition(".")[2],))
    if len(names) == 1:
        return ((names[0], op.outer),)
    core = next((other for other in layer.operators if other.kind == "attention"), None)
    if len(names) == 3 and core is not None:
        keys = (core.kv_heads or core.heads) * core.inner
        widths: tuple[int, ...] = (op.outer - 2 * keys, keys, keys)
    else:
        widths = (op.outer // len(names),) * len(names)
    if sum(widths) != op.outer or min(widths) < 1:
        return ((op.name, op.outer),)
    return tuple(zip(names, widths, strict=True))


def _check_targets(
    graph: ModelGraph, targets: tuple[str, ...], chosen: dict[tuple[str, str], tuple[tuple[str, int], ...]]
) -> None:
    met = {name for (_, op), parts in chosen.items() for name in (op, *(part for part, _ in parts))}
    missing = [t for t in targets if not (chosen if t == ALL else any(m == t or m.endswith(f".{t}") for m in met))]
    if missing:
        known = {
            name: None
            for layer in graph.layers
            for op in layer.operators
            if _linear(layer, op)
            for name, _ in _parts(graph, layer, op)
        }
        raise BadValue(
            f"no product of the blocks of {graph.name} is called {missing[0]!r}",
            f"choose of {', '.join(list(known)[:12])}, joined by +, or {ALL}" if known else "choose another model",
        )


def _adapted_layer(
    graph: ModelGraph, layer: Layer, asked: Adapters, chosen: dict[tuple[str, str], tuple[tuple[str, int], ...]]
) -> Layer:
    met = {name for where, name in chosen if where == layer.name}
    still = _still(graph, layer, lambda op: op.name not in met)
    operators: list[Operator] = []
    for op, frozen in zip(layer.operators, still.operators, strict=True):
        parts = chosen.get((layer.name, op.name), ())
        held = _quantised(frozen, asked.double) if asked.quantised and _linear(layer, op) else frozen
        held = msgspec.structs.replace(held, frozen=op.parameters)
        operators.append(held)  # where it has an adapter it keeps its input, for that
        for name, width in parts:
            home = op.name if op.name.rpartition(".")[2] == name else f"{op.name}.{name}"
            operators += _adapter(op, home, asked.rank, width)
    return msgspec.structs.replace(layer, operators=_with_shared_inputs(layer, tuple(operators)))


def _with_shared_inputs(layer: Layer, operators: tuple[Operator, ...]) -> tuple[Operator, ...]:
    """Give back inputs that an earlier frozen product kept for a later one with an adapter."""
    found = list(operators)
    before = {op.name: op for op in layer.operators}
    for at, op in enumerate(found):
        if not (op.kind == "gemm" and op.frozen and not op.saved and before[op.name].saved):
            continue
        for later in found[at + 1 :]:
            if later.kind != "gemm" or later.inner != op.inner or later.rows != op.rows:
                continue
            original = before.get(later.name)
            if original is not None and original.saved:
                break  # another input
            if later.adapter and later.name.endswith("lora_A"):
                found[at] = msgspec.structs.replace(op, saved=before[op.name].saved)
                break
    return tuple(found)


def _quantised(op: Operator, double: bool) -> Operator:
    """A frozen product whose weight is in NF4, its bias in 16 bits."""
    weight = op.inner * op.outer * op.count
    bias = max(0, op.parameters - weight)
    each = NF4_DOUBLE_BYTES if double else NF4_BYTES
    return msgspec.structs.replace(op, frozen_bytes=((op.parameters - bias) * each + bias * 2) / op.parameters)


def _adapter(base: Operator, name: str, rank: int, width: int) -> Iterator[Operator]:
    """``base(x) + scale * B(A(x))``: two products, and the scaled addition as eager kernels.

    Beside a product that tensor parallelism divides by columns A is whole on every rank and B divided with it, whose
    partial input gradients are reduced with the base's; beside one divided by rows A is divided and reduces its narrow
    output, and B is whole (Megatron Bridge, ``ParallelLinearAdapter``).
    """
    growth = tuple(g for g in base.growth if g.field == "rows")
    common = {"rows": base.rows, "count": base.count, "adapter": True, "growth": growth}
    divided = base.split in ("column", "heads")
    yield Operator(
        name=f"{name}.lora_A",
        kind="gemm",
        inner=base.inner,
        outer=rank,
        split="row" if base.split == "row" else "none",
        parameters=base.inner * rank * base.count,
        **common,  # type: ignore[arg-type]
    )
    yield Operator(
        name=f"{name}.lora_B",
        kind="gemm",
        inner=rank,
        outer=width,
        split=base.split if divided else "none",
        parameters=rank * width * base.count,
        saved=(Saved(rank),),
        **common,  # type: ignore[arg-type]
    )
    yield Operator(
        name=f"{name}.lora_add",
        kind="pointwise",
        rows=base.rows,
        inner=width,
        count=base.count,
        growth=growth,
        split="column" if divided else "none",
        passes=5.0,
    )
