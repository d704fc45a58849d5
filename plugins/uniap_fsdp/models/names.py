"""Which models have code here; imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uniap_core.api import ModelGraph

FAMILIES = ("llama", "gpt", "bert", "t5")
"""Families of the zoo."""

LLAMAS = ("llama", "mistral", "ministral", "qwen2", "qwen3", "internlm3", "seed_oss")
"""Model types of Hugging Face that are Llama with other settings, which their graphs' architecture tells."""


def family_of(graph: ModelGraph) -> str:
    """The family whose code here builds a graph's model; empty if there is none."""
    if graph.family in FAMILIES:
        return graph.family
    return "llama" if graph.architecture.get("family") in LLAMAS else ""


def is_traced(graph: ModelGraph) -> bool:
    """Whether a graph was made from a torch model, not by the zoo."""
    return bool(graph.source) and not graph.source.startswith("zoo:")
