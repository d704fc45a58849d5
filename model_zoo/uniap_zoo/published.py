"""What is published of models by name: sizes, and what no column of a table says (head size, experts).

Sources are the ``config.json`` files that go with the weights; several of these models have biases or extra norms
that the zoo's graphs lack, which matters to no price: they are known here by their sizes, and no name of the zoo's.
"""

from __future__ import annotations

import re
from functools import cache

from uniap_core.models import Hyperparameters

from . import catalogue

KNOWN = {
    "llama3.2-1b": Hyperparameters(16, 2048, 32, 8, 8192, 128256),
    "llama3.2-3b": Hyperparameters(28, 3072, 24, 8, 8192, 128256),
    "mistral-7b": Hyperparameters(32, 4096, 32, 8, 14336, 32000),
    "mistral-nemo-12b": Hyperparameters(40, 5120, 32, 8, 14336, 131072, head_size=128),
    "mixtral-8x22b": Hyperparameters(56, 6144, 48, 8, 16384, 32000, experts=8, top_k=2),
    "qwen2.5-0.5b": Hyperparameters(24, 896, 14, 2, 4864, 151936),
    "qwen2.5-1.5b": Hyperparameters(28, 1536, 12, 2, 8960, 151936),
    "qwen2.5-3b": Hyperparameters(36, 2048, 16, 2, 11008, 151936),
    "qwen2.5-7b": Hyperparameters(28, 3584, 28, 4, 18944, 152064),
    "qwen2.5-14b": Hyperparameters(48, 5120, 40, 8, 13824, 152064),
    "qwen2.5-32b": Hyperparameters(64, 5120, 40, 8, 27648, 152064),
    "qwen2.5-72b": Hyperparameters(80, 8192, 64, 8, 29568, 152064),
    "qwen2-7b": Hyperparameters(28, 3584, 28, 4, 18944, 152064),
    "qwen2-72b": Hyperparameters(80, 8192, 64, 8, 29568, 152064),
    "qwen3-0.6b": Hyperparameters(28, 1024, 16, 8, 3072, 151936, head_size=128),
    "qwen3-1.7b": Hyperparameters(28, 2048, 16, 8, 6144, 151936, head_size=128),
    "qwen3-4b": Hyperparameters(36, 2560, 32, 8, 9728, 151936, head_size=128),
    "qwen3-8b": Hyperparameters(36, 4096, 32, 8, 12288, 151936, head_size=128),
    "qwen3-14b": Hyperparameters(40, 5120, 40, 8, 17408, 151936, head_size=128),
    "qwen3-32b": Hyperparameters(64, 5120, 64, 8, 25600, 151936, head_size=128),
    "qwen3-30b-a3b": Hyperparameters(48, 2048, 32, 4, 768, 151936, head_size=128, experts=128, top_k=8),
    "qwen3-235b-a22b": Hyperparameters(94, 4096, 64, 4, 1536, 151936, head_size=128, experts=128, top_k=8),
    "gemma-2b": Hyperparameters(18, 2048, 8, 1, 16384, 256000, head_size=256),
    "gemma-7b": Hyperparameters(28, 3072, 16, 16, 24576, 256000, head_size=256),
    "gemma2-9b": Hyperparameters(42, 3584, 16, 8, 14336, 256000, head_size=256),
    "gemma2-27b": Hyperparameters(46, 4608, 32, 16, 36864, 256000, head_size=128),
    "gemma3-4b": Hyperparameters(34, 2560, 8, 4, 10240, 262208, head_size=256),
    "gemma3-12b": Hyperparameters(48, 3840, 16, 8, 15360, 262208, head_size=256),
    "gemma3-27b": Hyperparameters(62, 5376, 32, 16, 21504, 262208, head_size=128),
    "glm-4.5-air": Hyperparameters(46, 4096, 96, 8, 10944, 151552, 0, 128, 128, 8, 1408, 1, 1),
    "glm-4.5": Hyperparameters(92, 5120, 96, 8, 12288, 151552, 0, 128, 160, 8, 1536, 1, 3),
    "smollm3-3b": Hyperparameters(36, 2048, 16, 4, 11008, 128256),
    "phi3-mini": Hyperparameters(32, 3072, 32, 32, 8192, 32064),
    "phi4": Hyperparameters(40, 5120, 40, 10, 17920, 100352),
    "yi-6b": Hyperparameters(32, 4096, 32, 4, 11008, 64000),
    "yi-34b": Hyperparameters(60, 7168, 56, 8, 20480, 64000),
    "falcon-7b": Hyperparameters(32, 4544, 71, 1, 18176, 65024),
    "falcon-40b": Hyperparameters(60, 8192, 128, 8, 32768, 65024),
    "falcon-180b": Hyperparameters(80, 14848, 232, 8, 59392, 65024),
    "bloom-7b1": Hyperparameters(30, 4096, 32, 32, 16384, 250880),
    "bloom-176b": Hyperparameters(70, 14336, 112, 112, 57344, 250880),
    "opt-350m": Hyperparameters(24, 1024, 16, 16, 4096, 50272),
    "opt-1.3b": Hyperparameters(24, 2048, 32, 32, 8192, 50272),
    "opt-2.7b": Hyperparameters(32, 2560, 32, 32, 10240, 50272),
    "opt-6.7b": Hyperparameters(32, 4096, 32, 32, 16384, 50272),
    "opt-13b": Hyperparameters(40, 5120, 40, 40, 20480, 50272),
    "opt-30b": Hyperparameters(48, 7168, 56, 56, 28672, 50272),
    "opt-66b": Hyperparameters(64, 9216, 72, 72, 36864, 50272),
    "opt-175b": Hyperparameters(96, 12288, 96, 96, 49152, 50272),
    "gpt-neo-1.3b": Hyperparameters(24, 2048, 16, 16, 8192, 50257),
    "gpt-neo-2.7b": Hyperparameters(32, 2560, 20, 20, 10240, 50257),
    "gpt-j-6b": Hyperparameters(28, 4096, 16, 16, 16384, 50400),
    "gpt-neox-20b": Hyperparameters(44, 6144, 64, 64, 24576, 50432),
    "mpt-7b": Hyperparameters(32, 4096, 32, 32, 16384, 50432),
    "mpt-30b": Hyperparameters(48, 7168, 64, 64, 28672, 50432),
    "nemotron-15b": Hyperparameters(32, 6144, 48, 8, 24576, 256000),
    "nemotron-340b": Hyperparameters(96, 18432, 96, 8, 73728, 256000),
    "gpt-oss-20b": Hyperparameters(24, 2880, 64, 8, 2880, 201088, head_size=64, experts=32, top_k=4),
    "gpt-oss-120b": Hyperparameters(36, 2880, 64, 8, 2880, 201088, head_size=64, experts=128, top_k=4),
    "dbrx": Hyperparameters(40, 6144, 48, 8, 10752, 100352, experts=16, top_k=4),
    "grok-1": Hyperparameters(64, 6144, 48, 8, 32768, 131072, experts=8, top_k=2),
    "t5-base": Hyperparameters(24, 768, 12, 12, 3072, 32128, head_size=64),
    "t5-3b": Hyperparameters(48, 1024, 32, 32, 16384, 32128, head_size=128),
    "t5-11b": Hyperparameters(48, 1024, 128, 128, 65536, 32128, head_size=128),
    "olmoe-1b-7b": Hyperparameters(16, 2048, 16, 16, 1024, 50304, experts=64, top_k=8),
}
"""By the name that is written in notes."""

