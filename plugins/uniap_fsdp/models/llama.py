"""Llama (Touvron et al. 2023): pre-norm decoder with rotary positions, RMS norms and a gated MLP.

Its settings make other models of it: Mistral (Jiang et al. 2023), Qwen2 with biases of queries, keys and values, Qwen3
with norms of query and key heads.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from uniap_core.api import Inexpressible, ModelGraph

from .blocks import MLP, Attention, Model, RMSNorm, Styles, norm, vocab_columns, vocab_rows
from .rotary import KINDS, angles, frequencies


class Embedding(nn.Module):
    """The token table."""

    def __init__(self, vocab: int, hidden: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, hidden)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.tokens(tokens)

    def styles(self, sequence_parallel: bool) -> Styles:
        """Split by vocabulary."""
        return {"tokens": vocab_rows(sequence_parallel)}


class Block(nn.Module):
    """Attention and MLP, each behind a norm and beside a residual."""

    def __init__(self, attention: Attention, mlp: MLP, norms: tuple[nn.Module, nn.Module]) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = norms
        self.attention, self.mlp = attention, mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))

    def styles(self, sequence_parallel: bool) -> Styles:
        """Megatron's split (Shoeybi et al. 2019; Korthikanti et al. 2022)."""
        return {
            **self.attention.styles("attention", sequence_parallel),
            **self.mlp.styles("mlp", sequence_parallel),
            **norm(sequence_parallel, "norm_attention", "norm_mlp"),
        }


class Head(nn.Module):
    """Final norm and output projection."""

    splits_output = False

    def __init__(self, vocab: int, hidden: int, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.lm_head = nn.Linear(hidden, vocab, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.lm_head(self.norm(x))

    def styles(self, sequence_parallel: bool) -> Styles:
        """Logits stay split by vocabulary."""
        return {"lm_head": vocab_columns(sequence_parallel), **norm(sequence_parallel, "norm")}


class Decoder(Model):
    """Embedding, blocks, head."""

    def __init__(self, embedding: nn.Module, layers: list[Block], head: Head, tied: bool) -> None:
        super().__init__()
        self.embedding = embedding
        self.layers = nn.ModuleList(layers)
        self.head = head
        if tied:
            self.head.lm_head.weight = embedding.get_parameter("tokens.weight")

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Llama(Decoder):
    """The model of a graph of family ``llama``, or of one that differs from it in the settings read here.

    Raises
    ------
    Inexpressible
        If the graph's architecture names a setting that there is no option for.
    """

    def __init__(self, graph: ModelGraph) -> None:
        a = graph.architecture
        if unknown := list(unknown_settings(graph)):
            raise Inexpressible(f"the Llama here has no {', no '.join(unknown)}", "run the model's own code: uniap run")
        hidden, vocab, size = int(a["hidden"]), int(a["vocab"]), int(a["head_size"])
        turns = angles(graph.sequence, frequencies(size, a))

        def rms(width: int = hidden) -> RMSNorm:
            return RMSNorm(width, float(a.get("norm_eps", 1e-6)))

        def block() -> Block:
            attention = Attention(
                hidden,
                int(a["heads"]),
                kv_heads=int(a["kv_heads"]),
                size=size,
                causal=True,
                bias=bool(a.get("qkv_bias", False)),
                out_bias=bool(a.get("out_bias", False)),
                norms=(rms(size), rms(size)) if a.get("qk_norm") else None,
                rotary=turns,
            )
            mlp = MLP(hidden, int(a["ffn"]), nn.SiLU(), gated=True, bias=bool(a.get("mlp_bias", False)))
            return Block(attention, mlp, (rms(), rms()))

        head = Head(vocab, hidden, rms())
        super().__init__(Embedding(vocab, hidden), [block() for _ in range(int(a["layers"]))], head, bool(a["tied"]))


def unknown_settings(graph: ModelGraph) -> Iterator[str]:
    """What a graph's architecture asks for that :class:`Llama` has no option for."""
    a = graph.architecture
    if (activation := a.get("activation", "swiglu")) != "swiglu":
        yield f"activation {activation}"
    if (rotary := a.get("rotary", "default")) not in KINDS:
        yield f"rotary positions of the kind {rotary}"
    if (share := a.get("rotary_share", 1)) != 1:
        yield f"rotary positions of a share of {share} of each head"
    if (norms := a.get("qk_norm", "")) not in ("", "head"):
        yield f"norm of queries and keys over the whole {norms}"
    if 0 < (window := int(a.get("sliding_window", 0))) < graph.sequence:
        yield f"sliding window of {window} (the plan's sequence is {graph.sequence})"
