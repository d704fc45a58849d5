"""The models known by name, and families with free parameters such as ``gpt:layers=24,hidden=2048,heads=16``.

A model is a family with parameters, or a configuration as the Hugging Face hub has it (:mod:`uniap_zoo.hub`).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from msgspec import structs

from uniap_core.errors import BadValue, UnknownName
from uniap_core.graph import ModelGraph
from uniap_core.models import Kernels

from . import hub
from .hub.config import Unread
from .hub.decoder import graph as graph_of_decoder
from .operators import KERNELS

FAMILIES = ("bert", "t5", "vit", "swin", "llama", "gpt", "mixtral")
"""Families; each is a module of this package with a builder of the same name."""

MOST_LAYERS, MOST = 20_000, 10**10
"""The largest number of layers, and the largest of any other parameter."""

KEYS = {"seq": "sequence", "positions": "positions_learned"}
"""Short spellings of a family's parameters."""


@dataclass(frozen=True)
class Entry:
    """A named model.

    Attributes
    ----------
    published
        Parameters as its authors (or the source named) give them.
    source
        Where its hyper-parameters come from.
    hub
        Its names on the Hugging Face hub.
    group
        What it is listed under.
    config
        Its ``config.json``, for models that are built from one; ``parameters`` are empty then, but for the sequence.
    active
        Parameters that a token visits, as its authors give them.
    """

    name: str
    family: str
    parameters: dict[str, Any]
    published: str
    source: str
    hub: tuple[str, ...] = ()
    group: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    active: str = ""

    @property
    def summary(self) -> str:
        """One line: family, depth, width, parameters and where they are published."""
        if self.config:
            return self._of_config()
        p = self.parameters
        layers, width = p.get("layers", p.get("depths")), p.get("hidden", p.get("width"))
        depth = "/".join(map(str, layers)) if isinstance(layers, tuple) else str(layers)
        if "decoder_layers" in p:
            depth += f"+{p['decoder_layers']}"
        return f"{self.family}, {depth} layers, hidden {width}, {self.published} parameters ({self.source})"

    def _of_config(self) -> str:
        facts = build(self.name).architecture
        active = f", {self.active} active" if self.active else ""
        shape = f"{self.family}, {facts['layers']} layers, hidden {facts['hidden']}"
        return f"{shape}, {self.published} parameters{active} ({self.hub[0]})"


def _t5(blocks: int, hidden: int, heads: int, ffn: int, size: int) -> dict[str, Any]:
    sizes = {"layers": blocks, "decoder_layers": blocks, "hidden": hidden, "heads": heads, "ffn": ffn}
    return sizes | {"head_size": size}


_T5 = (
    ("base", _t5(12, 768, 12, 3072, 64), "223 M"),
    ("3b", _t5(24, 1024, 32, 16384, 128), "2.85 B"),
    ("11b", _t5(24, 1024, 128, 65536, 128), "11.3 B"),
)


