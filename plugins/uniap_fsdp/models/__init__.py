"""Small clean torch models of the zoo's families, one module per layer of the graph and under its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .names import FAMILIES, family_of

if TYPE_CHECKING:
    from torch import nn

    from uniap_core.api import ModelGraph

__all__ = ["FAMILIES", "build", "family_of"]


def build(graph: ModelGraph) -> nn.Module:
    """The torch model that a graph describes; its layers lie at the names of the graph's layers."""
    from . import bert, gpt, llama, t5

    builders: dict[str, Callable[[ModelGraph], nn.Module]] = {
        "llama": llama.Llama,
        "gpt": gpt.GPT,
        "bert": bert.Bert,
        "t5": t5.T5,
    }
    return builders[family_of(graph)](graph)
