"""BERT (Devlin et al. 2019): post-norm encoder with the two heads of its pre-training."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.tensor.parallel import ColwiseParallel

from uniap_core.api import ModelGraph

from .blocks import MLP, Attention, Model, Styles, norm, vocab_rows


class Embedding(nn.Module):
    """Token, segment and position tables and a norm."""

    splits_output = False

    def __init__(self, vocab: int, positions: int, hidden: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, hidden)
        self.segments = nn.Embedding(2, hidden)
        self.positions = nn.Embedding(positions, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, tokens: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:  # noqa: D102
        place = self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        return self.norm(self.tokens(tokens) + self.segments(segments) + place)

    def styles(self, sequence_parallel: bool) -> Styles:
        """Tokens split by vocabulary; the sum is scattered after it is made."""
        return {"tokens": vocab_rows(False)}


class Block(nn.Module):
    """Attention and MLP, each followed by residual and norm."""

    def __init__(self, hidden: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.attention = Attention(hidden, heads)
        self.norm_attention = nn.LayerNorm(hidden, eps=1e-12)
        self.mlp = MLP(hidden, ffn, nn.GELU())
        self.norm_mlp = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = self.norm_attention(x + self.attention(x))
        return self.norm_mlp(x + self.mlp(x))

    def styles(self, sequence_parallel: bool) -> Styles:
        """Megatron's split."""
        return {
            **self.attention.styles("attention", sequence_parallel),
            **self.mlp.styles("mlp", sequence_parallel),
            **norm(sequence_parallel, "norm_attention", "norm_mlp"),
        }


class Head(nn.Module):
    """Masked-token logits of every position, and next-sentence logits of the first."""

    splits_input = splits_output = False

    def __init__(self, vocab: int, hidden: int) -> None:
        super().__init__()
        self.pooler = nn.Linear(hidden, hidden)
        self.next_sentence = nn.Linear(hidden, 2)
        self.transform = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        self.lm_head = nn.Linear(hidden, vocab)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: D102
        logits = self.lm_head(self.norm(nn.functional.gelu(self.transform(x))))
        return logits, self.next_sentence(torch.tanh(self.pooler(x[:, 0])))

    def styles(self, sequence_parallel: bool) -> Styles:
        """Logits stay split by vocabulary; the small rest is whole, so the input is gathered first."""
        return {"lm_head": ColwiseParallel()}


class Bert(Model):
    """The model of a graph of family ``bert``."""

    def __init__(self, graph: ModelGraph) -> None:
        super().__init__()
        a = graph.architecture
        hidden, vocab = int(a["hidden"]), int(a["vocab"])
        self.embedding = Embedding(vocab, int(a["positions"]), hidden)
        self.layers = nn.ModuleList(Block(hidden, int(a["heads"]), int(a["ffn"])) for _ in range(int(a["layers"])))
        self.head = Head(vocab, hidden)
        self.head.lm_head.weight = self.embedding.tokens.weight

    def forward(self, tokens: torch.Tensor, segments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: D102
        x = self.embedding(tokens, segments)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)
