"""Models as tables describe them: a family by name, hyper-parameters from columns, defaults for what is blank."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import BadValue
from .deepseek import VERSIONS, deepseek, version_of
from .published import Shape

if TYPE_CHECKING:
    from model_zoo.operators import Kernels

    from ..graph import ModelGraph, Operator


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


def family_of(model: str, shape: Shape) -> str:
    """The family of a model: by its name, else by the width of its MLP (gated MLPs are not 4 hidden wide)."""
    name = model.lower()
    if "deepseek" in name:
        return "deepseek"
    if shape.experts or re.search(r"mixtral|\d+x\d+(\.\d+)?b|moe|a\d+(\.\d+)?b|\d+e$", name):
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
    if shape.ffn and shape.hidden and shape.ffn % shape.hidden:
        return "llama"
    return "gpt"


def graph_of(model: str, shape: Shape, notes: list[str], granule: int = 1, kernels: Kernels = "fused") -> ModelGraph:
    """The graph of a row's model.

    Parameters
    ----------
    granule
        What the vocabulary is padded to a multiple of.
    kernels
        Those of norms, rotary embeddings and activations.

    Raises
    ------
    BadValue
        If layers or hidden are unknown, or the family cannot be built from columns.
    """
    family = family_of(model, shape)
    for name in ("layers", "hidden") if family != "swin" else ("layers",):
        if not getattr(shape, name):
            raise BadValue(f"{name} is blank", "give it")
    if family in ("vit", "swin"):
        return _vision(model, family, shape, notes)
    shape = _filled(model, family, shape, notes)
    shape = shape._replace(vocab=-(-shape.vocab // granule) * granule)
    common: dict[str, Any] = {"layers": shape.layers, "hidden": shape.hidden, "heads": shape.heads, "ffn": shape.ffn}
    common |= {"vocab": shape.vocab, "sequence": shape.sequence}
    if family == "llama":
        from model_zoo.llama import llama

        return llama(**common, kv_heads=shape.kv_heads, head_size=shape.head_size, kernels=kernels, name=model)
    if family == "bert":
        from model_zoo.bert import bert

        return bert(**common, name=model)
    if family == "gpt":
        from model_zoo.gpt import gpt

        graph = gpt(**common, kernels=kernels, name=model)
        return grouped(graph, shape) if shape.kv_heads != shape.heads else graph
    if family == "t5":
        from model_zoo.t5 import t5

        half = shape.layers // 2
        sizes = {"layers": half, "decoder_layers": shape.layers - half}
        return t5(**(common | sizes), head_size=shape.head_size or max(1, shape.hidden // shape.heads), name=model)
    if family == "mixtral" and not shape.experts and (found := re.search(r"(\d+)x\d+(\.\d+)?b", model.lower())):
        notes.append("2 experts a token")
        shape = shape._replace(experts=int(found[1]), top_k=2)
    if family == "mixtral" and shape.experts:
        from model_zoo.mixtral import mixtral

        more: dict[str, Any] = {"kv_heads": shape.kv_heads, "head_size": shape.head_size, "kernels": kernels}
        return mixtral(**common, **more, experts=shape.experts, top_k=shape.top_k, name=model)
    if family == "deepseek" and (version := version_of(model)):
        notes.append("widths and experts as published")
        return deepseek(model, version, shape)
    raise BadValue(f"a {family} model cannot be built from these columns", "plan it as a graph of its own")


def _vision(model: str, family: str, shape: Shape, notes: list[str]) -> ModelGraph:
    """ViT and Swin on images of 224 pixels; all of Swin's blocks beyond two per stage lie in its third stage."""
    notes.append("images of 224 pixels")
    if family == "vit":
        from model_zoo.vit import vit

        return vit(layers=shape.layers, hidden=shape.hidden, heads=shape.heads or 16, ffn=shape.ffn, name=model)
    from model_zoo.swin import swin

    if shape.layers < 8:
        raise BadValue(f"a Swin transformer of {shape.layers} layers is not known", "give all its blocks as layers")
    depths = (2, 2, shape.layers - 6, 2)
    width = shape.hidden or 320
    first = max(1, width // 40)
    notes.append(f"depths {depths}, width {width}")
    return swin(depths=depths, width=width, heads=(first, 2 * first, 4 * first, 8 * first), name=model)


def _filled(model: str, family: str, shape: Shape, notes: list[str]) -> Shape:
    name = model.lower()
    heads = shape.heads
    if not heads:
        heads = max(1, shape.hidden // 128)
        notes.append(f"{heads} heads")
    ffn = shape.ffn
    if not ffn:
        ffn = 4 * shape.hidden if family != "llama" else -(-8 * shape.hidden // 3 // 256) * 256
        notes.append(f"ffn {ffn}")
    vocab = shape.vocab
    if not vocab and family == "deepseek" and (version := version_of(model)):
        vocab = VERSIONS[version].vocab
    if not vocab:
        vocab = next((size for pattern, size in _VOCABULARY if re.search(pattern, name)), 50257)
        notes.append(f"vocabulary {vocab}")
    if not shape.sequence:
        shape = shape._replace(sequence=512 if family in ("bert", "t5") else 2048)
        notes.append(f"sequence {shape.sequence}")
    return shape._replace(heads=heads, kv_heads=shape.kv_heads or heads, ffn=ffn, vocab=vocab)


def grouped(graph: ModelGraph, shape: Shape) -> ModelGraph:
    """A GPT with fewer key and value heads than heads (Nemotron, Falcon)."""
    size = shape.hidden // shape.heads
    width = (shape.heads + 2 * shape.kv_heads) * size

    def changed(op: Operator) -> Operator:
        if op.name == "qkv":
            return msgspec.structs.replace(op, outer=width, parameters=(op.inner + 1) * width)
        if op.kind == "attention":
            saved = (msgspec.structs.replace(op.saved[0], width=width), *op.saved[1:])
            return msgspec.structs.replace(op, kv_heads=shape.kv_heads, saved=saved)
        return op

    layers = tuple(
        msgspec.structs.replace(layer, operators=tuple(changed(op) for op in layer.operators)) for layer in graph.layers
    )
    return msgspec.structs.replace(graph, layers=layers)
