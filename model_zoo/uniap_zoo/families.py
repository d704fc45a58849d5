"""Which family a row of a table means: by what its columns decide, else by its name."""

from __future__ import annotations

import re
from typing import NamedTuple

from uniap_core.errors import BadValue
from uniap_core.models import Hyperparameters

from .deepseek import VERSIONS, version_of

FAMILIES = ("llama", "mixtral", "deepseek", "gpt", "bert", "t5", "vit", "swin")

_OTHER = re.compile(
    r"mamba|jamba|zamba|rwkv|hyena|retnet|griffin|recurrent|lstm|qwen3[-_ ]?next|qwen3\.5|kimi[-_ ]?linear|minimax"
    r"|nemotron[-_ ]?(h([^a-z]|$)|3([._]5)?[-_ ](nano|super|ultra|lightning))|granite[-_ ]?4"
)
"""Names of models with layers that are no attention."""

_MIXTURES = re.compile(
    r"mixtral|\d+x\d+(\.\d+)?b|moe|(^|[^a-z])a\d+(\.\d+)?b|[-_ ]\d+e$|deepseek.*(v[2-9]|r1)|kimi|glm[-_ ]?(4\.[5-9]|5)"
    r"|gpt[-_ ]?oss|dbrx|grok"
)
_NAMED = (
    ("t5", r"(^|[^a-z])t5"),
    ("bert", "bert"),
    ("swin", "swin"),
    ("vit", r"(^|[^a-z])vit"),
    ("image", r"resnet|unet|(^|[^a-z])dit([^a-z]|$)"),
    (
        "llama",
        "llama|mistral|qwen|yi-|vicuna|deepseek|baichuan|internlm|gemma|palm|olmo|smollm|glm|phi-?[34]|minicpm|granite"
        "|zephyr|codestral|ministral",
    ),
    (
        "gpt",
        "gpt|bloom|nemotron|megatron|turing|falcon|starcoder|codegen|pythia|galactica|gopher|chinchilla"
        r"|(^|[^a-z])(mpt|opt|neo|lm)",
    ),
)


class Family(NamedTuple):
    """A family, and the published configuration of latent attention if it has that."""

    name: str
    version: str = ""


def named(model: str) -> str:
    """The family that a name means, ``other`` for models that are no transformers; blank if it means none."""
    name = model.lower()
    if _OTHER.search(name):
        return "other"
    if _MIXTURES.search(name) and "distill" not in name:
        return "mixtral"
    return next((family for family, words in _NAMED if re.search(words, name)), "")


def family_of(model: str, sizes: Hyperparameters, notes: list[str]) -> Family:
    """The family of a row: the columns decide where they can, and what they say against the name is noted.

    Experts, and an MLP that is not four times as wide as the model (which is gated), decide. Among dense decoders with
    four times the width the name does; grouped key heads without a name speak for Llama's, whole ones for GPT's.

    Raises
    ------
    BadValue
        If no family fits the columns, or the name is that of models with other layers.
    """
    word = named(model)
    if sizes.family:
        return _stated(model, sizes, word, notes)
    if word == "other":
        raise BadValue(
            f"{model} has layers that are no attention, which these columns do not say",
            "plan it as a graph of its own, or name what it is in a column family",
        )
    version = version_of(model)
    if version and _is_latent(sizes, version):
        notes.append("latent attention as published")
        return Family("deepseek", version)
    if sizes.experts > 1:
        return _mixture(model, sizes, word, notes)
    if word in ("bert", "t5", "vit", "swin", "image"):
        return Family(word)
    gated = bool(sizes.ffn and sizes.hidden and sizes.ffn != 4 * sizes.hidden)
    if word == "mixtral":
        if sizes.experts != 1 and not _dense(sizes, version):
            return Family("mixtral")
        notes.append(f"dense by its columns, whatever the name {model} says")
        return Family("llama" if gated or version or _grouped(sizes) else "gpt")
    if gated and word != "llama":
        notes.append(f"a gated MLP (Llama's) by its width{f', not that of a {word} model' if word else ''}")
    if not word and not gated:
        if not sizes.ffn and model != "model":
            raise BadValue(f"no family is known by the name {model}", "give ffn, or the column family")
        notes.append(f"{'Llama' if _grouped(sizes) else 'GPT'}'s layers: the name says nothing")
    if gated or (_grouped(sizes) and not word):
        return Family("llama")
    return Family(word or "gpt")


def _stated(model: str, sizes: Hyperparameters, word: str, notes: list[str]) -> Family:
    family = sizes.family.strip().lower()
    if family not in FAMILIES:
        raise BadValue(f"there is no family {sizes.family!r}", f"choose one of {', '.join(FAMILIES)}")
    if family not in ("mixtral", "deepseek") and sizes.experts > 1:
        raise BadValue(f"family {family} has no experts, and the row has {sizes.experts}", "write mixtral")
    if word and word != family and not (family == "deepseek" and version_of(model)):
        notes.append(f"family {family}, whatever the name {model} says")
    if family != "deepseek":
        return Family(family)
    nearest = min(VERSIONS, key=lambda v: abs(VERSIONS[v].hidden - sizes.hidden))
    return Family(family, version_of(model) or nearest)


def _mixture(model: str, sizes: Hyperparameters, word: str, notes: list[str]) -> Family:
    if word in ("bert", "t5", "vit", "swin", "image"):
        raise BadValue(
            f"a {word} model with {sizes.experts} experts is not built here", "plan it as a graph of its own"
        )
    if version_of(model):
        notes.append(f"attention without latent ranks, whatever the name {model} says")
    elif word in ("llama", "gpt"):
        notes.append(f"experts by its columns, which the name {model} does not say")
    return Family("mixtral")


def _is_latent(sizes: Hyperparameters, version: str) -> bool:
    """Whether the columns allow DeepSeek's published model."""
    return sizes.hidden == VERSIONS[version].hidden and sizes.experts != 1 and not _grouped(sizes)


def _dense(sizes: Hyperparameters, version: str | None) -> bool:
    """Whether columns contradict the experts of a published DeepSeek: they give a whole dense model of another size."""
    return bool(version and not sizes.experts and sizes.heads and sizes.kv_heads and sizes.ffn)


def _grouped(sizes: Hyperparameters) -> bool:
    return 0 < sizes.kv_heads < sizes.heads
