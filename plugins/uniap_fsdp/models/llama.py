"""Llama (Touvron et al. 2023): pre-norm decoder with rotary positions, RMS norms and a gated MLP."""

from __future__ import annotations

import torch
from torch import nn

from uniap_core.api import ModelGraph

from .blocks import MLP, Attention, Model, RMSNorm, Styles, angles, norm, vocab_columns, vocab_rows


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
            self.head.lm_head.weight = self.embedding.tokens.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Llama(Decoder):
    """The model of a graph of family ``llama``."""

    def __init__(self, graph: ModelGraph) -> None:
        a = graph.architecture
        hidden, vocab = int(a["hidden"]), int(a["vocab"])
        turns = angles(graph.sequence, int(a["head_size"]))

        def block() -> Block:
            attention = Attention(
                hidden,
                int(a["heads"]),
                kv_heads=int(a["kv_heads"]),
                size=int(a["head_size"]),
                causal=True,
                bias=False,
                rotary=turns,
            )
            mlp = MLP(hidden, int(a["ffn"]), nn.SiLU(), gated=True, bias=False)
            return Block(attention, mlp, (RMSNorm(hidden), RMSNorm(hidden)))

        head = Head(vocab, hidden, RMSNorm(hidden))
        super().__init__(Embedding(vocab, hidden), [block() for _ in range(int(a["layers"]))], head, bool(a["tied"]))
