"""Runs of layers that share a strategy, in words: ``layers.0-15`` under ``tp2 x dp2 zero3, recompute full``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from ..proposal import LayerPlan, Proposal
from ..strategy import Strategy


@dataclass(frozen=True)
class Run:
    """Consecutive layers of one stage with one strategy."""

    stage: int
    layers: tuple[str, ...]
    strategy: Strategy

    @property
    def title(self) -> str:
        """The layers in short: ``embed``, ``layers.0-15``."""
        return ", ".join(ranges(self.layers))


def runs(proposal: Proposal) -> tuple[Run, ...]:
    """The runs of a proposal, stage by stage in the order of its layers."""
    by_stage = sorted(proposal.layers, key=lambda layer: layer.stage)
    return tuple(
        Run(stage, tuple(layer.name for layer in group), strategy)
        for (stage, strategy), group in groupby(by_stage, key=_key)
    )


def gathered(found: tuple[Run, ...], most: int) -> tuple[Run, ...]:
    """The runs of each stage, or where a stage has more than ``most``, one entry per strategy of that stage."""
    rows: list[Run] = []
    for stage, group in groupby(found, key=lambda run: run.stage):
        mine = list(group)
        if len(mine) > most:
            layers: dict[Strategy, list[str]] = {}
            for run in mine:
                layers.setdefault(run.strategy, []).extend(run.layers)
            mine = [Run(stage, tuple(names), strategy) for strategy, names in layers.items()]
        rows += mine
    return tuple(rows)


def _key(layer: LayerPlan) -> tuple[int, Strategy]:
    return layer.stage, layer.strategy


def ranges(names: Iterable[str]) -> list[str]:
    """Names with a common stem and consecutive numbers as one range."""
    found: list[tuple[str, int | None, int | None]] = []
    for name in names:
        match = re.fullmatch(r"(.*?)(\d+)", name)
        if match is None:
            found.append((name, None, None))
            continue
        stem, number = match[1], int(match[2])
        if found and found[-1][0] == stem and found[-1][2] == number - 1:
            found[-1] = (stem, found[-1][1], number)
        else:
            found.append((stem, number, number))
    return [
        stem if first is None else f"{stem}{first}" if first == last else f"{stem}{first}-{last}"
        for stem, first, last in found
    ]