def _entries() -> tuple[Entry, ...]:
    uniap = "UniAP, arXiv 2307.16375"
    llama1, llama2, llama3 = "Touvron et al. 2023a", "Touvron et al. 2023b", "Llama team 2024"
    gpt2, gpt3 = "Radford et al. 2019", "Brown et al. 2020"
    huge = {"layers": 32, "hidden": 1280, "heads": 16}

    def llama(
        name: str, layers: int, hidden: int, heads: int, ffn: int, count: str, source: str, **more: float
    ) -> Entry:
        sizes = {"layers": layers, "hidden": hidden, "heads": heads, "ffn": ffn, "sequence": 2048} | more
        return Entry(name, "llama", sizes, count, source)

    def gpt(name: str, layers: int, hidden: int, heads: int, count: str, source: str, positions: int) -> Entry:
        sizes = {"layers": layers, "hidden": hidden, "heads": heads, "sequence": positions}
        return Entry(name, "gpt", sizes, count, source)

    second = {"sequence": 4096, "norm_eps": 1e-5}
    third = {"kv_heads": 8, "vocab": 128256, "sequence": 8192, "rotary_base": 500000, "norm_eps": 1e-5}
    return (
        Entry("bert-huge", "bert", huge, "672 M", uniap),
        Entry("bert-large", "bert", {"layers": 24, "hidden": 1024, "heads": 16}, "340 M", "Devlin et al. 2019"),
        Entry("bert-base", "bert", {"layers": 12, "hidden": 768, "heads": 12}, "110 M", "Devlin et al. 2019"),
        Entry(
            "t5-large",
            "t5",
            {"layers": 24, "decoder_layers": 24, "hidden": 1024, "heads": 16, "ffn": 4096},
            "737 M",
            uniap,
        ),
        *(Entry(f"t5-{size}", "t5", sizes, figure, "Raffel et al. 2020") for size, sizes, figure in _T5),
        Entry("vit-huge", "vit", huge | {"image": 224, "patch": 16}, "632 M", uniap),
        Entry(
            "swin-huge",
            "swin",
            {"depths": (2, 2, 42, 2), "width": 320, "heads": (8, 16, 32, 64), "window": 7},
            "1.02 B",
            uniap,
        ),
        llama("llama-7b", 32, 4096, 32, 11008, "6.7 B", llama1),
        llama("llama-13b", 40, 5120, 40, 13824, "13.0 B", llama1),
        llama("llama2-7b", 32, 4096, 32, 11008, "6.7 B", llama2, **second),
        llama("llama2-13b", 40, 5120, 40, 13824, "13.0 B", llama2, **second),
        llama("llama2-70b", 80, 8192, 64, 28672, "69 B", llama2, kv_heads=8, **second),
        llama("llama3-8b", 32, 4096, 32, 14336, "8 B", llama3, **third),
        llama("llama3-70b", 80, 8192, 64, 28672, "70.6 B", llama3, **third),
        llama("llama3-405b", 126, 16384, 128, 53248, "405 B", llama3, **third),
        Entry(
            "mixtral-8x7b",
            "mixtral",
            {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "ffn": 14336, "experts": 8, "top_k": 2},
            "46.7 B",
            "Jiang et al. 2024",
        ),
        gpt("gpt2", 12, 768, 12, "124 M", gpt2, 1024),
        gpt("gpt2-medium", 24, 1024, 16, "355 M", gpt2, 1024),
        gpt("gpt2-large", 36, 1280, 20, "774 M", gpt2, 1024),
        gpt("gpt2-xl", 48, 1600, 25, "1.56 B", gpt2, 1024),
        gpt("gpt3-1.3b", 24, 2048, 16, "1.3 B", gpt3, 2048),
        gpt("gpt3-2.7b", 32, 2560, 32, "2.7 B", gpt3, 2048),
        gpt("gpt3-6.7b", 32, 4096, 32, "6.7 B", gpt3, 2048),
        gpt("gpt3-13b", 40, 5120, 40, "13 B", gpt3, 2048),
        gpt("gpt3-175b", 96, 12288, 96, "175 B", gpt3, 2048),
    )


HUB = {
    "bert-base": ("google-bert/bert-base-uncased",),
    "bert-large": ("google-bert/bert-large-uncased",),
    "llama2-7b": ("meta-llama/Llama-2-7b-hf",),
    "llama2-13b": ("meta-llama/Llama-2-13b-hf",),
    "llama2-70b": ("meta-llama/Llama-2-70b-hf",),
    "llama3-8b": ("meta-llama/Meta-Llama-3-8B",),
    "llama3-70b": ("meta-llama/Meta-Llama-3-70B",),
    "llama3-405b": ("meta-llama/Meta-Llama-3-405B",),
    "mixtral-8x7b": ("mistralai/Mixtral-8x7B-v0.1",),
    "gpt2": ("openai-community/gpt2",),
    "gpt2-medium": ("openai-community/gpt2-medium",),
    "gpt2-large": ("openai-community/gpt2-large",),
    "gpt2-xl": ("openai-community/gpt2-xl",),
}
"""Names on the Hugging Face hub of models that families build."""

GROUPS = {
    "bert": "BERT, T5, ViT, Swin",
    "t5": "BERT, T5, ViT, Swin",
    "vit": "BERT, T5, ViT, Swin",
    "swin": "BERT, T5, ViT, Swin",
    "llama": "Llama 1 to 3",
    "mixtral": "Mixtral",
    "gpt": "GPT-2 and GPT-3",
}
"""What families are listed under."""


def _all_entries() -> dict[str, Entry]:
    from dataclasses import replace

    found = {e.name: replace(e, hub=HUB.get(e.name, ()), group=GROUPS[e.family]) for e in _entries()}
    for module in hub.families():
        for m in module.MODELS:
            kind, sizes = m.config["model_type"], {"sequence": m.sequence}
            found[m.name] = Entry(m.name, kind, sizes, m.published, m.source, m.hub, module.FAMILY, m.config, m.active)
    return found


