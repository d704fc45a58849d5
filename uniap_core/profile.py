"""Measurements of a model's layers and of a machine's links, as one file that cost models read."""

from __future__ import annotations

from typing import Literal

import msgspec

from .limits import Amount, Degree, Positions, Positive, Samples, Seconds


class LayerTiming(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Measured time and memory of one kind of layer on one device of a tensor-parallel group.

    Attributes
    ----------
    layer
        Name of a layer of the graph; layers with the same operators share its measurement.
    tp, samples
        Tensor parallel width and samples per device.
    forward_s, backward_s
        Median seconds without communication and without recomputation.
    saved_bytes, peak_bytes
        Bytes kept for backward (by recompute mode ``none``) and the peak while running, or ``None``.
    """

    layer: str
    tp: Degree
    samples: Samples
    sequence: Positions
    forward_s: Seconds
    backward_s: Seconds
    optimizer_s: Seconds | None = None
    saved_bytes: Amount | None = None
    peak_bytes: Amount | None = None


Collective = Literal[
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "p2p",
    "unshard",
    "reduce_gradients",
    "tensor_forward",
    "tensor_backward",
    "sequence_forward",
    "sequence_backward",
]


class CollectiveTiming(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Alpha-beta fit of one collective on one group shape: ``time = alpha_s + bytes * beta_s_per_byte``.

    ``bytes`` is the size of the full (unsharded) tensor. ``stride`` is the distance of neighbouring ranks of the
    group; ``nodes`` how many nodes the group spans.

    Bare collectives, and what a runtime makes of them: ``unshard`` and ``reduce_gradients`` of a sharded layer
    (bytes of its parameters), and all that one tensor-parallel region adds to its products, forward and backward,
    its border replicated (``tensor``) or split over the ``sequence`` (bytes of the activation at the border).
    """

    operation: Collective
    ranks: Degree
    stride: Degree = 1
    nodes: Degree = 1
    alpha_s: Seconds
    beta_s_per_byte: Seconds


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document ``uniap.profile/1``.

    Attributes
    ----------
    device, software
        What was measured with what.
    graph
        Hash of the graph whose layers were measured, or empty.
    overlap
        Slow-down of compute while a collective runs beside it (1 = free overlap).
    matmul_flops
        FLOP/s of large matrix products by precision.
    notes
        What could not be measured, and which measurements were taken over from elsewhere.
    """

    schema: Literal["uniap.profile/1"] = "uniap.profile/1"
    device: str
    software: str = ""
    precision: str = "bf16"
    graph: str = ""
    layers: list[LayerTiming] = []
    collectives: list[CollectiveTiming] = []
    overlap: Positive | None = None
    matmul_flops: dict[str, Positive] = {}
    launch_s: Seconds | None = None
    notes: list[str] = []
