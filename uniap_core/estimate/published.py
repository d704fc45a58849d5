"""What is published of models by name: shapes, and what no column of a table says (head size, experts).

Sources are the ``config.json`` files that go with the weights; several of these models have biases or extra norms
that the graphs of :mod:`model_zoo` lack, which matters to no price, so they are here and not there.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Shape(NamedTuple):
    """Hyper-parameters of a row; 0 is unknown.

    ``head_size`` 0 is hidden / heads; ``ffn`` is that of one expert where there are ``experts``, of which a token
    visits ``top_k``.
    """

    layers: int = 0
    hidden: int = 0
    heads: int = 0
    kv_heads: int = 0
    ffn: int = 0
    vocab: int = 0
    sequence: int = 0
    head_size: int = 0
    experts: int = 0
    top_k: int = 0


_KNOWN = {
    "llama3.2-1b": Shape(16, 2048, 32, 8, 8192, 128256),
    "llama3.2-3b": Shape(28, 3072, 24, 8, 8192, 128256),
    "mistral-7b": Shape(32, 4096, 32, 8, 14336, 32000),
    "mistral-nemo-12b": Shape(40, 5120, 32, 8, 14336, 131072, head_size=128),
    "mixtral-8x22b": Shape(56, 6144, 48, 8, 16384, 32000, experts=8, top_k=2),
    "qwen2.5-0.5b": Shape(24, 896, 14, 2, 4864, 151936),
    "qwen2.5-1.5b": Shape(28, 1536, 12, 2, 8960, 151936),
    "qwen2.5-3b": Shape(36, 2048, 16, 2, 11008, 151936),
    "qwen2.5-7b": Shape(28, 3584, 28, 4, 18944, 152064),
    "qwen2.5-14b": Shape(48, 5120, 40, 8, 13824, 152064),
    "qwen2.5-32b": Shape(64, 5120, 40, 8, 27648, 152064),
    "qwen2.5-72b": Shape(80, 8192, 64, 8, 29568, 152064),
    "qwen2-7b": Shape(28, 3584, 28, 4, 18944, 152064),
    "qwen2-72b": Shape(80, 8192, 64, 8, 29568, 152064),
    "qwen3-0.6b": Shape(28, 1024, 16, 8, 3072, 151936, head_size=128),
    "qwen3-1.7b": Shape(28, 2048, 16, 8, 6144, 151936, head_size=128),
    "qwen3-4b": Shape(36, 2560, 32, 8, 9728, 151936, head_size=128),
    "qwen3-8b": Shape(36, 4096, 32, 8, 12288, 151936, head_size=128),
    "qwen3-14b": Shape(40, 5120, 40, 8, 17408, 151936, head_size=128),
    "qwen3-32b": Shape(64, 5120, 64, 8, 25600, 151936, head_size=128),
    "qwen3-30b-a3b": Shape(48, 2048, 32, 4, 768, 151936, head_size=128, experts=128, top_k=8),
    "qwen3-235b-a22b": Shape(94, 4096, 64, 4, 1536, 151936, head_size=128, experts=128, top_k=8),
    "gemma-2b": Shape(18, 2048, 8, 1, 16384, 256000, head_size=256),
    "gemma-7b": Shape(28, 3072, 16, 16, 24576, 256000, head_size=256),
    "gemma2-9b": Shape(42, 3584, 16, 8, 14336, 256000, head_size=256),
    "gemma2-27b": Shape(46, 4608, 32, 16, 36864, 256000, head_size=128),
    "phi3-mini": Shape(32, 3072, 32, 32, 8192, 32064),
    "phi4": Shape(40, 5120, 40, 10, 17920, 100352),
    "yi-6b": Shape(32, 4096, 32, 4, 11008, 64000),
    "yi-34b": Shape(60, 7168, 56, 8, 20480, 64000),
    "falcon-7b": Shape(32, 4544, 71, 1, 18176, 65024),
    "falcon-40b": Shape(60, 8192, 128, 8, 32768, 65024),
    "falcon-180b": Shape(80, 14848, 232, 8, 59392, 65024),
    "bloom-7b1": Shape(30, 4096, 32, 32, 16384, 250880),
    "bloom-176b": Shape(70, 14336, 112, 112, 57344, 250880),
    "opt-350m": Shape(24, 1024, 16, 16, 4096, 50272),
    "opt-1.3b": Shape(24, 2048, 32, 32, 8192, 50272),
    "opt-2.7b": Shape(32, 2560, 32, 32, 10240, 50272),
    "opt-6.7b": Shape(32, 4096, 32, 32, 16384, 50272),
    "opt-13b": Shape(40, 5120, 40, 40, 20480, 50272),
    "opt-30b": Shape(48, 7168, 56, 56, 28672, 50272),
    "opt-66b": Shape(64, 9216, 72, 72, 36864, 50272),
    "opt-175b": Shape(96, 12288, 96, 96, 49152, 50272),
    "gpt-neo-1.3b": Shape(24, 2048, 16, 16, 8192, 50257),
    "gpt-neo-2.7b": Shape(32, 2560, 20, 20, 10240, 50257),
    "gpt-j-6b": Shape(28, 4096, 16, 16, 16384, 50400),
    "gpt-neox-20b": Shape(44, 6144, 64, 64, 24576, 50432),
    "mpt-7b": Shape(32, 4096, 32, 32, 16384, 50432),
    "mpt-30b": Shape(48, 7168, 64, 64, 28672, 50432),
    "nemotron-15b": Shape(32, 6144, 48, 8, 24576, 256000),
    "nemotron-340b": Shape(96, 18432, 96, 8, 73728, 256000),
    "gpt-oss-20b": Shape(24, 2880, 64, 8, 2880, 201088, head_size=64, experts=32, top_k=4),
    "gpt-oss-120b": Shape(36, 2880, 64, 8, 2880, 201088, head_size=64, experts=128, top_k=4),
    "dbrx": Shape(40, 6144, 48, 8, 10752, 100352, experts=16, top_k=4),
    "grok-1": Shape(64, 6144, 48, 8, 32768, 131072, experts=8, top_k=2),
    "t5-base": Shape(24, 768, 12, 12, 3072, 32128, head_size=64),
    "t5-3b": Shape(48, 1024, 32, 32, 16384, 32128, head_size=128),
    "t5-11b": Shape(48, 1024, 128, 128, 65536, 32128, head_size=128),
    "olmoe-1b-7b": Shape(16, 2048, 16, 16, 1024, 50304, experts=64, top_k=8),
}

_SUFFIX = re.compile(r"[-_ ](instruct|base|chat|it|hf|v0\.\d|pt)$")


def _plain(name: str) -> str:
    """A name without owner, without what was done after pre-training, and without punctuation."""
    name = name.lower().split("/")[-1]
    while (shorter := _SUFFIX.sub("", name)) != name:
        name = shorter
    return re.sub(r"[^a-z0-9.]", "", name).replace("llama3.1", "llama3").replace("llama3.3", "llama3")


def name_of(model: str) -> str | None:
    """The published model that a name means, from the zoo or the table here; ``None`` if it is not known."""
    return _names().get(_plain(model))


@cache
def _names() -> dict[str, str]:
    import model_zoo

    # The table here goes before the zoo.
    return {_plain(name): name for name in (*reversed(model_zoo.names()), *reversed(_KNOWN))}


@cache
def shape_of(name: str) -> Shape:
    """The shape of a published model."""
    if name in _KNOWN:
        return _KNOWN[name]
    import model_zoo

    known = model_zoo.build(name, None).architecture
    fields = ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "experts", "top_k")
    values = {field: int(known.get(field, 0)) for field in fields}
    values["layers"] += int(known.get("decoder_layers", 0))
    return Shape(**values)


def filled(model: str, shape: Shape, notes: list[str]) -> Shape:
    """A shape with what is unknown filled from the published one of that name.

    A row with layers and hidden size of its own takes only what columns cannot say, and only if the hidden size is
    that of the published model.
    """
    name = name_of(model)
    if name is None:
        return shape
    known = shape_of(name)
    if not (shape.layers and shape.hidden):
        notes.append(f"shape of {name}")
        return _with(shape, known, Shape._fields)
    if shape.hidden != known.hidden:
        return shape
    if known.experts:
        notes.append(f"{known.top_k} of {known.experts} experts")
        # Tables give now the width of an expert, now that of a dense layer which the model does not have.
        shape = shape._replace(ffn=known.ffn)
    return _with(shape, known, ("heads", "kv_heads", "ffn", "vocab", "head_size", "experts", "top_k"))


def _with(shape: Shape, known: Shape, fields: Iterable[str]) -> Shape:
    blank = [field for field in fields if not getattr(shape, field)]
    return shape._replace(**{field: getattr(known, field) for field in blank})
