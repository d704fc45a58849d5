"""Mixers that are no attention: Mamba-2, the gated delta net, lightning attention.

Each is run in chunks: products within a chunk and products with the state that is handed on. They are counted as
products without weights (``scan_chunk``, ``scan_state``), kept tensors as the kernels that everybody trains with
keep them (mamba-ssm, flash-linear-attention), whatever the kernels of the rest: PyTorch's own code for them is a
reference that runs an order of magnitude slower and keeps as much more.
"""

from __future__ import annotations

from uniap_core.graph import TOKENS, Operator, Saved

from .. import operators as op
from .blocks import Style, norm, pointwise


def _scan(where: str, chunk: int, within: int, state: int, width: int, times: int) -> tuple[Operator, ...]:
    """Products of a chunked scan: ``chunk`` x ``within`` per row, and ``times`` products of ``state`` x ``width``."""
    return (
        Operator(name=f"{where}.scan_chunk", kind="gemm", rows=TOKENS, inner=chunk, outer=within, split="column"),
        Operator(
            name=f"{where}.scan_state", kind="gemm", rows=TOKENS, inner=state, outer=width, count=times, split="column"
        ),
    )


def mamba2(
    style: Style,
    heads: int,
    size: int,
    state: int,
    groups: int,
    *,
    conv: int = 4,
    chunk: int = 256,
    conv_bias: bool = True,
    bias: bool = False,
    where: str = "mixer",
) -> tuple[Operator, ...]:
    """Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): projection, convolution, scan, gated norm, output projection.

    Within a chunk C B^T is shared by the heads of a group; the kernel for the whole
    (``mamba_split_conv1d_scan_combined``) keeps the projection and the scan's output.
    """
    width, mixed = heads * size, heads * size + 2 * groups * state
    into = width + mixed + heads
    return (
        op.linear(f"{where}.in_proj", style.hidden, into, split="column", entry=True, bias=bias),
        pointwise(
            f"{where}.conv1d",
            mixed,
            2.0,
            split="column",
            parameters=mixed * conv + conv_bias * mixed,
            saved=(Saved(into, split=True),),
        ),
        *_scan(where, chunk, groups * state + width, state, width, 2),
        pointwise(f"{where}.scan", heads, 4.0, split="heads", parameters=3 * heads),
        pointwise(
            f"{where}.norm",
            width,
            4.0,
            split="column",
            parameters=width,
            saved=(Saved(width, split=True), Saved(groups, bytes=4, selective=True)),
        ),
        # The kernel makes its input again from what the norm kept.
        op.linear(f"{where}.out_proj", width, style.hidden, split="row", bias=bias, keep=style.kernels == "eager"),
    )


def gated_delta_net(
    style: Style,
    key_heads: int,
    value_heads: int,
    key_size: int,
    value_size: int,
    *,
    conv: int = 4,
    chunk: int = 64,
    split_projections: bool = False,
    where: str = "linear_attn",
) -> tuple[Operator, ...]:
    """The gated delta net (Yang et al. 2025, arXiv 2412.06464) as Qwen3-Next has it.

    Per position and head of values a chunk costs three products of the key's width and two of the value's, the state
    three of both; kept are the convolution's input, queries, keys and values, gates, the inverse of a chunk's triangle,
    the output before its norm, and the gate of that.
    """
    keys, values = key_heads * key_size, value_heads * value_size
    mixed = 2 * keys + values
    outers: tuple[tuple[str, int], ...]
    if split_projections:
        outers = (("in_proj_qkv", mixed), ("in_proj_z", values), ("in_proj_b", value_heads), ("in_proj_a", value_heads))
    else:
        outers = (("in_proj_qkvz", mixed + values), ("in_proj_ba", 2 * value_heads))
    into = tuple(
        op.linear(f"{where}.{name}", style.hidden, outer, split="column", entry=not i, keep=not i)
        for i, (name, outer) in enumerate(outers)
    )
    spread = value_heads * (3 * key_size + 2 * value_size)
    kept = (
        Saved(mixed, split=True),
        Saved(3 * value_heads, bytes=4, split=True),
        Saved(value_heads * chunk, split=True, selective=True),
    )
    return (
        *into,
        pointwise(
            f"{where}.conv1d", mixed, 3.0, split="column", parameters=mixed * conv, saved=(Saved(mixed, split=True),)
        ),
        *_scan(where, chunk, spread, key_size, values, 3),
        pointwise(f"{where}.scan", value_heads, 8.0, split="heads", parameters=2 * value_heads, saved=kept),
        pointwise(
            f"{where}.norm", values, 4.0, split="column", parameters=value_size, saved=(Saved(2 * values, split=True),)
        ),
        op.linear(f"{where}.out_proj", values, style.hidden, split="row"),
    )


def lightning_attention(style: Style, heads: int, size: int, *, chunk: int = 256) -> tuple[Operator, ...]:
    """Lightning attention of MiniMax-01 (arXiv 2501.08313): linear in the sequence, with a norm and a gate behind."""
    where, hidden, width = style.attention, style.hidden, heads * size
    return (
        op.linear(f"{where}.qkv_proj", hidden, 3 * width, split="column", entry=True),
        pointwise(f"{where}.act_fn", 3 * width, 2.0, split="column", saved=(Saved(3 * width, split=True),)),
        *_scan(where, chunk, 2 * width, size, width, 2),
        pointwise(f"{where}.scan", width, 2.0, split="heads", saved=(Saved(3 * width, split=True),)),
        norm(style, f"{where}.norm", width),
        op.linear(f"{where}.output_gate", hidden, width, split="column", keep=False),
        pointwise(f"{where}.gate", width, 4.0, split="column", saved=(Saved(2 * width, split=True),)),
        op.linear(f"{where}.out_proj", width, hidden, split="row"),
    )
