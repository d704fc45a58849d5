"""Profiles that Hetu-Galvatron measured, as a :class:`~uniap_core.profile.Profile`.

Files (PKU-DAIR/Hetu-Galvatron, galvatron/models/*/configs and profile_hardware/hardware_configs): forward milliseconds
per layer and sample (``layertype_0_bsz8_seq2048``, ``layertype_other_...`` for embedding and head together), activation
MiB by strategy (``1_tp_dp``: ``layernum[2]_bsz8_seq2048_rank0_act``), all-reduce GB/s (``allreduce_size_4_consec_1``),
all-reduce milliseconds by size (``allreduce_size_8_16MB_time``), point-to-point GB/s (``pp_size_2``), and the overlap
coefficient. Backward is taken as twice forward, as Galvatron does (``bct_fct_coe``).
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from uniap_core.api import BadFile, BadValue, CollectiveTiming, Layer, LayerTiming, ModelGraph, Profile

MIB = 2.0**20
_LAYER = re.compile(r"layertype_(?P<kind>\d+|other)(?:_bsz(?P<samples>\d+))?(?:_seq\[?(?P<sequence>\d+)[\d,]*\]?)?")
_MEMORY = re.compile(r"layernum\[(?P<layers>\d+)\]_bsz(?P<batch>\d+)(?:_seq(?P<sequence>\d+))?_rank0_act")
_BANDWIDTH = re.compile(r"allreduce_size_(\d+)_consec_([01])")
_TIME = re.compile(r"allreduce_size_(\d+)_(\d+)MB_time")
_NODES = re.compile(r"(\d+)nodes?_(\d+)gpus")


def from_galvatron(paths: Iterable[str | os.PathLike[str]], graph: ModelGraph, precision: str = "bf16") -> Profile:
    """Read Galvatron's JSON files, of any of its kinds, into one profile of a graph.

    Parameters
    ----------
    paths
        The kind of each file is told by its keys.
    graph
        Layer types are matched in order to its distinct kinds of blocks, "other" to its last layer.

    Raises
    ------
    BadFile
        If a file is missing or is not a JSON object.
    BadValue
        If nothing in the files could be used.
    """
    layers: list[LayerTiming] = []
    collectives: list[CollectiveTiming] = []
    saved: dict[int, float] = {}
    notes = ["imported from Galvatron: backward is taken as twice forward"]
    overlap = None
    for path in paths:
        table = _read(path)
        if "overlap_coe" in table:
            overlap = float(table["overlap_coe"])  # type: ignore[arg-type]
        layers += _layers(table, graph)
        collectives += _collectives(table, str(path))
        saved |= _saved(table)
    if not (layers or collectives or saved or overlap):
        raise BadValue("no measurement of Galvatron's is in these files", "name its *_profiling_* or hardware files")
    if saved and layers:
        blocks = {layer.name for layer in _blocks(graph)}
        layers = [_with_saved(t, saved[t.tp] * t.samples) if t.layer in blocks and t.tp in saved else t for t in layers]
    return Profile(
        device="unstated",
        software="Hetu-Galvatron",
        precision=precision,
        layers=layers,
        collectives=collectives,
        overlap=overlap,
        notes=notes,
    )


def _read(path: str | os.PathLike[str]) -> dict[str, object]:
    try:
        with open(path, encoding="utf-8") as file:
            table = json.load(file)
    except (OSError, ValueError) as error:
        raise BadFile(f"{path} is not a JSON file of Galvatron's: {error}", "name one of its profiles") from None
    if not isinstance(table, dict):
        raise BadFile(f"{path} is not a JSON object", "name one of Galvatron's profiles")
    return table


def _blocks(graph: ModelGraph) -> list[Layer]:
    """The first layer of each distinct kind between the first and the last layer, in order."""
    kinds: dict[object, Layer] = {}
    for layer in graph.layers[1:-1]:
        kinds.setdefault(layer.operators, layer)
    return list(kinds.values())


def _layers(table: dict[str, object], graph: ModelGraph) -> list[LayerTiming]:
    blocks = _blocks(graph)
    found = []
    for key, value in table.items():
        match = _LAYER.fullmatch(key)
        if match is None or not isinstance(value, int | float) or value <= 0:
            continue
        kind = match["kind"]
        if kind != "other" and int(kind) >= len(blocks):
            continue
        name = graph.layers[-1].name if kind == "other" else blocks[int(kind)].name
        samples = int(match["samples"] or 1)
        forward = float(value) * 1e-3 * samples
        found.append(
            LayerTiming(
                layer=name,
                tp=1,
                samples=samples,
                sequence=int(match["sequence"] or graph.sequence),
                forward_s=forward,
                backward_s=2 * forward,
            )
        )
    return found


def _saved(table: dict[str, object]) -> dict[int, float]:
    """Activation bytes per layer and sample by tensor parallel width, from the difference of two depths."""
    found = {}
    for strategy, points in table.items():
        degrees = re.fullmatch(r"1_(\d+)_(\d+)(_sp)?", strategy)
        if degrees is None or not isinstance(points, dict):
            continue
        tp, dp = int(degrees[1]), int(degrees[2])
        by_batch: dict[int, dict[int, float]] = defaultdict(dict)
        for key, value in points.items():
            match = _MEMORY.fullmatch(key)
            if match:
                by_batch[int(match["batch"])][int(match["layers"])] = float(value)
        for batch, act in by_batch.items():
            if len(act) > 1:
                few, many = min(act), max(act)
                found[tp] = (act[many] - act[few]) / (many - few) * MIB / (batch / dp)
    return found


def _with_saved(timing: LayerTiming, saved: float) -> LayerTiming:
    import msgspec

    return msgspec.structs.replace(timing, saved_bytes=saved)


def _collectives(table: dict[str, object], path: str) -> list[CollectiveTiming]:
    shape = _NODES.search(path)
    nodes, width = (int(shape[1]), int(shape[2])) if shape else (1, 8)
    found = []
    times: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for key, value in table.items():
        if not isinstance(value, int | float) or value <= 0:
            continue
        if match := _BANDWIDTH.fullmatch(key):
            ranks, stride = int(match[1]), 1 if match[2] == "1" else nodes * width // int(match[1])
            spans = max(1, -(-ranks * stride // width)) if stride < width else ranks
            beta = 2 * (ranks - 1) / ranks / (value * 1e9)
            found.append(_timing("all_reduce", ranks, stride, min(nodes, spans), 10e-6, beta))
        elif match := _TIME.fullmatch(key):
            times[int(match[1])].append((int(match[2]) * MIB, value * 1e-3))
        elif key == "pp_size_2":
            found.append(_timing("p2p", 2, 1, nodes, 10e-6, 1 / (value * 1e9)))
    for ranks, points in times.items():
        if len(points) > 1:
            alpha, beta = alpha_beta(points)
            found.append(_timing("all_reduce", ranks, 1, max(1, -(-ranks // width)), alpha, beta))
    return found


def _timing(operation: str, ranks: int, stride: int, nodes: int, alpha: float, beta: float) -> CollectiveTiming:
    return CollectiveTiming(
        operation=operation,  # type: ignore[arg-type]
        ranks=ranks,
        stride=stride,
        nodes=nodes,
        alpha_s=alpha,
        beta_s_per_byte=beta,
    )


def alpha_beta(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Least squares of relative errors of ``alpha + bytes * beta`` over (bytes, seconds), neither negative."""
    size, seconds = np.array(points).T
    design = np.stack([np.ones_like(size), size], axis=1) / seconds[:, None]
    alpha, beta = np.linalg.lstsq(design, np.ones_like(seconds), rcond=None)[0]
    if alpha < 0 or beta <= 0:
        return 0.0, float(np.median(seconds / size))
    return float(alpha), float(beta)
