"""Models as tables describe them: a family by name, hyper-parameters from columns, defaults for what is blank."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from uniap_core.errors import BadValue
from uniap_core.graph import ModelGraph, Operator
from uniap_core.models import Hyperparameters, Kernels

from .bert import bert
from .checks import divides
from .deepseek import VERSIONS, deepseek, mixed
from .families import family_of
from .gpt import gpt
from .llama import llama, self_attention
from .mixtral import mixtral
from .swin import swin
from .t5 import t5
from .vit import vit

_VOCABULARY = (
    ("llama-?_?3", 128256),
    ("llama|mistral|mixtral|vicuna", 32000),
    ("qwen", 151936),
    ("nemotron", 256000),
    ("gemma", 256000),
    ("bloom", 250880),
    ("bert", 30522),
    ("t5", 32128),
    ("opt", 50272),
)


_SIZE = re.compile(r"(?<![a-z\d.])(?:(\d+)x)?(\d+(?:\.\d+)?)b(?:\d)?(?![a-z])")
"""Billions of parameters in a name, of each of so many experts."""

OFF = 1.6
"""How far a model may be from the size in its name: names round, leave out embeddings, or count tied ones once."""


def graph_of(
    model: str, sizes: Hyperparameters, notes: list[str], granule: int = 1, kernels: Kernels = "fused"
) -> ModelGraph:
    """The graph of a row's model (:func:`uniap_core.models.from_hyperparameters` says what the parameters are).

    Raises
    ------
    BadValue
        If layers or hidden are unknown, or the family cannot be built from columns.
    """
    sizes = _experts_named(model, sizes, notes)
    family, version = family_of(model, sizes, notes)
    for name in ("layers", "hidden") if family != "swin" else ("layers",):
        if not getattr(sizes, name):
            raise BadValue(f"{name} is blank", "give it")
    _check_experts(family, sizes)
    if family in ("bert", "t5", "vit"):
        _check_heads(family, sizes)
    if family in ("vit", "swin"):
        return _vision(model, family, sizes, notes)
    sizes = _filled(model, family, version, sizes, notes)
    sizes = sizes._replace(vocab=-(-sizes.vocab // granule) * granule)
    graph = deepseek(model, version, sizes) if family == "deepseek" else _built(model, family, sizes, notes, kernels)
    _note_size(model, graph, notes)
    return graph


def _experts_named(model: str, sizes: Hyperparameters, notes: list[str]) -> Hyperparameters:
    """Sizes with the experts that a name like 8x7B means; a column that says otherwise is believed and noted."""
    found = re.search(r"(\d+)x\d+(\.\d+)?b", model.lower())
    if not found:
        return sizes
    count = int(found[1])
    if not sizes.experts and sizes.family in ("", "mixtral"):
        top = sizes.top_k or 2
        notes.append(f"{top} of {count} experts a token")
        return sizes._replace(experts=count, top_k=top)
    if sizes.experts != count:
        notes.append(f"experts {sizes.experts} by the column, not {count} as in the name")
    return sizes


def _check_experts(family: str, sizes: Hyperparameters) -> None:
    """Refuse half a mixture."""
    said = [name for name in ("top_k", "moe_ffn", "shared_experts") if getattr(sizes, name)]
    if said and sizes.experts <= 1 and family not in ("mixtral", "deepseek") and (sizes.top_k, said) != (1, ["top_k"]):
        raise BadValue(f"{', '.join(said)} given and no experts", "give experts too")
    if family == "mixtral" and not (sizes.experts and sizes.top_k):
        raise BadValue("a mixtral model cannot be built from these columns", "give experts and top_k")


def _check_heads(family: str, sizes: Hyperparameters) -> None:
    """Refuse heads that a family cannot have."""
    size = sizes.heads and sizes.hidden // sizes.heads
    if sizes.kv_heads not in (0, sizes.heads) or (family != "t5" and sizes.head_size not in (0, size)):
        raise BadValue(
            f"a {family} model has neither key heads nor a head size of its own", "correct kv_heads, head_size"
        )


def _note_size(model: str, graph: ModelGraph, notes: list[str]) -> None:
    """Note a name whose size is not that of the columns."""
    found = [float(each) * int(times or 1) * 1e9 for times, each in _SIZE.findall(model.lower())]
    if found and not max(found) / OFF <= graph.parameters <= max(found) * OFF:
        notes.append(
            f"{graph.parameters / 1e9:.3g} B parameters by the columns, not {max(found) / 1e9:g} B as in the name"
        )


def _built(model: str, family: str, sizes: Hyperparameters, notes: list[str], kernels: Kernels) -> ModelGraph:
    """The graph of a transformer on tokens."""
    common: dict[str, Any] = {"layers": sizes.layers, "hidden": sizes.hidden, "heads": sizes.heads, "ffn": sizes.ffn}
    common |= {"vocab": sizes.vocab, "sequence": sizes.sequence}
    if family == "llama":
        return llama(**common, kv_heads=sizes.kv_heads, head_size=sizes.head_size, kernels=kernels, name=model)
    if family == "bert":
        return bert(**common, name=model)
    if family == "gpt":
        if (sizes.kv_heads, sizes.head_size * sizes.heads) == (sizes.heads, sizes.hidden):
            return gpt(**common, kernels=kernels, name=model)
        divides(model, kv_heads=sizes.kv_heads, heads=sizes.heads)
        return grouped(gpt(**common | {"heads": 1}, kernels=kernels, name=model), sizes)
    if family == "t5":
        half = sizes.layers // 2
        common |= {"layers": half, "decoder_layers": sizes.layers - half}
        return t5(**common, head_size=sizes.head_size, name=model)
    if family != "mixtral":
        raise BadValue(f"a {family} model cannot be built from these columns", "plan it as a graph of its own")
    sizes = sizes._replace(moe_ffn=sizes.moe_ffn or sizes.ffn)
    if sizes.shared_experts or sizes.dense_layers:
        attention = self_attention(sizes.hidden, sizes.heads, sizes.kv_heads, sizes.head_size, kernels)
        return mixed(model, "mixtral", sizes, attention, kernels)
    if sizes.dense_layers is None and sizes.ffn != sizes.moe_ffn:
        notes.append("experts in all layers")
    more: dict[str, Any] = {"kv_heads": sizes.kv_heads, "head_size": sizes.head_size, "kernels": kernels}
    return mixtral(**common | {"ffn": sizes.moe_ffn}, **more, experts=sizes.experts, top_k=sizes.top_k, name=model)


def _vision(model: str, family: str, sizes: Hyperparameters, notes: list[str]) -> ModelGraph:
    """ViT and Swin on images of 224 pixels; all of Swin's blocks beyond two per stage lie in its third stage."""
    notes.append("images of 224 pixels")
    if family == "vit":
        return vit(layers=sizes.layers, hidden=sizes.hidden, heads=sizes.heads or 16, ffn=sizes.ffn, name=model)
    if sizes.layers < 8:
        raise BadValue(f"a Swin transformer of {sizes.layers} layers is not known", "give all its blocks as layers")
    depths = (2, 2, sizes.layers - 6, 2)
    width = sizes.hidden or 320
    first = max(1, width // 40)
    notes.append(f"depths {depths}, width {width}")
    if sizes.heads or sizes.ffn:
        notes.append("heads and ffn of Swin's four stages, not those of the columns")
    return swin(depths=depths, width=width, heads=(first, 2 * first, 4 * first, 8 * first), name=model)


def _filled(model: str, family: str, version: str, sizes: Hyperparameters, notes: list[str]) -> Hyperparameters:
    name = model.lower()
    heads = sizes.heads
    if not heads:
        heads = max(1, sizes.hidden // (sizes.head_size or 128))
        notes.append(f"{heads} heads")
    size = sizes.head_size or sizes.hidden // heads
    if not sizes.head_size and family != "deepseek" and sizes.hidden % heads:
        size = 128
        notes.append(f"head size {size}")
    ffn = sizes.ffn or (sizes.moe_ffn if family == "mixtral" and not sizes.dense_layers else 0)
    if not ffn:
        ffn = 4 * sizes.hidden if family != "llama" else -(-8 * sizes.hidden // 3 // 256) * 256
        notes.append(f"ffn {ffn}")
    vocab = sizes.vocab or (VERSIONS[version].vocab if family == "deepseek" else 0)
    if not vocab:
        vocab = next((size for pattern, size in _VOCABULARY if re.search(pattern, name)), 50257)
        notes.append(f"vocabulary {vocab}")
    if not sizes.sequence:
        sizes = sizes._replace(sequence=512 if family in ("bert", "t5") else 2048)
        notes.append(f"sequence {sizes.sequence}")
    return sizes._replace(heads=heads, kv_heads=sizes.kv_heads or heads, ffn=ffn, vocab=vocab, head_size=size)


def grouped(graph: ModelGraph, sizes: Hyperparameters) -> ModelGraph:
    """A GPT with heads of its own: fewer of keys and values (Nemotron, Falcon), or another size than hidden / heads."""
    inner = sizes.heads * sizes.head_size
    width = inner + 2 * sizes.kv_heads * sizes.head_size

    def changed(op: Operator) -> Operator:
        if op.name == "qkv":
            return msgspec.structs.replace(op, outer=width, parameters=(op.inner + 1) * width)
        if op.kind == "attention":
            kept, statistic = op.saved[:2]
            saved = (
                msgspec.structs.replace(kept, width=width),
                msgspec.structs.replace(statistic, width=sizes.heads),
                *op.saved[2:],
            )
            shape = {"heads": sizes.heads, "kv_heads": sizes.kv_heads, "inner": sizes.head_size}
            return msgspec.structs.replace(op, **shape, saved=saved)
        if op.name == "out":
            saved = tuple(msgspec.structs.replace(s, width=inner) for s in op.saved)
            return msgspec.structs.replace(op, inner=inner, parameters=(inner + 1) * op.outer, saved=saved)
        return op

    layers = tuple(
        msgspec.structs.replace(layer, operators=tuple(changed(op) for op in layer.operators)) for layer in graph.layers
    )
    return msgspec.structs.replace(graph, layers=layers)
