"""Models that tests trace as ``traced_models:NAME``."""

import torch
import torch.nn.functional as F
from torch import nn

from uniap_core.api import ModelGraph


def encoder(batch=1, sequence=128):
    layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
    stack = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    return nn.Sequential(nn.Embedding(100, 64), stack, nn.Linear(64, 100)), torch.zeros(
        batch, sequence, dtype=torch.long
    )


def mlp():
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)), torch.zeros(
        4, 32
    )


class Block(nn.Module):
    """A block with its attention written out."""

    def __init__(self, width=64, heads=4):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        batch, rows, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, rows, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5).softmax(-1) @ v
        x = x + self.drop(self.out(mixed.transpose(1, 2).reshape(batch, rows, width)))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(100, 64)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 100, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x):
        x = self.words(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def gpt(batch=1, sequence=64):
    return Gpt(), {"x": torch.zeros(batch, sequence, dtype=torch.long)}


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.router = nn.Linear(64, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)) for _ in range(4))

    def forward(self, x):
        weights = self.router(x).softmax(-1)
        return x + sum(expert(x) * weights[..., i : i + 1] for i, expert in enumerate(self.experts))


def mixture(batch=1, sequence=16):
    return nn.Sequential(*[Mixture() for _ in range(3)]), torch.zeros(batch, sequence, 64)


def convolutions():
    def block(inner, outer):
        return nn.Sequential(nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU())

    body = [block(3, 16), block(16, 16), block(16, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    return nn.Sequential(*body), torch.zeros(2, 3, 32, 32)


class Skips(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
        self.up = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))

    def forward(self, x):
        held = []
        for layer in self.down:
            x = layer(x).relu()
            held.append(x)
        for layer in self.up:
            x = layer(x).relu() + held.pop()
        return x


def skips():
    return Skips(), torch.zeros(2, 32)


class Idle(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.used, self.unused = nn.Linear(width, width), nn.Linear(8, 3)

    def forward(self, x):
        return self.used(x)


def idle():
    return Idle(64), torch.zeros(2, 64)


def mostly_idle():
    return Idle(8), torch.zeros(2, 8)


class Window(nn.Module):
    """Attends to at most 32 positions before its own: what it keeps is not linear from there on."""

    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(50, 16), nn.Linear(16, 50)

    def forward(self, x):
        h = self.words(x)
        last = h[:, -32:]
        return self.out(torch.nn.functional.softmax(h @ last.transpose(1, 2), dim=-1) @ last)


class Loop(nn.Module):
    """Goes through its positions one by one."""

    def __init__(self):
        super().__init__()
        self.words, self.step, self.out = nn.Embedding(50, 16), nn.Linear(16, 16), nn.Linear(16, 50)

    def forward(self, x):
        h, state = self.words(x), 0.0
        for t in range(h.shape[1]):
            state = torch.tanh(self.step(h[:, t] + state))
        return self.out(state)


class Scan(nn.Module):
    """A state that every position updates, read out by a product each."""

    def __init__(self):
        super().__init__()
        self.decay, self.read, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, h):
        decay, read = self.decay(h).sigmoid(), self.read(h)
        state, outs = torch.zeros_like(h[:, 0]), []
        for t in range(h.shape[1]):
            state = decay[:, t] * state + h[:, t]
            outs.append(torch.matmul(state.unsqueeze(1), read[:, t].unsqueeze(-1))[..., 0])
        return h + self.out(h * torch.stack(outs, 1))


def scan(batch=2, sequence=64):
    return Stack(nn.Sequential(*[Scan() for _ in range(3)])), torch.zeros(batch, sequence, dtype=torch.long)


class Scores(nn.Module):
    """Attention written out: keeps its scores."""

    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(50, 16), nn.Linear(16, 50)

    def forward(self, x):
        h = self.words(x)
        return self.out(torch.softmax(h @ h.transpose(1, 2), dim=-1) @ h)


class Fickle(nn.Module):
    """Takes another way from 50 positions on."""

    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(50, 16), nn.Linear(16, 50)

    def forward(self, x):
        h = self.words(x)
        return self.out(h.sin() if x.shape[1] < 50 else h.cos().sin())


def fickle(batch=2, sequence=128):
    return Fickle(), torch.zeros(batch, sequence, dtype=torch.long)


class Cubes(nn.Module):
    """Multiplies pairs of positions by positions."""

    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(50, 16), nn.Linear(16, 50)

    def forward(self, x):
        h = self.words(x)
        pairs = h @ h.transpose(1, 2)
        return self.out(pairs @ pairs @ h)


def cubes(batch=2, sequence=128):
    return Cubes(), torch.zeros(batch, sequence, dtype=torch.long)


def window(batch=2, sequence=128):
    return Window(), torch.zeros(batch, sequence, dtype=torch.long)


def loop(batch=2, sequence=16):
    return Loop(), torch.zeros(batch, sequence, dtype=torch.long)


def scores(batch=2, sequence=128):
    return Scores(), torch.zeros(batch, sequence, dtype=torch.long)


class Offset(nn.Module):
    """A root-mean-square norm that multiplies by one plus its weight, as Gemma's does."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1.0 + self.weight)


class HeadNorms(nn.Module):
    """An attention whose queries and keys pass such norms, each head alone."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(64, 64, bias=False) for _ in range(4))
        self.norms = nn.ModuleList([Offset(16), Offset(16)])

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (4, 16)).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = self.norms[0](q), self.norms[1](k)
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.o(out.transpose(1, 2).flatten(2))


def offset_norms(batch=2, sequence=64):
    blocks = nn.Sequential(*[HeadNorms() for _ in range(2)])
    return Stack(blocks), torch.zeros(batch, sequence, dtype=torch.long)


class Stack(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.words, self.layers = nn.Embedding(50, 64), layers

    def forward(self, x):
        return self.layers(self.words(x))


class Choosy(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return x if self.inner(x).sum() > 0 else -x


def choosy():
    return Choosy(), torch.zeros(2, 4)


def nothing():
    return 3


def kept_bytes(graph: ModelGraph, batch: int, element_bytes: int, *, selective: bool = False) -> float:
    """Bytes kept without dropout; under selective recomputation if asked."""
    return sum(layer_bytes(layer, graph.sequence, batch, element_bytes, selective) for layer in graph.layers)


def layer_bytes(layer, sequence, batch, element_bytes, selective=False):
    return sum(
        batch * op.rows.at(sequence) * op.count * s.width * (s.bytes or element_bytes)
        for op in layer.operators
        if not op.name.startswith("dropout")
        for s in op.saved
        if not (selective and s.selective)
    )


class Adapted(nn.Module):
    """A product with a low-rank adapter beside it (LoRA, Hu et al. 2021)."""

    def __init__(self, base, rank=4):
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def lora(batch=1, sequence=64):
    """``gpt`` with adapters on its fused projections; all else frozen."""
    model, inputs = gpt(batch, sequence)
    model.requires_grad_(False)
    for block in model.blocks:
        block.qkv = Adapted(block.qkv)
    return model, inputs


def tuned(batch=1, sequence=64):
    """``gpt`` of which only the last block and the norm are trained."""
    model, inputs = gpt(batch, sequence)
    model.requires_grad_(False)
    model.blocks[-1].requires_grad_(True)
    model.norm.requires_grad_(True)
    return model, inputs
