"""The rival planners. Each looks where its original looks; what it finds is priced by the problem itself."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np

from uniap_core.api import Emit, Problem, RawResult, SolveRequest

from . import cuts
from .clock import Ledger
from .fastest import Fastest
from .line import Array, Choice, Line
from .memory import cheapest
from .version import VERSION

_DEGREES = re.compile(r"tp\d+-dp\d+(-cp\d+)?(-ep\d+)?(-etp\d+)?")

_EXPERTS = re.compile(r"-ep\d+|-etp\d+")
"""What a name says that means nothing to layers without experts."""

_PLAIN = re.compile(r"tp1-dp\d+")


def uniform(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    """Grid search as in hand-tuned Megatron-LM: one strategy for all layers, stages of equally many blocks."""
    line, ledger = Line(problem), Ledger(problem, request, emit)
    ends = cuts.even(line)
    for choice in _common(line) if ends else ():
        if ends is None or ledger.clock.over():
            break
        ledger.offer(line.assignment(ends, choice))
    return ledger.answer()


def galvatron(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    """Galvatron: stages fixed first (even, or balanced by parameters), then a dynamic program in each.

    Source: Miao et al. 2022, arXiv 2211.13878; Hetu-Galvatron, galvatron/core/dynamic_programming.py. A stage's
    program minimizes its own time, so neither transfers between stages nor the largest stage are traded. A stage of
    several chunks is one program over all of them.
    """
    line, ledger = Line(problem), Ledger(problem, request, emit)
    for ends in dict.fromkeys((cuts.even(line), cuts.balanced(line))):
        if ends is None:
            continue
        starts = (0, *ends[:-1])
        choice = [0] * len(line)
        fits = True
        for rank, held in enumerate(problem.held):
            found = cheapest(line, [range(starts[j], ends[j]) for j in held], rank, ledger.clock)
            fits = fits and found is not None
            for at, k in (found or {}).items():
                choice[at] = k
        if fits:
            ledger.offer(line.assignment(ends, choice))
    return ledger.answer()


def alpa(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    """Alpa: the fastest strategies of every possible stage, memory checked afterwards, then the best cuts.

    Source: Zheng et al. 2022, arXiv 2201.12023, sections 4 and 5. Sharding and recomputation are switches of the whole
    job there, so every combination of them is tried, as a user would; transfers between stages are not priced.
    """
    line, ledger = Line(problem), Ledger(problem, request, emit)
    for allowed in _switches(line):
        if ledger.clock.over():
            break
        found: dict[bytes, Fastest] = {}
        stages = []
        for stage in range(problem.depth):
            key = b"".join(layer.time_s[stage].tobytes() for layer in line.layers)
            if key not in found:
                found[key] = Fastest(line, stage, allowed, ledger.clock)
            stages.append(found[key])
        if ledger.clock.over():
            break
        runs = [fastest.fitting(stage) for fastest, stage in zip(stages, problem.ranks, strict=True)]
        best = cuts.best(runs, np.zeros(len(line) + 1), problem.objective, ledger.clock)
        if best is not None:
            starts = (0, *best[1][:-1])
            parts = [fastest.choice(a, b) for fastest, a, b in zip(stages, starts, best[1], strict=True)]
            ledger.offer(line.assignment(best[1], [k for part in parts for k in part]))
    return ledger.answer()


def inter_only(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    """Inter-layer only: plain data parallelism everywhere, the best cuts for it (UniAP's ablation)."""
    line, ledger = Line(problem), Ledger(problem, request, emit)
    plain = [[k for k, name in enumerate(layer.strategies) if _PLAIN.fullmatch(name)] for layer in line.layers]
    if all(plain) or not any(_DEGREES.match(name) for name in line.layers[0].strategies):
        choice = [ks[0] if ks else 0 for ks in plain]
        runs = [
            np.where(line.fits(choice, stage), line.segments_s(choice, stage), math.inf)
            for stage in range(problem.depth)
        ]
        best = cuts.best(runs, line.crossing_s(choice), problem.objective, ledger.clock)
        if best is not None:
            ledger.offer(line.assignment(best[1], choice))
    return ledger.answer()


def intra_only(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    """Intra-layer only: one stage (UniAP's ablation). Problems of several stages get no answer."""
    line, ledger = Line(problem), Ledger(problem, request, emit)
    if problem.depth > 1:
        return ledger.answer("plans of one stage only are looked at")
    choice = cheapest(line, [range(len(line))], 0, ledger.clock)
    if choice is not None:
        ledger.offer(line.assignment((len(line),), list(choice.values())))
    return ledger.answer()


def probe() -> str:
    """Version; there is nothing to license."""
    return f"uniap baselines {VERSION}"


def _common(line: Line) -> Iterator[Choice]:
    """Every strategy that all layers have, by name; of layers without experts it is the one that says none."""
    for name in dict.fromkeys(name for layer in line.layers for name in layer.strategies):
        alike = name, _EXPERTS.sub("", name)
        found = [next((n for n in alike if n in layer.strategies), "") for layer in line.layers]
        if all(found) and name in found:
            yield [layer.strategies.index(n) for layer, n in zip(line.layers, found, strict=True)]


def _switches(line: Line) -> Iterator[list[Array]]:
    """Allowed strategies of each position, for each setting of sharding and recomputation that all layers have."""
    by_layer: list[dict[str, list[int]]] = []
    for layer in line.layers:
        found: dict[str, list[int]] = {}
        for k, name in enumerate(layer.strategies):
            setting = _DEGREES.sub("", name, count=1) if _DEGREES.match(name) else ""
            found.setdefault(setting.removesuffix("-sp"), []).append(k)
        by_layer.append(found)
    for setting in by_layer[0]:
        # Without data parallelism nothing is sharded, so such strategies bear no sharding in their names.
        if all(setting in found for found in by_layer):
            yield [np.array(found[setting]) for found in by_layer]
