"""T5 (Raffel et al. 2020): encoder and decoder with relative position biases and one embedding for all."""

from __future__ import annotations

import torch
from torch import nn

from uniap_core.api import ModelGraph

from .blocks import MLP, Attention, Model, RelativeBias, RMSNorm, Styles, norm, vocab_columns
from .llama import Block, Embedding


class DecoderBlock(nn.Module):
    """Causal self-attention, attention to the encoder's output, MLP."""

    splits_input = (True, False)
    """The encoder's output is read whole: keys and values of all its positions are needed."""

    def __init__(self, hidden: int, attention: Attention, cross: Attention, mlp: MLP) -> None:
        super().__init__()
        self.norm_attention, self.norm_cross, self.norm_mlp = (RMSNorm(hidden) for _ in range(3))
        self.attention, self.cross, self.mlp = attention, cross, mlp

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = x + self.attention(self.norm_attention(x))
        x = x + self.cross(self.norm_cross(x), memory=memory)
        return x + self.mlp(self.norm_mlp(x))

    def styles(self, sequence_parallel: bool) -> Styles:
        """Megatron's split."""
        return {
            **self.attention.styles("attention", sequence_parallel),
            **self.cross.styles("cross", sequence_parallel),
            **self.mlp.styles("mlp", sequence_parallel),
            **norm(sequence_parallel, "norm_attention", "norm_cross", "norm_mlp"),
        }


class Norm(nn.Module):
    """The encoder's last norm."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.norm(x)

    def styles(self, sequence_parallel: bool) -> Styles:
        """Works on sequence shards."""
        return norm(sequence_parallel, "norm")


class Head(nn.Module):
    """Final norm and output projection, scaled because it is tied to the embedding."""

    splits_output = False

    def __init__(self, vocab: int, hidden: int) -> None:
        super().__init__()
        self.scale = hidden**-0.5
        self.norm = RMSNorm(hidden)
        self.lm_head = nn.Linear(hidden, vocab, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.lm_head(self.norm(x) * self.scale)

    def styles(self, sequence_parallel: bool) -> Styles:
        """Logits stay split by vocabulary."""
        return {"lm_head": vocab_columns(sequence_parallel), **norm(sequence_parallel, "norm")}


class Stack(nn.Module):
    """The modules of one side, under the names of the graph."""

    def __init__(self, embedding: Embedding, layers: list[nn.Module], norm: Norm | None = None) -> None:
        super().__init__()
        self.embedding = embedding
        self.layers = nn.ModuleList(layers)
        self.norm = norm


class T5(Model):
    """The model of a graph of family ``t5``."""

    def __init__(self, graph: ModelGraph) -> None:
        super().__init__()
        a = graph.architecture
        hidden, heads, size, ffn, vocab = (int(a[k]) for k in ("hidden", "heads", "head_size", "ffn", "vocab"))
        buckets = int(a.get("buckets", 32))

        def attention(table: RelativeBias | None, causal: bool) -> Attention:
            return Attention(hidden, heads, size=size, causal=causal, bias=False, table=table, scale=1.0)

        def tables(count: int, bidirectional: bool) -> list[RelativeBias]:
            made = [RelativeBias(heads, buckets=buckets, bidirectional=bidirectional) for _ in range(count)]
            for copy in made[1:]:
                copy.table.weight = made[0].table.weight
            return made

        def mlp() -> MLP:
            return MLP(hidden, ffn, nn.ReLU(), bias=False)

        encoder: list[nn.Module] = [
            Block(attention(table, False), mlp(), (RMSNorm(hidden), RMSNorm(hidden)))
            for table in tables(int(a["layers"]), True)
        ]
        decoder: list[nn.Module] = [
            DecoderBlock(hidden, attention(table, True), attention(None, False), mlp())
            for table in tables(int(a["decoder_layers"]), False)
        ]
        self.encoder = Stack(Embedding(vocab, hidden), encoder, Norm(hidden))
        self.decoder = Stack(Embedding(vocab, hidden), decoder)
        self.head = Head(vocab, hidden)
        shared = self.encoder.embedding.tokens.weight
        self.decoder.embedding.tokens.weight = self.head.lm_head.weight = shared

    def forward(self, tokens: torch.Tensor, decoder_tokens: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = self.encoder.embedding(tokens)
        for layer in self.encoder.layers:
            x = layer(x)
        assert self.encoder.norm is not None
        memory = self.encoder.norm(x)
        y = self.decoder.embedding(decoder_tokens)
        for layer in self.decoder.layers:
            y = layer(y, memory)
        return self.head(y)
