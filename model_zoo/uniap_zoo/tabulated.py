"""Models as tables describe them: a family by name, hyper-parameters from columns, defaults for what is blank."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from uniap_core.errors import BadValue
from uniap_core.graph import ModelGraph, Operator
from uniap_core.models import Hyperparameters, Kernels

from .bert import bert
from .deepseek import VERSIONS, deepseek, version_of
from .gpt import gpt
from .llama import llama
from .mixtral import mixtral
from .swin import swin
from .t5 import t5
from .vit import vit

_GATED = ("llama", "mistral", "qwen", "yi-", "vicuna", "deepseek", "baichuan", "internlm", "gemma", "palm", "olmo")
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


def family_of(model: str, sizes: Hyperparameters) -> str:
    """The family of a model: by its name, else by the width of its MLP (gated MLPs are not 4 hidden wide)."""
    name = model.lower()
    if "deepseek" in name:
        return "deepseek"
    if sizes.experts or re.search(r"mixtral|\d+x\d+(\.\d+)?b|moe|a\d+(\.\d+)?b|\d+e$", name):
        return "mixtral"
    if any(word in name for word in _GATED):
        return "llama"
    if re.search(r"(^|[^a-z])t5", name):
        return "t5"
    if "bert" in name:
        return "bert"
    if "swin" in name:
        return "swin"
    if re.search(r"(^|[^a-z])vit", name):
        return "vit"
    if re.search(r"resnet|unet|dit", name):
        return "image"
    if re.search(r"gpt|mpt|opt|bloom|nemotron|neo|megatron|turing|falcon|lm", name):
        return "gpt"
    if sizes.ffn and sizes.hidden and sizes.ffn % sizes.hidden:
        return "llama"
    return "gpt"


def graph_of(
    model: str, sizes: Hyperparameters, notes: list[str], granule: int = 1, kernels: Kernels = "fused"
) -> ModelGraph:
    """The graph of a row's model (:func:`uniap_core.models.from_hyperparameters` says what the parameters are).

    Raises
    ------
    BadValue
        If layers or hidden are unknown, or the family cannot be built from columns.
    """
    family = family_of(model, sizes)
    for name in ("layers", "hidden") if family != "swin" else ("layers",):
        if not getattr(sizes, name):
            raise BadValue(f"{name} is blank", "give it")
    if family in ("vit", "swin"):
        return _vision(model, family, sizes, notes)
    sizes = _filled(model, family, sizes, notes)
    sizes = sizes._replace(vocab=-(-sizes.vocab // granule) * granule)
    common: dict[str, Any] = {"layers": sizes.layers, "hidden": sizes.hidden, "heads": sizes.heads, "ffn": sizes.ffn}
    common |= {"vocab": sizes.vocab, "sequence": sizes.sequence}
    if family == "llama":
        return llama(**common, kv_heads=sizes.kv_heads, head_size=sizes.head_size, kernels=kernels, name=model)
    if family == "bert":
        return bert(**common, name=model)
    if family == "gpt":
        graph = gpt(**common, kernels=kernels, name=model)
        return grouped(graph, sizes) if sizes.kv_heads != sizes.heads else graph
    if family == "t5":
        half = sizes.layers // 2
        common |= {"layers": half, "decoder_layers": sizes.layers - half}
        return t5(**common, head_size=sizes.head_size or max(1, sizes.hidden // sizes.heads), name=model)
    if family == "mixtral" and not sizes.experts and (found := re.search(r"(\d+)x\d+(\.\d+)?b", model.lower())):
        notes.append("2 experts a token")
        sizes = sizes._replace(experts=int(found[1]), top_k=2)
    if family == "mixtral" and sizes.experts:
        more: dict[str, Any] = {"kv_heads": sizes.kv_heads, "head_size": sizes.head_size, "kernels": kernels}
        return mixtral(**common, **more, experts=sizes.experts, top_k=sizes.top_k, name=model)
    if family == "deepseek" and (version := version_of(model)):
        notes.append("widths and experts as published")
        return deepseek(model, version, sizes)
    raise BadValue(f"a {family} model cannot be built from these columns", "plan it as a graph of its own")


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
    return swin(depths=depths, width=width, heads=(first, 2 * first, 4 * first, 8 * first), name=model)


def _filled(model: str, family: str, sizes: Hyperparameters, notes: list[str]) -> Hyperparameters:
    name = model.lower()
    heads = sizes.heads
    if not heads:
        heads = max(1, sizes.hidden // 128)
        notes.append(f"{heads} heads")
    ffn = sizes.ffn
    if not ffn:
        ffn = 4 * sizes.hidden if family != "llama" else -(-8 * sizes.hidden // 3 // 256) * 256
        notes.append(f"ffn {ffn}")
    vocab = sizes.vocab
    if not vocab and family == "deepseek" and (version := version_of(model)):
        vocab = VERSIONS[version].vocab
    if not vocab:
        vocab = next((size for pattern, size in _VOCABULARY if re.search(pattern, name)), 50257)
        notes.append(f"vocabulary {vocab}")
    if not sizes.sequence:
        sizes = sizes._replace(sequence=512 if family in ("bert", "t5") else 2048)
        notes.append(f"sequence {sizes.sequence}")
    return sizes._replace(heads=heads, kv_heads=sizes.kv_heads or heads, ffn=ffn, vocab=vocab)


def grouped(graph: ModelGraph, sizes: Hyperparameters) -> ModelGraph:
    """A GPT with fewer key and value heads than heads (Nemotron, Falcon)."""
    size = sizes.hidden // sizes.heads
    width = (sizes.heads + 2 * sizes.kv_heads) * size

    def changed(op: Operator) -> Operator:
        if op.name == "qkv":
            return msgspec.structs.replace(op, outer=width, parameters=(op.inner + 1) * width)
        if op.kind == "attention":
            saved = (msgspec.structs.replace(op.saved[0], width=width), *op.saved[1:])
            return msgspec.structs.replace(op, kv_heads=sizes.kv_heads, saved=saved)
        return op

    layers = tuple(
        msgspec.structs.replace(layer, operators=tuple(changed(op) for op in layer.operators)) for layer in graph.layers
    )
    return msgspec.structs.replace(graph, layers=layers)