ENTRIES = _all_entries()
"""The named models in the order in which they are listed."""

_SUFFIX = re.compile(
    r"[-_ ](instruct|base|chat|it|hf|v0\.\d|pt|thinking|reasoning|sft|2[45]\d\d|bf16|fp16|fp8|float8|nvfp4|nf4|bnb|gptq"
    r"|dequantized|deduped)$"
)


def plain(name: str) -> str:
    """A name without owner, without what was done after pre-training, and without punctuation."""
    name = name.lower().split("/")[-1].removesuffix(".yaml")
    while (shorter := _SUFFIX.sub("", name)) != name:
        name = shorter
    return re.sub(r"[^a-z0-9.]", "", name).removeprefix("meta").removeprefix("nvidia")


@cache
def _spellings() -> dict[str, str]:
    spelled: dict[str, str] = {}
    for entry in ENTRIES.values():
        for name in (entry.name, *entry.hub):
            spelled.setdefault(plain(name), entry.name)
    return spelled


def meant(name: str) -> str | None:
    """The listed name that a name means, in any spelling or as the hub has it; ``None`` if it is not known."""
    return name if name in ENTRIES else _spellings().get(plain(name))


def group(name: str) -> str:
    """What a named model is listed under."""
    return ENTRIES[name].group


def aliases(name: str) -> tuple[str, ...]:
    """Other names of a named model."""
    return ENTRIES[name].hub


def names() -> tuple[str, ...]:
    """Names of the zoo's models."""
    return tuple(ENTRIES)


def summary(name: str) -> str:
    """One line about a named model."""
    return ENTRIES[name].summary