_SUFFIX = re.compile(r"[-_ ](instruct|base|chat|it|hf|v0\.\d|pt)$")


def _plain(name: str) -> str:
    """A name without owner, without what was done after pre-training, and without punctuation."""
    name = name.lower().split("/")[-1]
    while (shorter := _SUFFIX.sub("", name)) != name:
        name = shorter
    return re.sub(r"[^a-z0-9.]", "", name).replace("llama3.1", "llama3").replace("llama3.3", "llama3")


def published(name: str) -> tuple[str, Hyperparameters] | None:
    """The published model that a name means, from the table here or the catalogue; ``None`` if it is not known."""
    known = _names().get(_plain(name))
    return None if known is None else (known, sizes_of(known))


@cache
def _names() -> dict[str, str]:
    # The table here goes before the catalogue.
    return {_plain(name): name for name in (*reversed(catalogue.names()), *reversed(KNOWN))}


@cache
def sizes_of(name: str) -> Hyperparameters:
    """The hyper-parameters of a published model."""
    if name in KNOWN:
        return KNOWN[name]
    known = catalogue.build(name, None).architecture
    fields = ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab")
    layers, hidden, heads, kv_heads, ffn, vocab = (int(known.get(field, 0)) for field in fields)
    layers += int(known.get("decoder_layers", 0))
    experts, top_k = int(known.get("experts", 0)), int(known.get("top_k", 0))
    return Hyperparameters(layers, hidden, heads, kv_heads, ffn, vocab, experts=experts, top_k=top_k)
