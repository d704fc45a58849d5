"""GPT (Radford et al. 2019): pre-norm decoder with learned positions and biases."""

from __future__ import annotations

import torch
from torch import nn

from uniap_core.api import ModelGraph

from .blocks import MLP, Attention, Styles, vocab_rows
from .llama import Block, Decoder, Head


class Embedding(nn.Module):
    """Token and position tables; their sum is whole on every device of a tensor-parallel group."""

    def __init__(self, vocab: int, positions: int, hidden: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, hidden)
        self.positions = nn.Embedding(positions, hidden)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))

    def styles(self, sequence_parallel: bool) -> Styles:
        """Tokens split by vocabulary; the sum is scattered after it is made."""
        return {"tokens": vocab_rows(False)}

    splits_output = False


class GPT(Decoder):
    """The model of a graph of family ``gpt``."""

    def __init__(self, graph: ModelGraph) -> None:
        a = graph.architecture
        hidden, vocab = int(a["hidden"]), int(a["vocab"])

        def block() -> Block:
            attention = Attention(hidden, int(a["heads"]), causal=True)
            mlp = MLP(hidden, int(a["ffn"]), nn.GELU("tanh"))
            return Block(attention, mlp, (nn.LayerNorm(hidden), nn.LayerNorm(hidden)))

        embedding = Embedding(vocab, int(a["positions"]), hidden)
        head = Head(vocab, hidden, nn.LayerNorm(hidden))
        super().__init__(embedding, [block() for _ in range(int(a["layers"]))], head, bool(a["tied"]))