@cache
def build(name: str, sequence: int | None = None) -> ModelGraph:
    """The graph of a model.

    Parameters
    ----------
    name
        One of :func:`names` or another spelling of it; a family with parameters, as in
        ``gpt:layers=24,hidden=2048,heads=16,seq=2048``; or a named model with layers of multi-token prediction, as in
        ``deepseek-v3:mtp=1``.
    sequence
        Positions per sample (default: the model's own).

    Raises
    ------
    UnknownName
        For an unknown model or parameter; lists the known ones.
    BadValue
        For a parameter that is missing, given twice, not a number, or makes no sense.
    """
    family, colon, text = name.partition(":")
    known_as = meant(family) if not colon or family not in FAMILIES else None
    if known_as and ENTRIES[known_as].config:
        return _configured(ENTRIES[known_as], text, sequence)
    if colon:
        parameters = parse(family, text)
    elif known_as:
        name, family, parameters = known_as, ENTRIES[known_as].family, dict(ENTRIES[known_as].parameters)
    else:
        close = difflib.get_close_matches(name, ENTRIES, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        known = (
            f"known: {', '.join(ENTRIES)}; or {', '.join(FAMILIES)} with parameters, as in llama:layers=..,hidden=.."
        )
        raise UnknownName(f"there is no model named {name!r}", hint + known)
    if sequence is not None:
        if "sequence" not in _signature(family):
            raise BadValue(f"{name} takes images, not sequences of {sequence}", "leave the sequence out")
        if sequence < 1:
            raise BadValue(f"{name}: sequence is {sequence}", "give at least 1 position")
        if not colon and "positions_learned" in _signature(family):
            parameters["positions_learned"] = positions_learned(family, parameters)
        parameters["sequence"] = sequence
    graph: ModelGraph = _builder(family)(**parameters, name=name)
    return structs.replace(graph, source=f"zoo:{name}")


def _configured(entry: Entry, text: str, sequence: int | None, kernels: Kernels = "eager") -> ModelGraph:
    """A named model by its configuration, with ``seq=`` and ``mtp=`` from behind its name."""
    chosen: dict[str, int] = {}
    for item in filter(None, text.split(",")):
        key, _, value = (part.strip() for part in item.partition("="))
        if key not in ("seq", "mtp"):
            raise UnknownName(f"{entry.name} has no parameter {key!r}", "known: seq, mtp")
        if not value.isdecimal():
            raise BadValue(f"{entry.name}: {key}={value} is not a whole number", f"write {key} as a whole number")
        chosen[key] = int(value)
    length = sequence if sequence is not None else chosen.get("seq", entry.parameters["sequence"])
    if not 1 <= length <= MOST:
        raise BadValue(f"{entry.name}: sequence is {length}", "give at least 1 position")
    mtp = _bounded(entry.name, "mtp layers", chosen.get("mtp", 0))
    name = entry.name + (f":mtp={mtp}" if mtp else "")
    try:
        decoder, _ = hub.read(entry.config, length, kernels)
        graph = graph_of_decoder(decoder, name, length, f"zoo:{name}", mtp=mtp)
    except Unread as error:
        raise BadValue(f"{entry.name}: {error}", "leave mtp out") from None
    return structs.replace(graph, architecture=graph.architecture | {"kernels": kernels})


def with_kernels(graph: ModelGraph, kernels: Kernels) -> ModelGraph | None:
    """A graph of the zoo with other kernels, or ``None`` for others and for models whose name says the kernels."""
    if not graph.source.startswith("zoo:") or "kernels=" in graph.source:
        return None
    head, _, text = graph.source.removeprefix("zoo:").partition(":")
    if head in ENTRIES and ENTRIES[head].config:
        return _configured(ENTRIES[head], text, graph.sequence, kernels)
    family = str(graph.architecture["family"])
    known = dict(graph.architecture) | {"kernels": kernels, "sequence": graph.sequence}
    known["positions_learned"] = known.get("positions", 0)
    built: ModelGraph = _builder(family)(
        **{key: known[key] for key in _signature(family) if key in known}, name=graph.name
    )
    return structs.replace(built, source=graph.source)


def positions_learned(family: str, parameters: dict[str, Any]) -> int:
    """Entries of a named model's position table, which a longer sequence must not stretch."""
    default = {"bert": 512}.get(family, 1024)
    return int(parameters.get("positions_learned") or parameters.get("sequence") or default)


def parse(family: str, text: str) -> dict[str, Any]:
    """The parameters of a family from ``key=value,key=value``.

    Raises
    ------
    UnknownName
        For an unknown family or key.
    BadValue
        For a value that does not parse, or a parameter given twice or missing.
    """
    if family not in FAMILIES:
        raise UnknownName(f"there is no model family {family!r}", f"known: {', '.join(FAMILIES)}")
    signature = _signature(family)
    known = [next((short for short, key in KEYS.items() if key == long), long) for long in signature]
    parameters: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        spelled, _, value = (part.strip() for part in item.partition("="))
        key = KEYS.get(spelled, spelled)
        if key not in signature:
            raise UnknownName(f"{family} has no parameter {spelled!r}", f"known: {', '.join(known)}")
        if key in parameters:
            raise BadValue(f"{family}: {spelled} is given twice", "give it once")
        parameters[key] = _value(family, spelled, value, signature[key])
    lacking = [k for k, p in signature.items() if p.default is inspect.Parameter.empty and k not in parameters]
    if lacking:
        raise BadValue(f"{family}: {', '.join(lacking)} not given", f"write {family}:{lacking[0]}=...,...")
    return parameters


def _bounded(family: str, key: str, value: int) -> int:
    most = MOST_LAYERS if "layers" in key or key == "depths" else MOST
    if value > most:
        raise BadValue(f"{family}: {key} is {value:.6g}", f"give at most {most}")
    return value


def _value(family: str, key: str, text: str, parameter: inspect.Parameter) -> Any:
    kind = str(parameter.annotation)
    if "Kernels" in kind and text not in KERNELS:
        raise BadValue(f"{family}: there are no {key} {text!r}", f"choose one of {', '.join(KERNELS)}")
    try:
        if kind == "int":
            return _bounded(family, key, int(text))
        if kind == "float":
            return float(text)
        if kind == "bool":
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if kind.startswith("tuple"):
            return tuple(_bounded(family, key, int(part)) for part in text.split("/"))
    except (ValueError, KeyError):
        shape = {"int": "a whole number", "float": "a number", "bool": "true or false"}.get(
            kind, "whole numbers like 2/2/6/2"
        )
        raise BadValue(f"{family}: {key}={text} is not {shape}", f"write {key} as {shape}") from None
    return text


def _signature(family: str) -> dict[str, inspect.Parameter]:
    return {key: p for key, p in inspect.signature(_builder(family)).parameters.items() if key != "name"}


def _builder(family: str) -> Any:
    return getattr(importlib.import_module(f"uniap_zoo.{family}"), family)
